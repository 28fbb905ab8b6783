//! One server behind the balancer: who it is, what it is doing, how it is.
//!
//! A [`Backend`] is identity, [`Weight`], [`Load`] and [`Health`]. It knows nothing about how it is reached: the
//! *target* (an [`Origin`] for HTTP, a `Channel` for tonic, any service) stands beside it in
//! the pool. Strategies see backends only, so the same strategy balances anything.
//!
//! A request in flight is a [`Lease`]; how it ended is an [`Outcome`].
//!
//! ```
//! use std::time::Instant;
//! use tower_balancer::backend::{Backend, HealthState};
//!
//! let backend = Backend::new("http://10.0.0.1:8080");
//! assert!(backend.is_eligible());
//!
//! backend.mark_unhealthy("Connection refused", Instant::now());
//! assert!(!backend.is_eligible());
//! assert_eq!(backend.health().state(), HealthState::Unhealthy);
//! assert_eq!(backend.health().cause(), Some("Connection refused"));
//! ```

mod health;
mod id;
mod latency;
mod lease;
mod load;
mod load_estimate;
mod locality;
mod moment;
#[cfg(feature = "http")]
mod origin;
mod outcome;
mod report;
mod weight;

#[cfg(feature = "http")]
pub use self::origin::{InvalidOrigin, Origin};
pub use self::{
    health::{Health, HealthState},
    id::BackendId,
    latency::{Latency, Sampled},
    lease::Lease,
    load::Load,
    load_estimate::LoadEstimate,
    locality::Locality,
    moment::Moment,
    outcome::Outcome,
    report::{Report, Reported},
    weight::{InvalidWeight, Weight},
};

use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use arc_swap::ArcSwap;
use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, Weak},
    time::Instant,
};
use tracing::{info, warn};

/// The `tracing` target of the events that tell of each first observation and each change of a backend's health, with
/// the fields `backend`, `state` and `cause`.
pub const HEALTH_TARGET: &str = "tower_balancer::health";

/// Where a backend reports that its health changed: its pool, which then publishes a new eligible list.
///
/// The only arrow that points up, and it is a trait so that this floor need not know what a pool is.
pub(crate) trait Home: Send + Sync {
    /// Called for each change, in order for each backend. Returns whether the backend still belongs here.
    fn health_changed(&self, backend: &Backend, health: &Health) -> bool;
}

/// One server behind the balancer. See the [module](self).
pub struct Backend {
    id: BackendId,
    weight: AtomicU64,
    // Follows `health`, and is readable without its lock.
    eligible: AtomicBool,
    health: ArcSwap<Health>,
    /// Held while health changes, and while the home hears of it. Reading needs no lock: whoever the home asks, a
    /// strategy that builds its tables, say, may look at any backend's health.
    observing: Mutex<()>,
    home: Option<Weak<dyn Home>>,
    locality: ArcSwap<Locality>,
    /// Most servers report nothing, and cost a pointer.
    report: OnceLock<Box<report::LastReport>>,
    load: Load,
}

impl Backend {
    /// A backend of weight 1, healthy by assumption, that belongs to no pool: for tests, benches and simulations. A
    /// pool makes its own from a [`Member`](crate::pool::Member).
    pub fn new(id: impl Into<BackendId>) -> Self {
        Self::build(id.into(), Weight::ONE, None)
    }

    /// A backend that reports to its pool.
    pub(crate) fn at_home(id: BackendId, weight: Weight, home: Weak<dyn Home>) -> Self {
        Self::build(id, weight, Some(home))
    }

    fn build(id: BackendId, weight: Weight, home: Option<Weak<dyn Home>>) -> Self {
        Self {
            id,
            weight: AtomicU64::new(weight.get().to_bits()),
            eligible: AtomicBool::new(true),
            health: ArcSwap::from_pointee(Health::assumed()),
            observing: Mutex::new(()),
            home,
            locality: ArcSwap::default(),
            report: OnceLock::new(),
            load: Load::default(),
        }
    }

    /// The name by which it is known.
    pub fn id(&self) -> &BackendId {
        &self.id
    }

    /// Its share of the traffic.
    pub fn weight(&self) -> f64 {
        f64::from_bits(self.weight.load(Ordering::Relaxed))
    }

    /// Changes its share of the traffic.
    ///
    /// Strategies that build tables from weights see it at their next build: change the weight of a pool's member with
    /// [`BackendPool::set_weight`](crate::pool::BackendPool::set_weight), which sees to that.
    pub fn set_weight(&self, weight: Weight) {
        self.weight.store(weight.get().to_bits(), Ordering::Relaxed);
    }

    /// Its tier and its zone.
    pub fn locality(&self) -> Arc<Locality> {
        self.locality.load_full()
    }

    /// Changes its tier and its zone; strategies see it at their next build, as with [`set_weight`](Self::set_weight).
    pub fn set_locality(&self, locality: Locality) {
        self.locality.store(Arc::new(locality));
    }

    /// Requests in flight and how past ones ended.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Takes in what the server said about itself at `now`, in place of what it said before.
    ///
    /// A value that is no finite number from zero up counts as not told, and a report without a value as none.
    pub fn reported(&self, report: &Report, now: Instant) {
        report::LastReport::keep(&self.report, report, self.load.in_flight(), Moment::of(now));
    }

    /// What the server said last about itself, if it ever did. Lock-free.
    pub fn report(&self, now: Moment) -> Option<Reported> {
        self.report.get().map(|last| last.load(now))
    }

    /// Its state, why, and since when. Lock-free.
    pub fn health(&self) -> Arc<Health> {
        self.health.load_full()
    }

    /// Whether it may be picked now.
    pub fn is_eligible(&self) -> bool {
        self.eligible.load(Ordering::Acquire)
    }

    /// Puts it into rotation, because of `cause`, as of `when`: the moment it was asked, where asking took time. Returns
    /// whether that is news; what is older than the state it would change is not.
    pub fn mark_healthy(&self, cause: &str, when: Instant) -> bool {
        self.observe(HealthState::Healthy, cause, when)
    }

    /// Takes it out of rotation, because of `cause`, as of `when`. Returns whether that is news, as
    /// [`mark_healthy`](Self::mark_healthy) does.
    pub fn mark_unhealthy(&self, cause: &str, when: Instant) -> bool {
        self.observe(HealthState::Unhealthy, cause, when)
    }

    fn observe(&self, state: HealthState, cause: &str, when: Instant) -> bool {
        if !self.take_in(state, cause, when) {
            return false;
        }
        match state {
            HealthState::Healthy => info!(target: HEALTH_TARGET, backend = %self.id, %state, cause, "in rotation"),
            HealthState::Unhealthy => {
                warn!(target: HEALTH_TARGET, backend = %self.id, %state, cause, "out of rotation")
            }
        }
        true
    }

    /// Whether it is news to whoever this backend belongs to.
    fn take_in(&self, state: HealthState, cause: &str, when: Instant) -> bool {
        // A panic elsewhere cannot leave the health half-changed, so a poisoned lock is as good as any.
        let _observing = self.observing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((health, news)) = self.health.load().after(state, cause, when) else { return false };
        let health = Arc::new(health);
        self.health.store(Arc::clone(&health));
        if !news {
            return false;
        }
        if state == HealthState::Healthy && !self.is_eligible() {
            self.load.restart();
        }
        self.eligible.store(state == HealthState::Healthy, Ordering::Release);
        match &self.home {
            Some(home) => home.upgrade().is_some_and(|home| home.health_changed(self, &health)),
            None => true,
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("id", &self.id)
            .field("weight", &self.weight())
            .field("eligible", &self.is_eligible())
            .field("load", &self.load)
            .finish_non_exhaustive()
    }
}
