use super::{
    Probe,
    running::{Run, Running},
};
use crate::{
    backend::Backend,
    error::{is_local, root_cause},
    pool::BackendPool,
};
use futures_util::{
    FutureExt,
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt},
};
use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior};

/// Asks every backend of a pool, again and again, and marks it by the answer.
///
/// The checker does nothing by itself: the host spawns [`run`](Self::run). A clone is a handle to the same checker, with
/// which to [`stop`](Self::stop) it.
///
/// ```no_run
/// use tower_balancer::{BackendPool, health::{HealthChecker, TcpProbe}};
///
/// # #[tokio::main] async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
/// let pool = BackendPool::new(["http://10.0.0.1:8080"])?;
/// let checker = HealthChecker::new(&pool, TcpProbe);
/// let task = tokio::spawn(checker.run());
/// // ... serve ...
/// checker.stop();
/// let _ = task.await;
/// # Ok(()) }
/// ```
pub struct HealthChecker<T, P> {
    pool: BackendPool<T>,
    probe: Arc<P>,
    interval: Duration,
    timeout: Duration,
    running: Running,
}

/// Short enough that an outage is seen within seconds, long enough that the checks are no load.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// A server that takes longer than this for its health page is not one to send users to.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

impl<T, P> HealthChecker<T, P>
where
    T: Clone + Send + Sync + 'static,
    P: Probe<T>,
{
    /// A checker of `pool` that asks by `probe`: every 5 s, with 3 s for an answer.
    pub fn new(pool: &BackendPool<T>, probe: P) -> Self {
        Self {
            pool: pool.clone(),
            probe: Arc::new(probe),
            interval: DEFAULT_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            running: Running::new(),
        }
    }

    /// The time from the start of one round to the start of the next, at least 1 ms. A round that takes longer delays
    /// the next.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_millis(1)), ..self }
    }

    /// The time that one backend has for its answer. Silence beyond it is a failure.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Begins a run: a future that checks all backends at once, and then after every interval, until [`stop`](Self::stop).
    ///
    /// While one run is going on, a second one ends at once and changes nothing.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the run and aborts the checks in flight. No backend is marked by an aborted check.
    pub fn run(&self) -> impl Future<Output = ()> + Send + use<T, P> {
        let checker = self.clone();
        // Begun here, so that a `stop` counts that comes before the future is first polled.
        let run = self.running.begin();
        async move {
            if let Some(run) = run {
                checker.rounds(run).await;
            }
        }
    }

    async fn rounds(&self, mut run: Run) {
        let _checked = self.pool.checked();
        let mut rounds = tokio::time::interval(self.interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Biased towards the end: a checker that was stopped during a round begins no other.
            let stopped = std::pin::pin!(run.stopped());
            let due = std::pin::pin!(rounds.tick());
            if let Either::Left(_) = select(stopped, due).await {
                return;
            }
            self.check_all().await;
        }
    }

    /// Ends the run after the round that is going on, whose checks are not interrupted. Without a run it does nothing.
    pub fn stop(&self) {
        self.running.stop();
    }

    /// Asks every backend once, healthy or not, all at the same time, and marks each as soon as its answer is there.
    pub async fn check_all(&self) {
        let members = self.pool.members();
        let mut checks: FuturesUnordered<_> =
            members.iter().map(|(backend, target)| self.check(backend, target)).collect();
        while checks.next().await.is_some() {}
    }

    async fn check(&self, backend: &Backend, target: &T) {
        let asked = Instant::now().into_std();
        // One probe that panics must not end the checks of all others.
        let answer = AssertUnwindSafe(self.probe.check(target.clone())).catch_unwind();
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(Ok(seen))) => backend.mark_healthy(&seen, asked),
            // Without descriptors to ask with, nothing was found out about the backend.
            Ok(Ok(Err(error))) if is_local(&*error) => {
                tracing::error!(backend = %backend.id(), cause = root_cause(&*error), "cannot probe");
                false
            }
            Ok(Ok(Err(error))) => backend.mark_unhealthy(&root_cause(&*error), asked),
            Ok(Err(_)) => backend.mark_unhealthy("the probe panicked", asked),
            Err(_) => backend.mark_unhealthy(&format!("no answer within {:?}", self.timeout), asked),
        };
    }
}

impl<T, P> Clone for HealthChecker<T, P> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            probe: Arc::clone(&self.probe),
            interval: self.interval,
            timeout: self.timeout,
            running: self.running.clone(),
        }
    }
}

impl<T, P> fmt::Debug for HealthChecker<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthChecker")
            .field("pool", &self.pool)
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
