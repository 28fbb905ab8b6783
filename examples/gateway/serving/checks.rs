//! What runs beside a pool: the health checks, and the limits that are found out.

use crate::config::{
    health::{Health, Kind},
    limits::Adaptive,
    upstream::Upstream,
};
use tokio::task::AbortHandle;
use tower_balancer::{
    BackendPool, HealthChecker,
    backend::Origin,
    health::{Probe, TcpProbe},
    limit::AdaptiveLimits,
    pool::Change,
};

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Task(AbortHandle);

impl Task {
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }

    /// Ends it now.
    pub(super) fn stop(&self) {
        self.0.abort();
    }

    /// Gives `limit` to each backend that joins `pool`.
    pub fn limit_each(limit: u32, pool: &BackendPool<Origin>) -> Self {
        let (mut watch, pool) = (pool.watch(), pool.clone());
        Self::spawn(async move {
            while let Some(change) = watch.next().await {
                match change {
                    Change::Added(id) => _ = pool.set_limit(id.as_str(), Some(limit)),
                    Change::Missed(_) => pool.backends().iter().for_each(|backend| backend.set_limit(Some(limit))),
                    _ => {}
                }
            }
        })
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
