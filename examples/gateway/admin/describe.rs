//! `GET /pools`: what is, in every field that helps who is woken at night.

use super::{
    Admin,
    clock::{Clock, now, seconds},
    drains::{Drain, Drains},
};
use crate::serving::Pool;
use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, time::Instant};
use tower_balancer::{
    backend::{self, HealthState, Moment, Outcome},
    pool,
};

#[derive(Serialize)]
pub struct Pools {
    version: &'static str,
    now: String,
    started: String,
    /// Whether it is given requests: see `/readyz`.
    ready: bool,
    pools: Vec<OnePool>,
}

#[derive(Serialize)]
struct OnePool {
    name: String,
    strategy: String,
    available: usize,
    fail_open: FailOpen,
    ejection: Vec<Ejection>,
    /// How the source of the backends does.
    discover: Option<Value>,
    /// How the checks are shared.
    fleet: Option<Value>,
    backends: Vec<Backend>,
}

#[derive(Serialize)]
struct FailOpen {
    policy: &'static str,
    /// Too few are well, and others are picked as well.
    active: bool,
}

/// Of one tier and zone.
#[derive(Serialize)]
struct Ejection {
    priority: u32,
    zone: Option<String>,
    backends: usize,
    ejected: usize,
    /// As many as may be.
    at_most: usize,
}

#[derive(Serialize)]
pub struct Backend {
    id: String,
    url: String,
    state: &'static str,
    reason: Option<String>,
    since: Option<String>,
    since_seconds: Option<f64>,
    /// When an ejection ends.
    tried_again_in_seconds: Option<f64>,
    in_flight: u32,
    max_in_flight: Option<u32>,
    latency_ms: Option<f64>,
    weight: f64,
    zone: Option<String>,
    priority: u32,
    completed: u64,
    failed: u64,
    /// How the requests of the last ten seconds went.
    recent: Recent,
    last_error: Option<String>,
    last_error_at: Option<String>,
    drain: Option<Drain>,
}

#[derive(Serialize)]
struct Recent {
    requests: u32,
    failed: u32,
}

pub async fn pools(State(admin): State<Admin>) -> Json<Pools> {
    let plan = admin.plan();
    let pools = plan.pools.iter().map(|pool| OnePool::of(pool, &admin)).collect();
    let (now, started) = (admin.clock.name(now()), admin.clock.began());
    Json(Pools { version: env!("CARGO_PKG_VERSION"), now, started, ready: admin.is_ready(), pools })
}

impl OnePool {
    fn of(pool: &Pool, admin: &Admin) -> Self {
        let (now, backends) = (now(), pool.backends.backends());
        let policy = match pool.backends.fail_open() {
            pool::FailOpen::AllBackends => "all_backends",
            pool::FailOpen::LeastBad => "least_bad",
            _ => "reject",
        };
        Self {
            name: pool.name.to_string(),
            strategy: pool.strategy.to_string(),
            available: pool.backends.healthy().len(),
            fail_open: FailOpen { policy, active: pool.backends.is_open() },
            ejection: ejection(pool),
            discover: pool.discovery.as_ref().map(|discovery| discovery.describe()),
            fleet: pool.describe_fleet(),
            backends: backends
                .iter()
                .map(|backend| Backend::of(&pool.name, backend, &admin.drains, &admin.clock, now))
                .collect(),
        }
    }
}

/// How many are ejected of each tier and zone, and how many may be.
fn ejection(pool: &Pool) -> Vec<Ejection> {
    let mut groups = BTreeMap::<_, (usize, usize)>::new();
    for backend in pool.backends.backends() {
        let locality = backend.locality();
        let (backends, ejected) =
            groups.entry((locality.priority, locality.zone.as_deref().map(str::to_owned))).or_default();
        *backends += 1;
        *ejected += usize::from(backend.health().state() == HealthState::Ejected);
    }
    let rules = pool.backends.ejection();
    let ejection = |((priority, zone), (backends, ejected))| Ejection {
        priority,
        zone,
        backends,
        ejected,
        at_most: rules.most_of(backends),
    };
    groups.into_iter().map(ejection).collect()
}

impl Backend {
    pub fn of(pool: &str, backend: &backend::Backend, drains: &Drains, clock: &Clock, now: Instant) -> Self {
        let (health, load, moment) = (backend.health(), backend.load(), Moment::of(now));
        let (locality, window, last) = (backend.locality(), backend.record().window(moment), backend.last_error());
        let faults = Outcome::ALL.into_iter().filter(|outcome| outcome.is_fault());
        Self {
            id: backend.id().to_string(),
            url: backend.id().to_string(),
            state: health.state().as_str(),
            reason: health.cause().map(str::to_owned),
            since: health.since().map(|since| clock.name(since)),
            since_seconds: health.since().map(|since| seconds(now.saturating_duration_since(since))),
            tried_again_in_seconds: health.until().map(|until| seconds(until.saturating_duration_since(now))),
            in_flight: load.in_flight(),
            max_in_flight: backend.limit(),
            latency_ms: load.latency().mean(moment).map(|mean| (mean.value * 1e6).round() / 1e3),
            weight: backend.weight(),
            zone: locality.zone.as_deref().map(str::to_owned),
            priority: locality.priority,
            completed: load.completed(),
            failed: faults.map(|outcome| load.count(outcome)).sum(),
            recent: Recent { requests: window.requests, failed: window.faults },
            last_error: last.as_ref().map(|last| last.words().to_owned()),
            last_error_at: last.as_ref().map(|last| clock.name(last.when())),
            drain: drains.of(pool, backend, now),
        }
    }
}
