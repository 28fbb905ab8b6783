use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Who is due when. Pure: `now` is an argument.
///
/// Who has been due for longest goes first, so where there is more to do than may be done at once, everybody's turn comes.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeSet<(Instant, u64)>);

impl Schedule {
    /// `who` is due at `when`, beside whatever else he is due for.
    pub(super) fn add(&mut self, who: u64, when: Instant) {
        self.0.insert((when, who));
    }

    /// `who` is no longer due at `when`. Returns whether he was.
    pub(super) fn remove(&mut self, who: u64, when: Instant) -> bool {
        self.0.remove(&(when, who))
    }

    /// Takes the first one that is due by `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let (when, _) = self.0.first()?;
        if *when > now { None } else { self.0.pop_first().map(|(_, who)| who) }
    }

    /// When the first one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(when, _)| *when)
    }
}

/// When who was to be asked next at `planned` is asked, who was asked last at `asked` and has answered at `now`.
///
/// Turns are kept: somebody who was asked late, because there was too much to do, is not late the next time as well. Turns
/// that were missed altogether are left out, and an answer that takes longer than a turn delays the next.
pub(super) fn following(planned: Instant, interval: Duration, asked: Instant, now: Instant) -> Instant {
    let late = asked.saturating_duration_since(planned);
    let missed = if interval.is_zero() { 0.0 } else { (late.as_secs_f64() / interval.as_secs_f64()).ceil() };
    (planned + interval.mul_f64(missed)).max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn turns_are_kept_and_those_that_were_missed_are_left_out() {
        let start = origin();
        let at = |seconds| start + Duration::from_secs(seconds);
        // When the next one was planned, when the last one was asked and answered, and when the next one is.
        for (planned, asked, now, next) in [
            (10, 5, 5, 10),
            (10, 5, 12, 12),
            (10, 9, 9, 10),
            (10, 10, 10, 10),
            (10, 11, 11, 15),
            (10, 20, 21, 21),
            (10, 21, 21, 25),
        ] {
            let following = following(at(planned), Duration::from_secs(5), at(asked), at(now));
            assert_eq!(following, at(next), "{planned} {asked} {now}");
        }
        assert_eq!(following(at(1), Duration::ZERO, at(2), at(3)), at(3));
    }

    #[test]
    fn who_has_been_due_for_longest_goes_first_and_nobody_goes_early() {
        let start = origin();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        assert_eq!((schedule.next(), schedule.take(at(9))), (None, None));

        for (who, seconds) in [(1, 5), (2, 3), (3, 5), (4, 8)] {
            schedule.add(who, at(seconds));
        }
        assert_eq!((schedule.next(), schedule.take(at(2))), (Some(at(3)), None));
        assert!(schedule.remove(3, at(5)) && !schedule.remove(3, at(5)) && !schedule.remove(4, at(5)));
        schedule.add(3, at(4));
        let taken: Vec<_> = std::iter::from_fn(|| schedule.take(at(5))).collect();
        assert_eq!((taken, schedule.next()), (vec![2, 3, 1], Some(at(8))));
    }
}
