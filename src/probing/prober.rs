use super::LoadProbe;
use crate::{
    backend::{Backend, BackendId},
    pool::BackendPool,
    strategy::Prequal,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{collections::HashSet, fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};
use tokio::time::{Instant, timeout};
use tracing::debug;

/// Asks the backends of which a [`Prequal`] wants to know, and writes down what they tell.
pub struct Prober<T, P> {
    pool: BackendPool<T>,
    strategy: Prequal,
    probe: P,
    timeout: Duration,
    limit: usize,
}

impl<T: Clone + Send + Sync + 'static, P: LoadProbe<T>> Prober<T, P> {
    /// For the `strategy` that picks from `pool`: the same one or a clone of it. A probe that takes longer than a second is
    /// given up, and at most 64 are under way at once.
    pub fn new(pool: &BackendPool<T>, strategy: &Prequal, probe: P) -> Self {
        let (pool, strategy) = (pool.clone(), strategy.clone());
        Self { pool, strategy, probe, timeout: Duration::from_secs(1), limit: 64 }
    }

    /// How long a probe may take. What comes later than a request takes is of little use.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How many probes are under way at once, at least 1. What is wanted beyond waits, and the oldest of it is forgotten.
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: limit.max(1), ..self }
    }

    /// Asks until it is dropped.
    ///
    /// # Cancellation
    ///
    /// Safe: dropping it drops the probes that are under way.
    pub async fn run(self) {
        let mut asking = FuturesUnordered::new();
        // One probe a backend: one that hangs would take the places of all.
        let mut asked = HashSet::new();
        poll_fn(|cx| {
            loop {
                while asking.len() < self.limit
                    && let Poll::Ready(backend) = self.strategy.poll_wanted(cx)
                {
                    // Who has left since is not asked.
                    if let Some((_, target)) = self.pool.members().find(backend.id().as_str())
                        && asked.insert(backend.id().clone())
                    {
                        asking.push(self.ask(backend, target.clone()));
                    }
                }
                // Whoever has told makes room for the next.
                let Poll::Ready(Some(id)) = asking.poll_next_unpin(cx) else { return Poll::Pending };
                asked.remove(&id);
            }
        })
        .await
    }

    /// Whom it has asked.
    async fn ask(&self, backend: Arc<Backend>, target: T) -> BackendId {
        match timeout(self.timeout, self.probe.ask(target)).await {
            Ok(Ok(report)) => backend.reported(&report, Instant::now().into_std()),
            Ok(Err(error)) => debug!(backend = %backend.id(), error, "told nothing about its load"),
            Err(_late) => debug!(backend = %backend.id(), "told nothing about its load in time"),
        }
        backend.id().clone()
    }
}

impl<T, P> fmt::Debug for Prober<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("strategy", &self.strategy).finish_non_exhaustive()
    }
}
