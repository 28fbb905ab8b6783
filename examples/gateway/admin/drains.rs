//! Drains that are under way: until when, and what comes then.

use super::clock::{now, seconds};
use crate::events::{Event, Journal, Kind};
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{task::AbortHandle, time::timeout};
use tower_balancer::{
    BackendPool,
    backend::{Backend, BackendId, HealthState, Origin},
    health::Draining,
};

/// Those that an operator has begun. A clone is the same.
#[derive(Clone)]
pub struct Drains {
    journal: Journal,
    under_way: Arc<Mutex<HashMap<Key, UnderWay>>>,
}

/// A pool, and a backend of it.
type Key = (Arc<str>, BackendId);

/// How a backend leaves `pool` at the end.
pub struct Removal {
    pub pool: BackendPool<Origin>,
    /// Whether the file still says of it what it said when this was asked for; else it is as it was.
    pub holds: Box<dyn Fn() -> bool + Send>,
    /// It was drained before.
    pub was_draining: bool,
}

struct UnderWay {
    backend: Arc<Backend>,
    until: Option<Instant>,
    removes: bool,
    /// Waits for its end.
    waiting: AbortHandle,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.waiting.abort();
    }
}

/// How far a drain is.
#[derive(Serialize)]
pub struct Drain {
    /// No request is left.
    done: bool,
    /// How long it is waited for; then what is left goes on all the same.
    deadline_in_seconds: Option<f64>,
    /// It leaves the pool then.
    removes: bool,
}

impl Drains {
    pub fn new(journal: Journal) -> Self {
        Self { journal, under_way: Arc::default() }
    }

    /// Waits for the end of a drain that has begun, for `deadline` or as long as it takes; then there may be a removal.
    /// One that was waited for already is waited for anew.
    pub fn begin(
        &self,
        name: &Arc<str>,
        backend: Arc<Backend>,
        draining: Draining,
        deadline: Option<Duration>,
        removal: Option<Removal>,
    ) {
        let key = (Arc::clone(name), backend.id().clone());
        let until = deadline.and_then(|deadline| now().checked_add(deadline));
        let removes = removal.is_some();
        let mut under_way = self.under_way();
        let (drains, ended) = (self.clone(), (key.clone(), Arc::clone(&backend)));
        let waiting = tokio::spawn(async move {
            match deadline {
                Some(deadline) => _ = timeout(deadline, draining.done()).await,
                None => draining.done().await,
            }
            let (key, backend) = ended;
            drains.end(&key, &backend, removal);
        });
        under_way.insert(key, UnderWay { backend, until, removes, waiting: waiting.abort_handle() });
    }

    /// Waits no longer: it was taken back.
    pub fn cancel(&self, pool: &Arc<str>, id: &BackendId) {
        self.under_way().remove(&(Arc::clone(pool), id.clone()));
    }

    /// Whether the backend leaves its pool at the end.
    pub fn removes(&self, pool: &Arc<str>, id: &BackendId) -> bool {
        self.under_way().get(&(Arc::clone(pool), id.clone())).is_some_and(|under_way| under_way.removes)
    }

    /// How far the drain of `backend` is, whoever has begun it; `None` where it is not drained.
    pub fn of(&self, pool: &str, backend: &Backend, now: Instant) -> Option<Drain> {
        if backend.health().state() != HealthState::Draining {
            return None;
        }
        let under_way = self.under_way();
        let begun = under_way.get(&(Arc::from(pool), backend.id().clone()));
        let begun = begun.filter(|begun| std::ptr::eq(&*begun.backend, backend));
        let until = begun.and_then(|begun| begun.until);
        Some(Drain {
            done: backend.load().in_flight() == 0,
            deadline_in_seconds: until.map(|until| seconds(until.saturating_duration_since(now))),
            removes: begun.is_some_and(|begun| begun.removes),
        })
    }

    fn end(&self, (name, id): &Key, backend: &Arc<Backend>, removal: Option<Removal>) {
        let mut under_way = self.under_way();
        // Somebody may have said something else in between.
        let key = (Arc::clone(name), id.clone());
        if !under_way.get(&key).is_some_and(|begun| Arc::ptr_eq(&begun.backend, backend)) {
            return;
        }
        under_way.remove(&key);
        drop(under_way);
        // Also elsewhere: another gateway has enabled it for all.
        if backend.health().state() != HealthState::Draining {
            return;
        }
        let left = match backend.load().in_flight() {
            0 => "no request left".to_owned(),
            left => format!("no time left, and {left} requests"),
        };
        let event = Event::new(Kind::Drained, format_args!("{id} has {left}")).pool(name).backend(id).reason(&left);
        self.journal.tell(event);
        // Another may have its id by now.
        let is_there = |pool: &BackendPool<Origin>| pool.get(id.as_str()).is_some_and(|it| Arc::ptr_eq(&it, backend));
        if let Some(removal) = removal.filter(|removal| is_there(&removal.pool)) {
            if (removal.holds)() {
                removal.pool.remove(id.as_str());
            } else if !removal.was_draining {
                removal.pool.enable(id.as_str());
            }
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Key, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
