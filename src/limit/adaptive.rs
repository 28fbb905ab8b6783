use super::gradient::Gradient;
use crate::{
    backend::{Backend, BackendId, Moment, Weight},
    pool::BackendPool,
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior};

/// Moves the limit of each backend of a pool. See the [module](super).
#[derive(Clone, Debug)]
pub struct AdaptiveLimits<T> {
    pool: BackendPool<T>,
    bounds: (u32, u32),
    initial: u32,
    weigh: bool,
}

/// How often somebody looks how many are in flight, and after how many looks the limit moves.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 10;

/// What is known of one backend.
struct Watched {
    /// Another one may have its id by now.
    backend: Weak<Backend>,
    gradient: Gradient,
    most: u32,
    answered: u64,
}

impl<T: Clone + Send + Sync + 'static> AdaptiveLimits<T> {
    /// Limits from 4 to 1000 for the backends of `pool`, each beginning at 20.
    pub fn new(pool: &BackendPool<T>) -> Self {
        Self { pool: pool.clone(), bounds: (4, 1_000), initial: 20, weigh: false }
    }

    /// The bounds of every limit, at least 1; where they are the wrong way round, the lower one holds.
    pub fn between(self, least: u32, most: u32) -> Self {
        let least = least.max(1);
        Self { bounds: (least, most.max(least)), ..self }
    }

    /// The limit of a backend of which nothing is known.
    pub fn initial(self, limit: u32) -> Self {
        Self { initial: limit, ..self }
    }

    /// What a backend can bear is also its weight: who bears twice as much gets twice as much.
    pub fn weigh(self) -> Self {
        Self { weigh: true, ..self }
    }

    /// Moves the limits once a second, until it is dropped.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the limits where they are.
    pub async fn run(self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = HashMap::new();
        loop {
            for look in 1..=LOOKS {
                looks.tick().await;
                self.look(&mut watched, look == LOOKS);
            }
        }
    }

    fn look(&self, watched: &mut HashMap<BackendId, Watched>, is_last: bool) {
        let backends = self.pool.backends();
        if is_last && watched.len() > backends.len() {
            watched.retain(|id, _| self.pool.get(id.as_str()).is_some());
        }
        for backend in backends {
            let begin = || {
                let limit = self.initial.clamp(self.bounds.0, self.bounds.1);
                backend.set_limit(Some(limit));
                Watched { backend: Arc::downgrade(&backend), gradient: Gradient::new(limit), most: 0, answered: 0 }
            };
            let seen = watched.entry(backend.id().clone()).or_insert_with(begin);
            if !std::ptr::eq(seen.backend.as_ptr(), &*backend) {
                *seen = begin();
            }
            seen.most = seen.most.max(backend.load().in_flight());
            if is_last {
                self.move_limit(&backend, seen);
            }
        }
        if is_last && self.weigh {
            self.weigh_all();
        }
    }

    /// By their limits, in one step, where one of them is a tenth off: each step makes the strategies' tables anew.
    fn weigh_all(&self) {
        let limits =
            self.pool.backends().into_iter().filter_map(|backend| Some((f64::from(backend.limit()?), backend)));
        let limits: Vec<_> = limits.collect();
        if limits.iter().any(|(limit, backend)| (limit / backend.weight() - 1.0).abs() > 0.1) {
            let weights = limits.iter().filter_map(|(limit, it)| Some((it.id().as_str(), Weight::new(*limit).ok()?)));
            self.pool.set_weights(weights);
        }
    }

    fn move_limit(&self, backend: &Backend, seen: &mut Watched) {
        let now = Moment::of(Instant::now().into_std());
        let answered = backend.load().answers();
        let most = std::mem::take(&mut seen.most);
        // A window without an answer says nothing about how long they take.
        if std::mem::replace(&mut seen.answered, answered) == answered {
            return;
        }
        let Some(latency) = backend.load().latency().mean(now) else { return };
        let limit = seen.gradient.update(latency.value, most, self.bounds);
        if backend.limit() != Some(limit) {
            backend.set_limit(Some(limit));
        }
    }
}
