use super::{ballot::Ballot, order::clock, orders::Orders, run::until_over};
use crate::{
    backend::{BackendId, Backoff, Weight},
    discover::{DEFAULT_BACKOFF, EtcdConfig, Failure},
    pool::BackendPool,
    running::Running,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// The `tracing` target of the events that tell of the fleet.
pub const FLEET_TARGET: &str = "tower_balancer::fleet";

/// Two see more than one; three outvote one that is wrong either way, at the price of half as many checks again.
const PROBERS: usize = 2;

/// A gateway that crashes is missed within this time, and one that has lost its etcd is alone after it.
const TTL: Duration = Duration::from_secs(10);

/// This process among the gateways that share their health checks. See the [module](super).
///
/// It does nothing by itself: the host spawns [`run`](Self::run). A clone is a handle to the same one.
pub struct Fleet<T> {
    pub(super) pool: BackendPool<T>,
    pub(super) share: BackendPool<T>,
    pub(super) config: EtcdConfig,
    pub(super) prefix: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) probers: usize,
    pub(super) ttl: Duration,
    pub(super) backoff: Backoff,
    pub(super) ballot: watch::Sender<Ballot>,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) status: watch::Sender<FleetStatus>,
    running: Running,
}

/// How a [`Fleet`] does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FleetStatus {
    /// What this gateway is called.
    pub name: Arc<str>,
    /// Whether the checks are shared; else this gateway asks everybody.
    pub is_shared: bool,
    /// How many gateways there are, this one among them.
    pub gateways: usize,
    /// How many backends this gateway asks.
    pub asked: usize,
    /// Those that it alone finds ill.
    pub dissents: Arc<[BackendId]>,
    /// What went wrong with etcd the last time that something did.
    pub last_failure: Option<Failure>,
}

impl<T: Clone + Send + Sync + 'static> Fleet<T> {
    /// This process among those that share the checks of `pool` under `prefix`, which is theirs alone and ends in a slash. Each
    /// pool has a prefix of its own.
    pub fn new(pool: &BackendPool<T>, config: EtcdConfig, prefix: impl Into<Arc<str>>) -> Self {
        // An empty list has no duplicates.
        let share = BackendPool::from_members([]).unwrap_or_else(|_| unreachable!());
        let fleet = Self {
            pool: pool.clone(),
            share,
            config,
            prefix: prefix.into(),
            name: Arc::default(),
            probers: PROBERS,
            ttl: TTL,
            backoff: Backoff { cap: Duration::from_secs(5), ..DEFAULT_BACKOFF },
            ballot: watch::Sender::default(),
            orders: watch::Sender::default(),
            status: watch::Sender::new(FleetStatus {
                name: Arc::default(),
                is_shared: false,
                gateways: 1,
                asked: 0,
                dissents: Arc::new([]),
                last_failure: None,
            }),
            running: Running::new(),
        };
        fleet.name(format!("{:016x}", fastrand::u64(..)))
    }

    /// What this gateway is called, by default a number by chance. No two may have the same name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self.status.send_modify(|status| status.name = Arc::clone(&self.name));
        self
    }

    /// How many gateways ask each backend, by default 2; 0 counts as 1. The same at all of them.
    ///
    /// Each asks at times of its own, so an outage that checks alone find is known, on average, after half an interval with one
    /// prober, two thirds with two (both have to see it), and half with three (two of them). It is an interval at most in each case.
    pub fn probers(mut self, probers: usize) -> Self {
        self.probers = probers.max(1);
        self
    }

    /// After which time without a word a gateway is missed by the others, and counts itself as alone; by default 10 s, in whole
    /// seconds, from two.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Duration::from_secs(ttl.as_secs().clamp(2, 86_400));
        self
    }

    /// How long to wait after a failure before etcd is asked again, by default 1 s, twice as long each time in a row, up to 5 s.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The backends that this gateway asks, for a [`HealthChecker`](crate::HealthChecker) that runs as long as this does. What
    /// it finds out about them is this gateway's word; how they are in the other pool is the word of all.
    pub fn share(&self) -> &BackendPool<T> {
        &self.share
    }

    /// Changes the share of the traffic of the backend `id`, here and at all other gateways; it goes before what a source says.
    /// Returns whether the pool has it.
    pub fn set_weight(&self, id: &str, weight: Weight) -> bool {
        let Some(backend) = self.pool.get(id) else { return false };
        let before = Weight::new(backend.weight()).unwrap_or_default();
        self.orders.send_if_modified(|orders| {
            let order = orders.of(id);
            if order.weight().is_none() {
                orders.displace(id.into(), before);
            }
            orders.say(id.into(), order.then_weight(weight, clock()))
        });
        self.pool.set_weight(id, weight)
    }

    /// Begins a run: a future that takes part until [`stop`](Self::stop). Then this gateway's word is taken out of etcd, and
    /// others take its place.
    ///
    /// While one run is going on, a second one ends at once and changes nothing.
    ///
    /// # Cancellation
    ///
    /// Dropping the future is like a crash: the others miss it after the [`ttl`](Self::ttl).
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<T> {
        let fleet = self.clone();
        // Begun here, so that a `stop` counts that comes before the future is first polled.
        let run = self.running.begin();
        async move {
            if let Some(run) = run {
                until_over(&fleet, run).await;
            }
        }
    }
}

impl<T> Fleet<T> {
    /// Ends the run. Without a run it does nothing.
    pub fn stop(&self) {
        self.running.stop();
    }

    /// How it does.
    pub fn status(&self) -> FleetStatus {
        self.status.borrow().clone()
    }
}

impl<T> Clone for Fleet<T> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            share: self.share.clone(),
            config: self.config.clone(),
            prefix: Arc::clone(&self.prefix),
            name: Arc::clone(&self.name),
            probers: self.probers,
            ttl: self.ttl,
            backoff: self.backoff,
            ballot: self.ballot.clone(),
            orders: self.orders.clone(),
            status: self.status.clone(),
            running: self.running.clone(),
        }
    }
}

impl<T> fmt::Debug for Fleet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("config", &self.config)
            .field("prefix", &self.prefix)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
