//! Load balancing as a tower middleware, for axum, tonic and any [`tower::Service`].
//!
//! A service that calls several copies of another has to choose one for each request, notice within the request that a
//! copy is dead, and notice without a request that it is back. This crate does that inside the process: a pool of
//! backends with one health state each, fed by probes and by real traffic; a strategy that chooses; and a middleware
//! that is `Clone`, needs no buffer and no task, and stacks into [`ServiceBuilder`](tower::ServiceBuilder). What runs in
//! the background is a plain future that the host spawns, but for what a request leaves behind: the connections to backends,
//! tunnels, and the attempt that lost a hedge.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use tower_balancer::{BackendPool, HealthChecker, ReverseProxy, http::HttpProbe};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pool = BackendPool::new(["http://localhost:3001", "http://localhost:3002", "http://localhost:3003"])?;
//!
//!     // Ask every backend every five seconds, and keep the dead ones out.
//!     tokio::spawn(HealthChecker::new(&pool, HttpProbe::new()).run());
//!
//!     // Your routes stay yours; everything else goes to the pool.
//!     let app = Router::new()
//!         .route("/healthz", get(|| async { "ok" }))
//!         .fallback_service(ReverseProxy::new(&pool));
//!
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, app).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Where a request goes
//!
//! [`ReverseProxy`] is the standard stack for HTTP; its [module](proxy) draws the path of a request through the layers.
//! Each layer is public, and other protocols stack their own: [`balance`] shows one for plain services, the `tonic_client`
//! example one for gRPC channels.
//!
//! # Which strategy?
//!
//! See [`strategy`].
//!
//! # Floors
//!
//! The modules stand on floors, so as not to be confused with tower's layers. A module imports from the
//! floors below it and from its own folder, never from a neighbour:
//!
//! ```text
//!  7  metrics   proxy                               the numbers, the standard HTTP stack
//!  6  http                                          headers, statuses, attempts, connections
//!  5  fleet                                         several processes in front of the same backends
//!  4  balance   discover   feedback   health        the middleware, who there is, the error mapping,
//!     limit     probing                            what runs beside
//!  3  pool                                          who is there, and who is out: snapshots, changes, ejection
//!  2  strategy                                      who is next: pure decisions
//!  1  backend                                       identity, weight, load, health, leases
//!  0  error   ewma   hash   rng   running   sync
//! ```
//!
//! Floors 0 to 3 never spawn, never open a socket, never read a clock.
//!
//! # Features
//!
//! `http` (default): the `http` and [`proxy`] modules and what belongs to them. Without it the crate is the pool, the
//! strategies, the balancer, the feedback and the checker, and depends on no HTTP crate.
//!
//! `tls` (default): backends at `https://`, by rustls with ring; building that needs a C compiler. `http::TlsConfig` says who
//! is trusted.
//!
//! `tower-http`: `http::TowerHttpClassify`, which judges backends by the classifiers of tower-http.
//!
//! `metrics`: `metrics::Exporter`, which publishes the numbers of pools through the facade of that name.
//!
//! `dns`, `etcd`, `file`, `kubernetes`, `xds`: where backends come from, for [`discover`]. Building `etcd`, which brings `fleet`
//! as well, needs `protoc`. Beside `kubernetes` an application says for which Kubernetes, as `k8s-openapi` asks for:
//! `k8s-openapi = { version = "0.28", features = ["latest"] }`.

pub mod backend;
pub mod balance;
pub mod discover;
mod error;
mod ewma;
pub mod feedback;
#[cfg(feature = "etcd")]
pub mod fleet;
mod hash;
pub mod health;
#[cfg(feature = "http")]
pub mod http;
pub mod limit;
pub mod metrics;
pub mod pool;
pub mod probing;
#[cfg(feature = "http")]
pub mod proxy;
mod rng;
mod running;
pub mod strategy;
mod sync;

#[cfg(feature = "http")]
pub use self::proxy::ReverseProxy;
pub use self::{
    balance::BalancerLayer,
    discover::Discoverer,
    error::{BoxError, Reason, Unavailable},
    feedback::{FeedbackLayer, ProxyError},
    health::HealthChecker,
    pool::BackendPool,
    rng::Rng,
};

/// The code in the README compiles.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;
