use crate::{error::Reason, sync::locked};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// What happened to a pool as a whole, counted since it was created. Each number only ever grows, whoever joins and leaves.
///
/// ```
/// use tower_balancer::{BackendPool, Reason};
///
/// let pool = BackendPool::new(["http://10.0.0.1:8080"])?;
/// assert_eq!((pool.stats().picks(), pool.stats().unavailable(Reason::AllUnhealthy)), (0, 0));
/// # Ok::<_, tower_balancer::pool::InvalidMember>(())
/// ```
#[derive(Debug, Default)]
pub struct Stats {
    picks: Mutex<Picks>,
    unavailable: [AtomicU64; Reason::ALL.len()],
    fail_opens: AtomicU64,
    freezes: AtomicU64,
}

/// The picks of each view, and of those that are no longer.
#[derive(Debug, Default)]
struct Picks {
    views: Vec<Arc<Picked>>,
    gone: u64,
}

/// How many picks were made through one view. Apart from all else: views of different threads do not share it, and each
/// request changes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Picked(AtomicU64);

impl Picked {
    pub(super) fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Stats {
    /// Requests for which a backend was picked.
    pub fn picks(&self) -> u64 {
        let picks = self.lock();
        picks.views.iter().map(|view| view.0.load(Ordering::Relaxed)).sum::<u64>() + picks.gone
    }

    /// Requests for which none could be, because of `reason`.
    pub fn unavailable(&self, reason: Reason) -> u64 {
        self.unavailable[reason as usize].load(Ordering::Relaxed)
    }

    /// How often too few backends were well, so that others were picked as well: see [`FailOpen`](super::FailOpen).
    pub fn fail_opens(&self) -> u64 {
        self.fail_opens.load(Ordering::Relaxed)
    }

    /// How often ejections were frozen because most of the pool went at once; at most once in ten seconds.
    pub fn freezes(&self) -> u64 {
        self.freezes.load(Ordering::Relaxed)
    }

    /// The count of a new view.
    pub(super) fn view(&self) -> Arc<Picked> {
        let mut picks = self.lock();
        let Picks { views, gone } = &mut *picks;
        // Here, where both are under one lock, so that no sum misses the picks of a view that goes.
        views.retain_mut(|view| match Arc::get_mut(view) {
            Some(last) => {
                *gone += *last.0.get_mut();
                false
            }
            None => true,
        });
        let view = Arc::default();
        views.push(Arc::clone(&view));
        view
    }

    pub(super) fn refused(&self, reason: Reason) {
        self.unavailable[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self) {
        self.fail_opens.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn frozen(&self) {
        self.freezes.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Picks> {
        // Nothing panics in between.
        locked(&self.picks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picks_of_views_that_are_gone_count_on_and_cost_nothing() {
        let stats = Stats::default();
        for round in 0..100 {
            let view = stats.view();
            (0..3).for_each(|_| view.one_more());
            assert_eq!(stats.picks(), 3 * (round + 1));
        }
        assert_eq!(stats.lock().views.len(), 1);
    }

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let stats = Stats::default();
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            (0..=number).for_each(|_| stats.refused(reason));
        }
        assert_eq!(Reason::ALL.map(|reason| stats.unavailable(reason)), [1, 2, 3, 4, 5]);
    }
}
