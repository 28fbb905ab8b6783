//! A pool's health checks where several gateways share them.

use super::checks::Task;
use crate::config::{fleet::Fleet, health::Health};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{task::AbortHandle, time::sleep};
use tower_balancer::{
    BackendPool, HealthChecker,
    backend::{Origin, Weight},
    fleet,
    health::Probe,
};

/// This gateway's part in the checks of a pool, until it is dropped.
#[derive(Debug)]
pub struct Share {
    fleet: fleet::Fleet<Origin>,
    /// Not cut off: it takes its word back when it is stopped.
    taking_part: AbortHandle,
    checks: Option<Task>,
}

impl Share {
    pub fn of(settings: &Fleet, name: &str, pool: &BackendPool<Origin>) -> Self {
        let fleet = fleet::Fleet::new(pool, settings.etcd.config(), format!("{}{name}/", settings.prefix.0))
            .probers(settings.probers() as usize)
            .ttl(settings.ttl());
        let fleet = match settings.name.as_deref() {
            Some(name) => fleet.name(name.as_str()),
            None => fleet,
        };
        let taking_part = tokio::spawn(fleet.run()).abort_handle();
        Self { fleet, taking_part, checks: None }
    }

    /// The same, where those that fall to this gateway are asked by `probe`.
    pub fn checked_by(mut self, probe: impl Probe<Origin>, health: &Health) -> Self {
        let checker = health.set_up(HealthChecker::new(self.fleet.share(), probe));
        self.checks = Some(Task::spawn(checker.run()));
        self
    }

    /// Changes the share of a backend in the traffic of all gateways.
    pub fn set_weight(&self, id: &str, weight: Weight) {
        self.fleet.set_weight(id, weight);
    }

    /// Takes this gateway's word back, so that others take its place at once.
    pub async fn leave(&self) {
        self.fleet.stop();
        while !self.taking_part.is_finished() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// For the operator.
    pub fn describe(&self) -> Value {
        let status = self.fleet.status();
        let dissents: Vec<_> = status.dissents.iter().map(|backend| backend.as_str()).collect();
        json!({
            "name": &*status.name,
            "shared": status.is_shared,
            "gateways": status.gateways,
            "asked": status.asked,
            "dissents": dissents,
            "last_error": status.last_failure.as_ref().map(|failure| &*failure.cause),
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.fleet.stop();
    }
}
