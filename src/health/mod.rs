//! Active health checks: asking the backends how they are.
//!
//! Traffic finds out that a server is dead by losing a request to it, and never finds out that it is back. A
//! [`HealthChecker`] asks on its own account: a failed [`Probe`] takes the backend out, a passing one puts it in. It is
//! a plain future that the host application spawns, next to the server and on the runtime of its choice.
//!
//! | probe | a backend is healthy if it |
//! |---|---|
//! | [`HttpProbe`](crate::http::HttpProbe) | answers a GET with 2xx, or what else is expected of it |
//! | [`GrpcProbe`](crate::http::GrpcProbe) | says by `grpc.health.v1` that it is serving |
//! | [`TcpProbe`] | accepts a connection |
//! | a closure | does what the closure checks |
//!
//! ```
//! use std::time::Duration;
//! use tower_balancer::{BackendPool, BoxError, backend::Origin, health::HealthChecker};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let checker = HealthChecker::new(&pool, |origin: Origin| async move {
//!     if origin.host() == "10.0.0.1" { Ok("well".to_owned()) } else { Err(BoxError::from("on fire")) }
//! })
//! .interval(Duration::from_secs(10))
//! .unhealthy_threshold(3)
//! .healthy_threshold(2);
//! checker.check_all().await; // or, to go on for ever: tokio::spawn(checker.run())
//! assert_eq!(pool.healthy().len(), 1, "the first result of a backend decides at once");
//! # Ok(())
//! # }
//! ```
//!
//! # When a backend is checked
//!
//! At once, where the run begins, where it joins, and where something other than the checker takes it out: a request that
//! failed, or the host. After that at its own times, whatever the others do:
//!
//! | its state is | next check after | by default |
//! |---|---|---|
//! | settled | [`interval`](HealthChecker::interval) | 5 s |
//! | not settled: results have begun to contradict it, somebody else has changed it, or it has been out for five checks at most and may be restarting | [`fast_interval`](HealthChecker::fast_interval) | 1 s |
//! | out, by 10 failures in a row and more, while others are in | twice as long each time, up to [`down_interval`](HealthChecker::down_interval) | 10 s, 20 s, 30 s |
//!
//! Each is longer or shorter by chance ([`jitter`](HealthChecker::jitter)), and backends that were checked together when
//! they joined are spread over the first interval. No more than [`concurrency`](HealthChecker::concurrency) are asked at a
//! time.
//!
//! # Limits
//!
//! One run keeps what it needs in memory: some hundred bytes a backend. Checks are asked from one task: a probe that computes
//! instead of waiting delays the others.

mod check;
mod checker;
mod drain;
mod findings;
mod mark;
mod pace;
mod probe;
mod roster;
mod rounds;
mod schedule;
mod settings;
mod streak;
mod tcp;

pub use self::{
    checker::HealthChecker,
    drain::{CannotDrain, Draining},
    probe::Probe,
    settings::{DEFAULT_CONCURRENCY, DEFAULT_FAST_INTERVAL, DEFAULT_INTERVAL, DEFAULT_JITTER, DEFAULT_TIMEOUT},
    tcp::TcpProbe,
};
