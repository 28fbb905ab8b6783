use std::{collections::BTreeSet, time::Instant};

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn who_has_been_due_for_longest_goes_first_and_nobody_goes_early() {
        let start = Instant::now();
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
