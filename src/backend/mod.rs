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

mod backoff;
mod gate;
mod health;
mod id;
mod last_error;
mod latency;
mod lease;
mod load;
mod load_estimate;
mod locality;
mod moment;
#[cfg(feature = "http")]
mod origin;
mod outcome;
pub(crate) mod recent;
mod record;
mod report;
mod response_times;
mod silence;
mod standing;
mod stats;
mod weight;
mod words;

#[cfg(feature = "http")]
pub use self::origin::{InvalidOrigin, Origin};
pub(crate) use self::standing::Admin;
#[cfg(feature = "etcd")]
pub(crate) use self::words::beginning;
pub use self::{
    backoff::Backoff,
    health::{Health, HealthState},
    id::BackendId,
    last_error::LastError,
    latency::{Latency, Sampled},
    lease::Lease,
    load::Load,
    load_estimate::LoadEstimate,
    locality::Locality,
    moment::Moment,
    outcome::Outcome,
    record::{Record, Window},
    report::{Report, Reported},
    response_times::ResponseTimes,
    stats::{EjectionCause, Stats},
    weight::{InvalidWeight, Weight},
};

use self::{
    gate::{Gate, Pass},
    silence::Silence,
    standing::Standing,
};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, locked};
use arc_swap::ArcSwap;
use std::{
    fmt,
    sync::{Arc, LazyLock, OnceLock, Weak},
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// The `tracing` target of the events that tell of each first observation and each change of a backend's health, with
/// the fields `backend`, `state` and `cause`.
pub const HEALTH_TARGET: &str = "tower_balancer::health";

/// Where a backend reports that its health changed: its pool, which then publishes a new eligible list.
///
/// The only arrow that points up, and it is a trait so that this floor need not know what a pool is.
pub(crate) trait Owner: Send + Sync {
    /// Called for each change, in order for each backend. Returns whether the backend still belongs here.
    fn health_changed(&self, backend: &Backend, health: &Health) -> bool;
    /// Called where time alone will change a backend at `when`, so that somebody lets it pass.
    fn due(&self, when: Instant);
    /// Called for each fault of a backend's, and once a second where it has none, so that somebody judges it beside its peers.
    fn judge(&self, backend: &Backend, is_fault: bool, now: Instant);
    /// Called where `backend` broke off before it answered, so that somebody takes it out if enough others are left.
    fn broke_off(&self, backend: &Backend, cause: &str, now: Instant);
    /// Called where the request that `backend` was tried with has failed, so that somebody lets it go again.
    fn trial_failed(&self, backend: &Backend, now: Instant);
    /// Called after a change, once nothing is locked.
    fn changed(&self);
    /// Called where a backend that had no room for a request may have some.
    fn released(&self);
    /// How long a backend is out.
    fn backoff(&self) -> Backoff;
}

/// What most backends begin with is there once.
static ASSUMED: LazyLock<Arc<Health>> = LazyLock::new(|| Arc::new(Health::assumed()));
static NOWHERE: LazyLock<Arc<Locality>> = LazyLock::new(Arc::default);

/// No route that is closed for the night puts out the backend that it is on.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// One server behind the balancer. See the [module](self).
pub struct Backend {
    id: BackendId,
    weight: AtomicU64,
    // Follows `health`, and is readable without its lock.
    eligible: AtomicBool,
    health: ArcSwap<Health>,
    /// What `health` follows from. Held while it changes, and while the owner hears of it. Reading needs no lock: whoever the
    /// owner asks, a strategy that builds its tables, say, may look at any backend's health.
    standing: Mutex<Standing>,
    gate: Gate,
    limit: AtomicU32,
    record: Record,
    stats: Stats,
    last_error: last_error::Kept,
    silence: Silence,
    /// Until when it wants to be left alone, in microseconds of a [`Moment`].
    rests: AtomicU64,
    owner: Option<Weak<dyn Owner>>,
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
    pub(crate) fn owned(id: BackendId, weight: Weight, owner: Weak<dyn Owner>) -> Self {
        Self::build(id, weight, Some(owner))
    }

    fn build(id: BackendId, weight: Weight, owner: Option<Weak<dyn Owner>>) -> Self {
        Self {
            id,
            weight: AtomicU64::new(weight.get().to_bits()),
            eligible: AtomicBool::new(true),
            health: ArcSwap::new(Arc::clone(&ASSUMED)),
            standing: Mutex::new(Standing::assumed()),
            gate: Gate::default(),
            limit: AtomicU32::new(u32::MAX),
            record: Record::default(),
            stats: Stats::default(),
            last_error: last_error::Kept::default(),
            silence: Silence::default(),
            rests: AtomicU64::new(0),
            owner,
            locality: ArcSwap::new(Arc::clone(&NOWHERE)),
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
        self.locality.store(if locality == **NOWHERE { Arc::clone(&NOWHERE) } else { Arc::new(locality) });
    }

    /// Requests in flight and how past ones ended.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// How the last requests went.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// How often it was put out, and how its health checks went.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The last thing that spoke against it, also where it is well by now; `None` where nothing has. Lock-free.
    pub fn last_error(&self) -> Option<Arc<LastError>> {
        self.last_error.load()
    }

    /// How many requests it may have in flight; `None` for as many as come.
    pub fn limit(&self) -> Option<u32> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit != u32::MAX).then_some(limit)
    }

    /// Changes how many requests it may have in flight. Those that it has stay.
    pub fn set_limit(&self, limit: Option<u32>) {
        let limit = limit.unwrap_or(u32::MAX);
        if self.limit.swap(limit, Ordering::Relaxed) < limit {
            self.has_room();
        }
    }

    /// Whether it has as many requests in flight as it may: where it is on trial, one.
    pub fn is_full(&self) -> bool {
        self.gate.is_taken() || self.load.in_flight() >= self.limit.load(Ordering::Relaxed)
    }

    /// How many more requests it may have in flight; `u32::MAX` for as many as come.
    pub(crate) fn room(&self) -> u32 {
        if self.is_full() {
            return 0;
        }
        if !self.gate.is_open() {
            return 1;
        }
        match self.limit() {
            Some(limit) => limit.saturating_sub(self.load.in_flight()),
            None => u32::MAX,
        }
    }

    /// Whether requests wait for it and nothing was answered for much longer than its answers take: then the next ones had
    /// better go elsewhere.
    pub fn is_silent(&self, now: Instant) -> bool {
        let now = Moment::of(now);
        self.silence.is_silent(self.load.latency().mean_age(now), now)
    }

    /// Whether a request that was picked for it had better go elsewhere: it rests, or is silent and the request is not the one
    /// that tries whether it still is.
    pub(crate) fn keeps_off(&self, now: Instant) -> bool {
        let latency = self.load.latency();
        // One that cannot be taken tries nothing.
        let keeps_off = |now| self.is_full() || self.silence.keeps_off(latency.mean_age(now), now);
        // Mostly nobody waits, and the time need not be known.
        self.is_resting(now) || !latency.is_idle() && keeps_off(Moment::of(now))
    }

    /// Whether a request that waits for it had better be asked of another as well. It is silent, and one that came later waits
    /// in vain too; or it is out, or on trial.
    pub fn has_stopped(&self, now: Instant) -> bool {
        if !self.is_eligible() || !self.gate.is_open() {
            return self.is_silent(now);
        }
        let (latency, moment) = (self.load.latency(), Moment::of(now));
        self.silence.is_proven(latency.mean_age(moment), latency.waiting(), moment)
    }

    /// It has asked at `now` to be left alone for so long, of which 5 minutes count.
    pub(crate) fn rest(&self, length: Duration, now: Instant) {
        self.rests.store(Moment::of(now + length.min(LONGEST_REST)).micros(), Ordering::Relaxed);
    }

    /// Whether it has asked to be left alone, and has not answered well since: then others get its requests as long as there
    /// are some.
    pub fn is_resting(&self, now: Instant) -> bool {
        let until = self.rests.load(Ordering::Relaxed);
        // Mostly it has not, and the time need not be known.
        until != 0 && Moment::of(now).micros() < until
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

    /// Whether it is drained, by the host or as it leaves, began to less than `grace` before `now`, and nothing else speaks
    /// against it: then it may still be given what is bound to it.
    pub fn is_draining(&self, now: Instant, grace: Duration) -> bool {
        let health = self.health.load();
        let since = health.since().filter(|_| health.is_draining_and_well());
        since.is_some_and(|since| now.saturating_duration_since(since) < grace)
    }

    /// Puts it into rotation, because of `cause`, as of `when`: the moment it was asked, where asking took time. Returns
    /// whether that is news; what is older than the state it would change is not.
    pub fn mark_healthy(&self, cause: &str, when: Instant) -> bool {
        self.observe(true, cause, when)
    }

    /// Takes it out of rotation, because of `cause`, as of `when`. Returns whether that is news, as
    /// [`mark_healthy`](Self::mark_healthy) does.
    pub fn mark_unhealthy(&self, cause: &str, when: Instant) -> bool {
        self.observe(false, cause, when)
    }

    fn observe(&self, healthy: bool, cause: &str, when: Instant) -> bool {
        if !healthy {
            self.last_error.keep(cause, when);
        }
        self.change(|standing| standing.observe(healthy, cause, when))
    }

    /// Takes it out of rotation for a while, because of `cause`: for whoever judges backends by their traffic. It comes back
    /// by itself, first for one request at a time, and is out for longer each time in a row: see
    /// [`Backoff`]. Returns whether that is news; where it is out already, it is not.
    pub fn eject(&self, cause: &str, now: Instant) -> bool {
        self.eject_for(EjectionCause::Host, cause, now)
    }

    /// The same on the word of a judge, who knows of which kind the cause is. For one that could not be reached, or broke
    /// off, a probe that passes ends it early.
    pub(crate) fn eject_for(&self, kind: EjectionCause, cause: &str, now: Instant) -> bool {
        let unreachable = kind == EjectionCause::Transport;
        self.put_out(kind, |standing| standing.eject(cause, unreachable, now, self.backoff(), self.id.hash64()))
    }

    fn put_out(&self, kind: EjectionCause, change: impl FnOnce(&mut Standing)) -> bool {
        let is_news = self.change(change);
        if is_news {
            self.stats.ejected(kind);
        }
        is_news
    }

    /// Lets time pass: an ejection that is over ends. `probed` where a checker is asking the backends: then one that could
    /// not be reached comes back by its word. A pool does so as requests come. Returns when time alone will change something
    /// next.
    pub fn advance(&self, now: Instant, probed: bool) -> Option<Instant> {
        let mut due = None;
        self.change(|standing| {
            standing.advance(now, probed, self.backoff());
            due = standing.due();
        });
        due
    }

    /// What the host wants of it, and since when, where it has said something.
    #[cfg(feature = "etcd")]
    pub(crate) fn admin(&self) -> (Admin, Option<Instant>) {
        locked(&self.standing).admin()
    }

    /// Takes in that others find it well, because of `cause`: out is then only whom this process cannot reach.
    #[cfg(feature = "etcd")]
    pub(crate) fn acquit(&self, cause: &str, now: Instant) -> bool {
        self.change(|standing| standing.acquit(cause, now))
    }

    /// Takes in what the host wants of it.
    pub(crate) fn administer(&self, admin: Admin, now: Instant) -> bool {
        self.change(|standing| standing.administer(admin, now))
    }

    /// What the one who brought it says: it leaves, because of `cause`, or with `None` stays.
    pub(crate) fn leave(&self, cause: Option<&str>, now: Instant) -> bool {
        self.change(|standing| standing.leave(cause, now))
    }

    fn broke_off(&self, cause: &str, now: Instant) {
        match self.owner() {
            Some(owner) => owner.broke_off(self, cause, now),
            None => _ = self.eject_for(EjectionCause::Transport, cause, now),
        }
    }

    /// A request that it was tried with has failed: it is out again.
    pub(crate) fn trial_failed(&self, now: Instant) {
        self.put_out(EjectionCause::Trial, |standing| standing.trial_failed(now, self.backoff(), self.id.hash64()));
    }

    /// An answer has begun, or there was none: so much it says about the backend's pace.
    fn heard(&self, outcome: Outcome, started: Moment, now: Moment) {
        self.silence.heard(outcome, now.since(started), self.load.answers(), now);
        self.load.answered(outcome, started, now);
    }

    /// The same for its health, and in words where it is a fault.
    fn answered(&self, outcome: Outcome, words: Option<&str>, pass: Pass, now: Instant, moment: Moment) {
        let is_first = self.record.add(outcome, moment);
        if outcome.is_fault() {
            self.last_error.keep(words.unwrap_or(outcome.words()), now);
        }
        if outcome == Outcome::Success && self.rests.load(Ordering::Relaxed) != 0 {
            self.rests.store(0, Ordering::Relaxed);
        }
        if let Pass::Trial(permit) = pass {
            match outcome {
                Outcome::Cancelled | Outcome::Lost => {}
                outcome if outcome.is_fault() => match self.owner() {
                    Some(owner) => owner.trial_failed(self, now),
                    None => self.trial_failed(now),
                },
                _ => _ = self.change(|standing| standing.trial_passed(now)),
            }
            self.gate.give_back(permit);
            self.has_room();
        } else if self.gate.is_open()
            && (is_first || outcome.is_fault())
            && let Some(owner) = self.owner()
        {
            owner.judge(self, outcome.is_fault(), now);
        }
    }

    /// A request has ended. Where as many may come as like, nobody waits for that.
    fn released(&self, pass: Pass) {
        if matches!(pass, Pass::Trial(_)) || self.limit().is_some() {
            self.has_room();
        }
    }

    fn has_room(&self) {
        if let Some(owner) = self.owner() {
            owner.released();
        }
    }

    fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.owner.as_ref().and_then(Weak::upgrade)
    }

    fn backoff(&self) -> Backoff {
        self.owner().map(|owner| owner.backoff()).unwrap_or_default()
    }

    /// Takes in what somebody knows, and tells whoever is concerned. Whether it is news to whoever it belongs to.
    fn change(&self, change: impl FnOnce(&mut Standing)) -> bool {
        // A panic elsewhere cannot leave the standing half-changed, so a poisoned lock is as good as any.
        let mut standing = locked(&self.standing);
        let due = standing.due();
        change(&mut standing);
        let (before, health) = (self.health.load_full(), standing.health());
        if let Some(when) = standing.due().filter(|_| standing.due() != due)
            && let Some(owner) = self.owner()
        {
            owner.due(when);
        }
        if *before == health {
            return false;
        }
        let health = Arc::new(health);
        self.health.store(Arc::clone(&health));
        let state = health.state();
        // The first word turns the assumption into knowledge, and that is news.
        if before.state() == state && before.cause().is_some() {
            return false;
        }
        match state {
            HealthState::Probing => self.gate.narrow(),
            _ => self.gate.open(),
        }
        if state.is_eligible() && !self.is_eligible() {
            self.load.restart();
            self.record.restart();
        }
        self.eligible.store(state.is_eligible(), Ordering::Release);
        if self.owner.is_some() && !self.owner().is_some_and(|owner| owner.health_changed(self, &health)) {
            return false;
        }
        drop(standing);
        if let Some(owner) = self.owner() {
            owner.changed();
        }
        let cause = health.cause().unwrap_or_default();
        match state {
            HealthState::Healthy => info!(target: HEALTH_TARGET, backend = %self.id, %state, cause, "in rotation"),
            HealthState::Probing => info!(target: HEALTH_TARGET, backend = %self.id, %state, cause, "on trial"),
            _ => warn!(target: HEALTH_TARGET, backend = %self.id, %state, cause, "out of rotation"),
        }
        true
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
