//! What runs beside a pool: the health checks, the limits that are found out, and who tells of its changes.

use crate::{
    config::{fleet::Fleet, health::Kind, limits::Adaptive, pool::Pool},
    events::{Journal, tell_changes},
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

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The health checks of a pool, which end when this is dropped.
#[derive(Debug)]
pub enum Checks {
    Alone {
        _task: Task,
    },
    /// With other gateways.
    #[cfg(feature = "etcd")]
    Shared(Box<super::fleet::Share>),
}

/// Whose checks they are.
pub struct Checked<'a> {
    pub name: &'a str,
    pub pool: &'a BackendPool<Origin>,
    pub config: &'a Pool,
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "a configuration with one is refused"))]
    pub fleet: Option<&'a Fleet>,
}

impl Checks {
    /// Asks the backends how they are; `None` where nobody does.
    pub fn begin(checked: &Checked<'_>) -> Option<Self> {
        let Pool { health, upstream, .. } = checked.config;
        match *health.kind {
            Kind::Off => None,
            Kind::Http => Some(Self::by(checked, upstream.probe(health.http_probe(), health.port.is_some()))),
            Kind::Grpc => Some(Self::by(checked, health.grpc_probe().tls(upstream.tls()))),
            Kind::Tcp => Some(Self::by(checked, TcpProbe)),
        }
    }

    fn by(checked: &Checked<'_>, probe: impl Probe<Origin>) -> Self {
        let health = &checked.config.health;
        #[cfg(feature = "etcd")]
        if let Some(fleet) = checked.fleet {
            let share = super::fleet::Share::of(fleet, checked.name, checked.pool);
            return Self::Shared(Box::new(share.checked_by(probe, health)));
        }
        Self::Alone { _task: Task::spawn(health.set_up(HealthChecker::new(checked.pool, probe)).run()) }
    }
}
