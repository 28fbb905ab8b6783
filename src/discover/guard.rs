use std::time::{Duration, Instant};

/// How much a source is believed that suddenly lists fewer.
///
/// A registry that has lost its data, a file that is half written, a name server that answers with what it has, say that
/// nobody is there, and nobody is sent a request any more. So of those who were there no more than a share may leave on the
/// word of one answer, nor within the time after it, and never all. Who is missing beyond that stays, and is looked for a
/// second time when the time is over: who is missing then as well has left.
///
/// ```
/// use std::time::Duration;
/// use tower_balancer::discover::Guard;
///
/// let guard = Guard::default().at_once(0.2).confirm_after(Duration::from_secs(60));
/// # let _ = guard;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    share: f64,
    confirm: Duration,
}

/// A rollout that takes half of the fleet at a time is bold; one that takes more is an accident.
const HALF: f64 = 0.5;

/// Longer than the time in which a registry is restarted or a file is written; what is gone in truth is out meanwhile by its
/// health.
const CONFIRM: Duration = Duration::from_secs(30);

/// Longer than this nobody waits, and a clock can add it.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

impl Guard {
    /// Every answer is believed at once, an empty one as well.
    pub fn off() -> Self {
        Self { share: 1.0, confirm: Duration::ZERO }
    }

    /// The share that may leave at once, from 0.0 to 1.0, by default a half: rounded down, but one at least, unless it is 0.
    /// What is no number counts as 0.
    pub fn at_once(self, share: f64) -> Self {
        Self { share: if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }, ..self }
    }

    /// How long after an answer in which too many were missing they are looked for again, by default 30 s; at most a year.
    /// With zero every answer is believed at once.
    pub fn confirm_after(self, confirm: Duration) -> Self {
        Self { confirm: confirm.min(LONGEST), ..self }
    }

    /// Whether `missing` more may leave at once, of `held` beside the `gone` who did lately, where `listed` are there then.
    pub(super) fn allows(&self, missing: usize, held: usize, gone: usize, listed: usize) -> bool {
        let most = ((held + gone) as f64 * self.share) as usize;
        let at_least = usize::from(self.share > 0.0);
        listed > 0 && gone + missing <= most.max(at_least)
    }

    /// When one that was missing first at `since` has to be looked for again.
    pub(super) fn confirmed(&self, since: Instant) -> Instant {
        since + self.confirm
    }

    /// Whether what happened at `when` is long ago at `now`.
    pub(super) fn is_past(&self, when: Instant, now: Instant) -> bool {
        self.confirmed(when) <= now
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self { share: HALF, confirm: CONFIRM }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_may_leave_and_never_all() {
        let most =
            |guard: Guard, held, gone| (0..=held).rfind(|missing| guard.allows(*missing, held, gone, held - missing));
        let half = Guard::default();
        assert_eq!([1, 2, 3, 4, 10].map(|held| most(half, held, 0)), [Some(0), Some(1), Some(1), Some(2), Some(5)]);
        // Who has left lately counts among those that were there.
        assert_eq!([1, 2, 3, 5].map(|gone| most(half, 10 - gone, gone)), [Some(4), Some(3), Some(2), Some(0)]);
        assert_eq!([1, 2, 10].map(|held| most(half.at_once(1.0), held, 0)), [Some(0), Some(1), Some(9)]);
        assert_eq!([1, 2, 10].map(|held| most(half.at_once(f64::NAN), held, 0)), [Some(0), Some(0), Some(0)]);
        assert_eq!(most(half.at_once(0.01), 10, 0), Some(1));
        // One that is replaced by another need not stay.
        assert!(half.allows(1, 1, 0, 1) && !half.allows(2, 2, 0, 2) && half.at_once(1.0).allows(2, 2, 0, 2));
    }
}
