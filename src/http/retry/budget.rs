use crate::{
    backend::{
        Moment,
        recent::{ALL, Counts, PART, Recent, SLOTS, Second},
    },
    sync::{AtomicU64, Ordering},
};
use std::{fmt, sync::Arc, time::Instant};

/// How many attempts more than requests there may be, over the last ten seconds.
///
/// One retry helps; a retry of every request doubles the load of a service that fails because of its load. The budget is
/// a share of the requests, and beside it a few a second, so that a quiet service may retry at all. Whatever happens,
/// the attempts of ten seconds are at most `requests × (1 + ratio) + 10 × per_second`.
///
/// A clone shares the budget: give one to all the layers that stand before the same backends.
///
/// ```
/// use std::time::Instant;
/// use tower_balancer::http::RetryBudget;
///
/// let budget = RetryBudget::new(0.2, 0);
/// let now = Instant::now();
/// (0..10).for_each(|_| budget.deposit(now));
/// let (one, two) = (budget.charge(now), budget.charge(now));
/// assert!(one.is_some() && two.is_some() && budget.charge(now).is_none());
/// drop(one); // not spent: given back
/// assert!(budget.charge(now).is_some());
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    shared: Arc<Shared>,
}

/// What it was spent on, since it was made.
#[derive(Debug, Default)]
struct Spent {
    retries: AtomicU64,
    hedges: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    /// Requests, and attempts that were charged.
    recent: Recent,
    /// Thousandths of an attempt that each request brings.
    share: u64,
    /// Thousandths of an attempt that there are in any case.
    reserve: u64,
    spent: Spent,
}

/// More attempts in a second than can be counted are refused, with some room for those that ask at once.
const MOST: u64 = ALL - 1_024;

impl RetryBudget {
    /// Attempts beyond the first for `ratio` of the requests, from 0 to 10, and for `per_second` more.
    ///
    /// # Panics
    ///
    /// If `ratio` is not a number in that range.
    pub fn new(ratio: f64, per_second: u32) -> Self {
        assert!((0.0..=10.0).contains(&ratio), "the ratio of a retry budget is from 0 to 10, not {ratio}");
        let share = (ratio * 1_000.0).round() as u64;
        let reserve = u64::from(per_second) * SLOTS * 1_000;
        let spent = Spent::default();
        Self { shared: Arc::new(Shared { recent: Recent::default(), share, reserve, spent }) }
    }

    /// Counts one request, which brings its share. Lock-free.
    pub fn deposit(&self, now: Instant) {
        self.shared.recent.add(ALL, Second::of(Moment::of(now)));
    }

    /// Takes one attempt out of the budget, if it has one. An attempt that is not [spent](Charge::spend) is given back.
    pub fn charge(&self, now: Instant) -> Option<Charge> {
        let second = Second::of(Moment::of(now));
        let charge = self.try_charge(second);
        if charge.is_none() {
            self.shared.spent.refused.fetch_add(1, Ordering::Relaxed);
        }
        charge
    }

    fn try_charge(&self, second: Second) -> Option<Charge> {
        if self.shared.left(second) < 1_000 || self.shared.recent.within(second).part > MOST {
            return None;
        }
        self.shared.recent.add(PART, second);
        let charge = Charge { budget: Some(self.clone()), second };
        // Who was as quick has taken the last one: then both give back, and the budget holds.
        (self.shared.left(second) >= 0).then_some(charge)
    }

    /// Second attempts that were made after a failure, since the budget was made.
    pub fn retries(&self) -> u64 {
        self.shared.spent.retries.load(Ordering::Relaxed)
    }

    /// Second attempts that were made while the first was waited for, since the budget was made.
    pub fn hedges(&self) -> u64 {
        self.shared.spent.hedges.load(Ordering::Relaxed)
    }

    /// How often an attempt was wanted that the budget had nothing for, since it was made. Whoever waits for an answer may
    /// want one again and again.
    pub fn refused(&self) -> u64 {
        self.shared.spent.refused.load(Ordering::Relaxed)
    }

    pub(in crate::http) fn retried(&self) {
        self.shared.spent.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::http) fn hedged(&self) {
        self.shared.spent.hedges.fetch_add(1, Ordering::Relaxed);
    }

    /// The attempts that are left.
    pub fn left(&self, now: Instant) -> u64 {
        (self.shared.left(Second::of(Moment::of(now))).max(0) / 1_000) as u64
    }
}

impl Default for RetryBudget {
    /// A fifth of the requests, and ten a second.
    fn default() -> Self {
        Self::new(0.2, 10)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("share", &(self.shared.share as f64 / 1_000.0))
            .field("reserve", &(self.shared.reserve / 1_000))
            .finish_non_exhaustive()
    }
}

/// One attempt that was taken out of a budget. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "a charge that is dropped is given back"]
pub struct Charge {
    /// `None` once it is spent.
    budget: Option<RetryBudget>,
    second: Second,
}

impl Charge {
    /// The attempt is made.
    pub fn spend(mut self) {
        self.budget = None;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.shared.recent.take_back(self.second);
        }
    }
}

impl Shared {
    /// Thousandths of an attempt; below nothing where more were charged at once than there are.
    fn left(&self, second: Second) -> i64 {
        let Counts { all: requests, part: charged } = self.recent.until(second);
        (requests * self.share + self.reserve) as i64 - charged as i64 * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_storm_costs_the_ratio_and_no_more() {
        for ratio in [0.2, 0.3, 0.6, 1.0] {
            let budget = RetryBudget::new(ratio, 0);
            let start = start();
            let mut attempts = 0;
            // Everything fails, for half a minute, and everyone tries again as often as may be.
            for request in 0..30_000_u32 {
                let now = start + Duration::from_millis(request.into());
                budget.deposit(now);
                while let Some(charge) = budget.charge(now) {
                    charge.spend();
                    attempts += 1;
                }
            }
            let amplification = f64::from(attempts) / 30_000.0;
            // What a second leaves over is not lost: within a thousandth the whole budget is used.
            assert!((ratio - 0.001..=ratio).contains(&amplification), "{ratio}: {amplification}");
        }
    }

    #[test]
    fn a_quiet_service_has_its_reserve_and_no_more_in_ten_seconds() {
        let budget = RetryBudget::new(0.0, 1);
        let start = start();
        for _ in 0..10 {
            budget.charge(start).unwrap().spend();
        }
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(budget.charge(at(0)).is_none());
        assert!(budget.charge(at(8)).is_none());
        assert_eq!(budget.left(at(10)), 10);
    }

    #[test]
    fn what_was_not_spent_is_given_back() {
        let budget = RetryBudget::new(0.0, 1);
        let now = start();
        drop(budget.charge(now));
        assert_eq!(budget.left(now), 10);
        let charge = budget.charge(now);
        assert_eq!(budget.left(now), 9);
        charge.unwrap().spend();
        assert_eq!(budget.left(now), 9);
        // Ten seconds later it is forgotten, and giving it back gives nothing.
        let late = budget.charge(now);
        budget.deposit(now + Duration::from_secs(10));
        drop(late);
        assert_eq!(budget.left(now + Duration::from_secs(10)), 10);
    }

    #[test]
    fn many_at_once_never_take_more_than_there_is() {
        let budget = RetryBudget::new(0.0, 10);
        let now = start();
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..1_000).filter_map(|_| budget.charge(now)).map(Charge::spend).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((1..=100).contains(&taken), "{taken}");
        assert_eq!(budget.left(now), 100 - taken as u64);
    }

    #[test]
    fn more_than_can_be_counted_are_refused() {
        let budget = RetryBudget::new(10.0, u32::MAX);
        let now = start();
        let spent = (0..2_000_000).map_while(|_| budget.charge(now)).map(Charge::spend).count() as u64;
        assert!((MOST..ALL).contains(&spent), "{spent}");
        assert!(budget.charge(now).is_none());
        assert!(budget.charge(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    #[should_panic(expected = "from 0 to 10, not NaN")]
    fn a_ratio_that_is_none_is_named() {
        RetryBudget::new(f64::NAN, 0);
    }
}
