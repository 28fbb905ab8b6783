use crate::{
    backend::{Backend, BackendId},
    pool::BackendPool,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Who has left and still has requests. Dropping this removes them all.
pub(super) struct Departures<T: Clone + Send + Sync + 'static> {
    pool: BackendPool<T>,
    leaving: BTreeMap<BackendId, Departure>,
}

struct Departure {
    backend: Arc<Backend>,
    until: Instant,
    /// A request that was picked for it a moment before may be about to be counted: so it has to be seen empty twice.
    was_empty: bool,
}

/// How often somebody looks whether they are done: no request pays for telling.
const LOOK: Duration = Duration::from_millis(20);

/// What its health says meanwhile.
const LEFT: &str = "its source no longer lists it";

impl<T: Clone + Send + Sync + 'static> Departures<T> {
    pub(super) fn new(pool: BackendPool<T>) -> Self {
        Self { pool, leaving: BTreeMap::new() }
    }

    /// Gives the backend `id` no new requests, and `grace` for those that it has.
    pub(super) fn begin(&mut self, id: BackendId, grace: Duration, now: Instant) {
        // The host may have removed it.
        if let Some(backend) = self.pool.get(id.as_str()) {
            backend.leave(Some(LEFT), now);
            self.leaving.insert(id, Departure { backend, until: now + grace, was_empty: false });
        }
    }

    /// It is back.
    pub(super) fn recall(&mut self, id: &BackendId) {
        self.leaving.remove(id);
    }

    /// Removes who has no request left, or no time.
    pub(super) fn look(&mut self, now: Instant) {
        let mut done = Vec::new();
        self.leaving.retain(|_, departure| {
            let is_empty = departure.backend.load().in_flight() == 0;
            let stays = now < departure.until && !(is_empty && departure.was_empty);
            departure.was_empty = is_empty;
            if !stays {
                done.push(Arc::clone(&departure.backend));
            }
            stays
        });
        self.remove(done);
    }

    /// When to look next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (!self.leaving.is_empty()).then(|| now + LOOK)
    }

    fn remove(&self, gone: Vec<Arc<Backend>>) {
        // Another may have its id by now.
        let is_there = |backend: &Arc<Backend>| {
            self.pool.get(backend.id().as_str()).is_some_and(|there| Arc::ptr_eq(&there, backend))
        };
        let ids: Vec<_> = gone.into_iter().filter(is_there).map(|backend| backend.id().clone()).collect();
        if !ids.is_empty() {
            // An empty list has no duplicates.
            _ = self.pool.update([], ids);
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for Departures<T> {
    fn drop(&mut self) {
        let leaving = std::mem::take(&mut self.leaving);
        self.remove(leaving.into_values().map(|departure| departure.backend).collect());
    }
}
