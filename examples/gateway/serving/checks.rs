//! What runs beside a pool: the health checks, the limits that are found out, and who tells of its changes.

use crate::{
    config::{
        health::{Health, Kind},
        limits::Adaptive,
        upstream::Upstream,
    },
    events::{Journal, tell_changes},
};
use tokio::task::AbortHandle;
use tower_balancer::{
    BackendPool, HealthChecker,
    backend::Origin,
    health::{Probe, TcpProbe},
    limit::AdaptiveLimits,
};

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Task(AbortHandle);

impl Task {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }

    /// Asks the backends of `pool` how they are; `None` where nobody does.
    pub fn checks(health: &Health, upstream: &Upstream, pool: &BackendPool<Origin>) -> Option<Self> {
        match *health.kind {
            Kind::Off => None,
            Kind::Http => Some(checked_by(health.http_probe().tls(upstream.tls()), health, pool)),
            Kind::Grpc => Some(checked_by(health.grpc_probe().tls(upstream.tls()), health, pool)),
            Kind::Tcp => Some(checked_by(TcpProbe, health, pool)),
        }
    }

    /// Tells `journal` what becomes of the backends of `pool`.
    pub fn tell(name: &str, pool: &BackendPool<Origin>, journal: &Journal) -> Self {
        Self::spawn(tell_changes(name.to_owned(), pool.watch(), journal.clone()))
    }

    /// Finds out what the backends of `pool` can bear.
    pub fn limits(adaptive: &Adaptive, pool: &BackendPool<Origin>) -> Self {
        let limits = AdaptiveLimits::new(pool)
            .between(adaptive.least.get(), adaptive.most.get())
            .initial(adaptive.initial.get());
        Self::spawn(if *adaptive.weigh { limits.weigh() } else { limits }.run())
    }
}

fn checked_by(probe: impl Probe<Origin>, health: &Health, pool: &BackendPool<Origin>) -> Task {
    Task::spawn(health.set_up(HealthChecker::new(pool, probe)).run())
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
