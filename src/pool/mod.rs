//! The set of backends: one source of truth for the balancer, the health checker, the feedback and the host.
//!
//! In production a list of servers is read a hundred thousand times a second and changes once a minute. So reading is
//! one lock-free pointer load of a [`Snapshot`], and changing makes a new snapshot off the hot path and publishes it with
//! one pointer store. A request sees the version from before a change or the one from after, never half of each.
//!
//! State follows identity: [`BackendPool::replace`] compares the new list with the old by id, and a backend that stays
//! keeps its counters and its health. One that leaves gets no new requests; those in flight run to their end.
//!
//! ```
//! use tower_balancer::{BackendPool, pool::Member};
//!
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! pool.mark_unhealthy("http://10.0.0.1:8080");
//! assert_eq!(pool.healthy().len(), 1);
//!
//! // A new list, as discovery would bring it: the first backend stays unhealthy, the second leaves, a third joins.
//! pool.replace([Member::url("http://10.0.0.1:8080")?, Member::url("http://10.0.0.3:8080")?])?;
//! let healthy: Vec<_> = pool.healthy().iter().map(|backend| backend.id().to_string()).collect();
//! assert_eq!(healthy, ["http://10.0.0.3:8080"]);
//! # Ok::<_, tower_balancer::pool::InvalidMember>(())
//! ```
//!
//! What leaves a pool is a [`Dispatch`]: a request, the backend that was picked for it, and the lease.
//!
//! # Limits
//!
//! Each change of the membership copies the list: O(n). Bring a long list with one `replace`, not with many `insert`s.

mod backend_pool;
mod detector;
mod dispatch;
mod due;
mod ejection;
mod explain;
mod fail_open;
mod member;
mod members;
mod queue;
mod shared;
mod slowness;
mod snapshot;
mod stats;
mod view;
mod watch;

pub(crate) use self::queue::{Promise, Queue};
pub use self::{
    backend_pool::BackendPool,
    detector::Detector,
    dispatch::{Dispatch, Routed},
    ejection::Ejection,
    explain::{Explanation, WhyOut},
    fail_open::FailOpen,
    member::{InvalidMember, Member},
    members::Members,
    shared::POOL_TARGET,
    snapshot::Snapshot,
    stats::Stats,
    view::View,
    watch::{Change, Watch},
};
