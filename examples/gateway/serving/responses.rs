//! What clients were answered, counted by pool.

use http::Response;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tower_balancer::http::OwnAnswer;

/// The counts of a pool: one part for each worker, so that none waits for another's.
#[derive(Debug, Default)]
pub struct Responses(Mutex<Vec<Arc<Part>>>);

/// The statuses from 100 to 599.
const STATUSES: usize = 500;

/// What one worker counts.
#[derive(Debug)]
pub struct Part {
    statuses: [AtomicU64; STATUSES],
    own: [AtomicU64; OwnAnswer::ALL.len()],
}

impl Part {
    pub fn count<B>(&self, response: &Response<B>) {
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
        let part = Part { statuses: [const { AtomicU64::new(0) }; STATUSES], own: Default::default() };
        let part = Arc::new(part);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&part));
        part
    }

    /// The statuses that there were, each with its count.
    pub fn statuses(&self) -> Vec<(u16, u64)> {
        let counts = (0..STATUSES).map(|status| (100 + status as u16, self.sum(|part| &part.statuses[status])));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How many were the proxy's own, for `reason`.
    pub fn own(&self, reason: OwnAnswer) -> u64 {
        self.sum(|part| &part.own[reason as usize])
    }

    fn sum(&self, of: impl Fn(&Part) -> &AtomicU64) -> u64 {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|part| of(part).load(Ordering::Relaxed)).sum()
    }
}
