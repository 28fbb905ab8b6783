use super::{Probe, check::check, findings::Findings, rounds::rounds, settings::Settings};
use crate::{backend::Backend, pool::BackendPool, running::Running};
use futures_util::stream::{self, StreamExt};
use std::{fmt, sync::Arc};
use tokio::time::Instant;

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
    pub(super) pool: BackendPool<T>,
    pub(super) probe: Arc<P>,
    pub(super) settings: Settings,
    pub(super) findings: Arc<Findings>,
    running: Running,
}

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
            settings: Settings::default(),
            findings: Arc::default(),
            running: Running::new(),
        }
    }

    /// Begins a run: a future that checks every backend at once, and then each after every interval of its own, until
    /// [`stop`](Self::stop). A backend that joins is checked at once, one that leaves no more.
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
                rounds(checker, run).await;
            }
        }
    }

    /// Ends the run: no check begins any more, and those in flight go on to their end. Without a run it does nothing.
    pub fn stop(&self) {
        self.running.stop();
    }

    /// Asks every backend once, healthy or not, as many at the same time as may be, and marks each as soon as its answer is
    /// there and counts. What was found out by a run counts here as well, and the other way round.
    ///
    /// # Cancellation
    ///
    /// Dropping the future aborts the checks in flight. No backend is marked by an aborted check.
    pub async fn check_all(&self) {
        self.findings.forget_the_gone();
        let now = Instant::now().into_std();
        let members = self.pool.members();
        members.backends().iter().for_each(|backend| self.settings.seclude(backend, now));
        let checks = members.iter().map(|(backend, target)| self.check(Arc::clone(backend), target.clone()));
        let checks: Vec<_> = checks.collect();
        stream::iter(checks).buffer_unordered(self.settings.concurrency).collect::<()>().await;
    }

    async fn check(&self, backend: Arc<Backend>, target: T) {
        let asked = Instant::now().into_std();
        let answer = check(&*self.probe, target, self.settings.timeout).await;
        self.findings.conclude(&backend, &answer, asked, Instant::now().into_std(), self.settings.thresholds);
    }
}

impl<T, P> Clone for HealthChecker<T, P> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            probe: Arc::clone(&self.probe),
            settings: self.settings,
            findings: Arc::clone(&self.findings),
            running: self.running.clone(),
        }
    }
}

impl<T, P> fmt::Debug for HealthChecker<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthChecker")
            .field("pool", &self.pool)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
