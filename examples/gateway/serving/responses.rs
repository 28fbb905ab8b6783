//! What clients were answered, and how long they waited for it, counted by pool.

use http::Response;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tower_balancer::{backend::ResponseTimes, http::OwnAnswer};

/// The counts of a pool: one part for each worker, so that none waits for another's.
#[derive(Debug, Default)]
pub struct Responses(Mutex<Vec<Arc<Part>>>);

/// The statuses from 100 to 599.
const STATUSES: usize = 500;

/// Told also where there were none yet: a rate begins with the first look, and would not see the first of them.
const ALWAYS: [u16; 4] = [200, 502, 503, 504];

/// What one worker counts.
#[derive(Debug)]
pub struct Part {
    statuses: [AtomicU64; STATUSES],
    own: [AtomicU64; OwnAnswer::ALL.len()],
    times: ResponseTimes,
}

impl Part {
    /// One that a client has waited for for so long.
    pub fn count<B>(&self, response: &Response<B>, took: Duration) {
        self.times.record(took);
        // What is no status of HTTP is counted beside the last that is one.
        let status = usize::from(response.status().as_u16() - 100).min(STATUSES - 1);
        self.statuses[status].fetch_add(1, Ordering::Relaxed);
        if let Some(reason) = response.extensions().get::<OwnAnswer>() {
            self.own[*reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Responses {
    /// A part for one more worker, for as long as the pool is.
    pub fn part(&self) -> Arc<Part> {
        let statuses = [const { AtomicU64::new(0) }; STATUSES];
        let part = Arc::new(Part { statuses, own: Default::default(), times: ResponseTimes::default() });
        self.parts().push(Arc::clone(&part));
        part
    }

    /// The statuses that there were, and some that there may be, each with its count.
    pub fn statuses(&self) -> Vec<(u16, u64)> {
        let counts = (0..STATUSES).map(|status| (100 + status as u16, self.sum(|part| &part.statuses[status])));
        counts.filter(|(status, count)| *count > 0 || ALWAYS.contains(status)).collect()
    }

    /// How many were the proxy's own, for `reason`.
    pub fn own(&self, reason: OwnAnswer) -> u64 {
        self.sum(|part| &part.own[reason as usize])
    }

    /// How long all of them took, to their heads.
    pub fn times(&self) -> ResponseTimes {
        let times = ResponseTimes::default();
        self.parts().iter().for_each(|part| times.add(&part.times));
        times
    }

    fn sum(&self, of: impl Fn(&Part) -> &AtomicU64) -> u64 {
        self.parts().iter().map(|part| of(part).load(Ordering::Relaxed)).sum()
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Arc<Part>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
