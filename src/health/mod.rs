//! Active health checks: asking the backends how they are.
//!
//! Traffic finds out that a server is dead by losing a request to it, and never finds out that it is back. A
//! [`HealthChecker`] asks on its own account: a failed [`Probe`] takes the backend out, a passing one puts it in. It is
//! a plain future that the host application spawns, next to the server and on the runtime of its choice.
//!
//! | probe | a backend is healthy if it |
//! |---|---|
//! | [`HttpProbe`](crate::http::HttpProbe) | answers a GET with 2xx |
//! | [`TcpProbe`] | accepts a connection |
//! | a closure | does what the closure checks |
//!
//! ```
//! use tower_balancer::{BackendPool, BoxError, backend::Origin, health::HealthChecker};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let checker = HealthChecker::new(&pool, |origin: Origin| async move {
//!     if origin.host() == "10.0.0.1" { Ok("well".to_owned()) } else { Err(BoxError::from("on fire")) }
//! });
//! checker.check_all().await; // or, to go on for ever: tokio::spawn(checker.run())
//! assert_eq!(pool.healthy().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! One failed probe takes a backend out, one passing probe puts it in. All backends of a round are asked at the same
//! time.

mod check;
mod checker;
mod findings;
mod mark;
mod pace;
mod probe;
mod roster;
mod rounds;
mod running;
mod schedule;
mod settings;
mod streak;
mod tcp;

pub use self::{
    checker::HealthChecker,
    probe::Probe,
    settings::{DEFAULT_CONCURRENCY, DEFAULT_FAST_INTERVAL, DEFAULT_INTERVAL, DEFAULT_JITTER, DEFAULT_TIMEOUT},
    tcp::TcpProbe,
};
