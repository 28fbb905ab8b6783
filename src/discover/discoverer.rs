use super::{Guard, Source, Status, ledger::Ledger, run::until_over};
use crate::{
    backend::Backoff,
    pool::{BackendPool, Member},
    running::Running,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::{Mutex, watch};

/// The `tracing` target of the events that tell of sources and of who they list.
pub const DISCOVER_TARGET: &str = "tower_balancer::discover";

/// Long enough for most requests to end.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// After a failure the source is asked again in a second; in the end once a minute.
pub const DEFAULT_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Makes a pool agree with what a [`Source`] says. See the [module](super).
///
/// It does nothing by itself: the host spawns [`run`](Self::run). A clone is a handle to the same one, with which to
/// [`stop`](Self::stop) it and to read its [`status`](Self::status).
pub struct Discoverer<T, S> {
    pub(super) pool: BackendPool<T>,
    pub(super) settings: Settings,
    pub(super) status: watch::Sender<Status>,
    /// Who counts as there until the source says.
    pub(super) first: Arc<[Member<T>]>,
    // What one run hands on to the next.
    source: Arc<Mutex<S>>,
    ledger: Arc<Mutex<Ledger<T>>>,
    running: Running,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) guard: Guard,
    pub(super) drain: Duration,
    pub(super) backoff: Backoff,
    pub(super) seed: Option<u64>,
}

impl<T, S> Discoverer<T, S>
where
    T: Clone + Send + Sync + 'static,
    S: Source<T>,
{
    /// One that makes `pool` agree with `source`.
    pub fn new(pool: &BackendPool<T>, source: S) -> Self {
        let settings = Settings { guard: Guard::default(), drain: DEFAULT_DRAIN, backoff: DEFAULT_BACKOFF, seed: None };
        Self {
            pool: pool.clone(),
            settings,
            status: watch::Sender::new(Status::new(source.name())),
            first: Arc::new([]),
            source: Arc::new(Mutex::new(source)),
            ledger: Arc::new(Mutex::new(Ledger::new())),
            running: Running::new(),
        }
    }

    /// How much the source is believed when it suddenly lists fewer.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.settings.guard = guard;
        self
    }

    /// How long one who has left may take for the requests that it has, by default 30 s; a year at most. Then it is removed,
    /// which ends no request either: they only are no longer seen in the pool.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.settings.drain = drain.min(Duration::from_secs(365 * 86_400));
        self
    }

    /// How long to wait after a failure before the source is asked again, by default 1 s, twice as long each time in a row,
    /// up to 60 s.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Who counts as there until the source says for the first time who is: whom a file named, or who was there when this
    /// process last ran. They join when the run begins. What the source says then is taken as if it had named them before: who
    /// is not on its list leaves, and the [`Guard`] has its say.
    pub fn starting_with(mut self, members: impl IntoIterator<Item = Member<T>>) -> Self {
        self.first = members.into_iter().collect();
        self
    }

    /// Goes on where `before` leaves off, which fed the same pool from another source: whom that one named is believed to be
    /// there until this source says otherwise, as if it had named them itself. This one's run begins when the run of `before`
    /// has ended.
    pub fn after<O>(mut self, before: &Discoverer<T, O>) -> Self {
        self.ledger = Arc::clone(&before.ledger);
        self
    }

    /// Where the chance in the [`backoff`](Self::backoff) comes from, by default another number in each run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Begins a run: a future that makes the pool agree with the source until [`stop`](Self::stop), or until the source has
    /// nothing to say any more and who has left is gone. The members stay.
    ///
    /// While one run is going on, a second one ends at once and changes nothing.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the run, and removes those that are leaving. A later run goes on from there.
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<T, S> {
        let discoverer = self.clone();
        // Begun here, so that a `stop` counts that comes before the future is first polled.
        let run = self.running.begin();
        async move {
            if let Some(run) = run {
                // A run that was told to stop a moment ago may still have them.
                let mut source = Arc::clone(&discoverer.source).lock_owned().await;
                let mut ledger = Arc::clone(&discoverer.ledger).lock_owned().await;
                until_over(&discoverer, &mut *source, &mut ledger, run).await;
            }
        }
    }
}

impl<T, S> Discoverer<T, S> {
    /// Ends the run. Without a run it does nothing.
    pub fn stop(&self) {
        self.running.stop();
    }

    /// How it does.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until the source has said for the first time who is there, and they are in the pool.
    ///
    /// # Cancellation
    ///
    /// Safe: waiting can be given up and begun again.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        _ = self.status.subscribe().wait_for(Status::is_ready).await;
    }
}

impl<T, S> Clone for Discoverer<T, S> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            settings: self.settings,
            status: self.status.clone(),
            first: Arc::clone(&self.first),
            source: Arc::clone(&self.source),
            ledger: Arc::clone(&self.ledger),
            running: self.running.clone(),
        }
    }
}

impl<T, S> fmt::Debug for Discoverer<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discoverer")
            .field("settings", &self.settings)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
