use super::{Guard, Source, Status, ledger::Ledger, run::until_over};
use crate::{backend::Backoff, pool::BackendPool, running::Running};
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
    work: Arc<Mutex<Work<T, S>>>,
    running: Running,
}

/// What one run hands on to the next.
pub(super) struct Work<T, S> {
    pub(super) source: S,
    pub(super) ledger: Ledger<T>,
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
            work: Arc::new(Mutex::new(Work { source, ledger: Ledger::new() })),
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
                // A run that was told to stop a moment ago may still have it.
                let mut work = Arc::clone(&discoverer.work).lock_owned().await;
                until_over(&discoverer, &mut work, run).await;
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
            work: Arc::clone(&self.work),
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
