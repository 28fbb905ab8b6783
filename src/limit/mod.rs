//! How many requests a backend can bear, found out while it bears them.
//!
//! A backend with more requests than it can work on answers none of them sooner; they only wait, and the ones that time out
//! were worked on in vain. A fixed [limit](crate::BackendPool::set_limit) has to be known, and is wrong when the next version
//! is slower. [`AdaptiveLimits`] watches how long answers take as the number in flight changes, and moves each backend's
//! limit to where they begin to wait, as Netflix's *concurrency-limits* does by its `Gradient2`. A full backend is passed
//! over; where all are full, requests [wait](crate::BalancerLayer::wait) or are refused, which is what keeps an overload
//! from becoming an outage.
//!
//! A limit for a pool as a whole is tower's: where requests are to be refused beyond it, and not to wait without end, shed
//! them. [`Respond`](crate::http::Respond) answers 503 for those.
//!
//! ```
//! use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer};
//! use tower_balancer::{BackendPool, balance::BalancerLayer, http::RespondLayer, strategy::RoundRobin};
//!
//! let pool = BackendPool::new(["http://10.0.0.1:8080"])?;
//! let stack = ServiceBuilder::new()
//!     .layer(RespondLayer::new())
//!     .layer(LoadShedLayer::new())
//!     .layer(GlobalConcurrencyLimitLayer::new(1_000))
//!     .layer(BalancerLayer::new(&pool, RoundRobin::new()));
//! # let _ = stack;
//! # Ok::<_, tower_balancer::pool::InvalidMember>(())
//! ```
//!
//! Like the checker it is a plain future that the host spawns, and ends with being dropped. What it reads is counted anyway.
//!
//! ```
//! use tower_balancer::{BackendPool, limit::AdaptiveLimits};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let task = tokio::spawn(AdaptiveLimits::new(&pool).between(5, 500).run());
//! # task.abort();
//! # Ok(())
//! # }
//! ```

mod adaptive;
mod gradient;

pub use self::adaptive::AdaptiveLimits;
