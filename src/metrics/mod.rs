//! What pools tell of themselves, in numbers.
//!
//! What happens is counted where it happens, in plain atomics: of a request these are a handful of additions, and no name is
//! looked up. This module reads them when somebody asks. An [`Observed`] pool tells a [`Sink`] every number that there is,
//! each with its [`Family`]; the gateway's sink writes them as text for Prometheus, and the `Exporter`, of the feature
//! `metrics`, brings them to whatever recorder is behind the facade of that name.
//!
//! | name | type | unit | labels | meaning |
//! |---|---|---|---|---|
//! | `balancer_backend_outcomes_total` | counter | | `pool`, `backend`, `outcome` | Attempts that ended, by what became of them |
//! | `balancer_backend_response_seconds` | histogram | seconds | `pool`, `backend` | Time from an attempt to the head of its answer, or until it was waited for no longer |
//! | `balancer_backend_in_flight` | gauge | | `pool`, `backend` | Attempts that have not ended, to the ends of their answers |
//! | `balancer_backend_state` | gauge | | `pool`, `backend`, `state` | 1 for the state that the backend is in, 0 for the others |
//! | `balancer_backend_silent` | gauge | | `pool`, `backend` | 1 where requests wait for the backend and it has stopped answering, else 0 |
//! | `balancer_backend_weight` | gauge | | `pool`, `backend` | Share of the traffic, beside the weights of the others |
//! | `balancer_backend_limit` | gauge | | `pool`, `backend` | Attempts that may be in flight at once, where that is limited |
//! | `balancer_backend_ejections_total` | counter | | `pool`, `backend`, `cause` | Times that traffic or the host put the backend out for a while, by the cause |
//! | `balancer_backend_checks_total` | counter | | `pool`, `backend`, `result` | Health checks, by whether they were passed or failed |
//! | `balancer_pool_backends` | gauge | | `pool` | Backends that the pool has |
//! | `balancer_pool_available` | gauge | | `pool` | Backends that are in rotation, on trial among them |
//! | `balancer_pool_picks_total` | counter | | `pool` | Attempts for which a backend was picked |
//! | `balancer_pool_unavailable_total` | counter | | `pool`, `reason` | Attempts for which none could be picked, by the reason |
//! | `balancer_pool_waiting` | gauge | | `pool` | Callers that wait for a backend to become available |
//! | `balancer_pool_fail_open` | gauge | | `pool` | 1 while too few backends are well and others are picked, else 0 |
//! | `balancer_pool_fail_opens_total` | counter | | `pool` | Times that too few backends were well and others were picked from then on |
//! | `balancer_pool_freezes_total` | counter | | `pool` | Times that ejections were frozen because most of the pool went at once, up to one in ten seconds |
//! | `balancer_pool_retries_total` | counter | | `pool` | Further attempts after a failure |
//! | `balancer_pool_hedges_total` | counter | | `pool` | Further attempts while the first one was waited for |
//! | `balancer_pool_retry_budget_left` | gauge | | `pool` | Further attempts that the budget has now |
//! | `balancer_pool_retry_budget_refusals_total` | counter | | `pool` | Times that a further attempt was wanted and the budget had none |
//!
//! The values of `outcome`, `state`, `cause` and `reason` are the words of [`Outcome`](crate::backend::Outcome),
//! [`HealthState`](crate::backend::HealthState), [`EjectionCause`](crate::backend::EjectionCause) and
//! [`Reason`](crate::Reason); those of `result` are `passed` and `failed`. `backend` is the backend's id. So a pool of n backends
//! has some 45 n series: see to it that the reader can bear your largest pool.
//!
//! ```
//! use std::time::Instant;
//! use tower_balancer::{BackendPool, backend::ResponseTimes, metrics::{Family, Observed, Sink}};
//!
//! #[derive(Default)]
//! struct Lines(Vec<String>);
//!
//! impl Sink for Lines {
//!     fn counter(&mut self, family: Family, labels: &[&str], value: u64) {
//!         self.0.push(format!("{} {labels:?} {value}", family.name()));
//!     }
//!     fn gauge(&mut self, family: Family, labels: &[&str], value: f64) {
//!         self.0.push(format!("{} {labels:?} {value}", family.name()));
//!     }
//!     fn histogram(&mut self, family: Family, labels: &[&str], times: &ResponseTimes) {
//!         self.0.push(format!("{} {labels:?} {}", family.name(), times.count()));
//!     }
//! }
//!
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! pool.mark_unhealthy("http://10.0.0.2:8080");
//! let mut lines = Lines::default();
//! Observed::new("web", &pool).tell(Instant::now(), &mut lines);
//! assert!(lines.0.contains(&r#"balancer_pool_available ["web"] 1"#.to_owned()));
//! # Ok::<_, tower_balancer::pool::InvalidMember>(())
//! ```
//!
//! # Limits
//!
//! Numbers that belong together are read one after the other, while requests go on: a sum may be ahead of its parts by what
//! happened in between. A backend that leaves takes its numbers along, and one that comes back begins anew. Those of a retry
//! budget begin anew with each budget.

#[cfg(feature = "metrics")]
mod exporter;
mod families;
mod family;
mod observed;

#[cfg(feature = "metrics")]
pub use self::exporter::Exporter;
pub use self::{
    families::FAMILIES,
    family::{Family, Kind},
    observed::{Observed, Sink},
};
