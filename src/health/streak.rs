use super::pace::Pace;

/// How many results in a row it takes to change a state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    pub(super) healthy: u32,
    pub(super) unhealthy: u32,
}

/// What the results of one backend's checks amount to. Pure.
#[derive(Clone, Debug, Default)]
pub(super) struct Streak {
    /// What is believed: by the results, or on somebody else's word since. `None` before the first result.
    settled: Option<bool>,
    /// Results in a row that contradict it.
    against: u32,
    /// Failures in a row since it is out, the one among them that put it out.
    failures: u32,
    /// Whether it was in rotation when this was last looked at.
    in_rotation: bool,
    /// Somebody else has taken it out, and no result has settled yet whether he is right.
    doubted: bool,
}

/// So many failures in a row may be a restart: then it is back within seconds.
const RESTARTING: u32 = 5;

/// Failures in a row after which a backend is taken for one that will not be back soon.
const LONG_DEAD: u32 = 10;

impl Streak {
    /// Takes in one result. Returns whether it counts: it is the first, it confirms what is believed, or it is the last of
    /// as many in a row as it takes.
    pub(super) fn count(&mut self, healthy: bool, thresholds: Thresholds) -> bool {
        self.failures = if healthy { 0 } else { self.failures.saturating_add(1) };
        if self.settled.is_some_and(|settled| settled != healthy) {
            self.against = self.against.saturating_add(1);
            if self.against < if healthy { thresholds.healthy } else { thresholds.unhealthy } {
                return false;
            }
        }
        if self.settled != Some(healthy) {
            // Out from here on, and not since the first that contradicted.
            self.failures = u32::from(!healthy);
        }
        (self.settled, self.against, self.doubted) = (Some(healthy), 0, false);
        true
    }

    /// Whether the backend is in rotation after what was made of a result; `None` where the host has set that aside.
    pub(super) fn left(&mut self, in_rotation: Option<bool>) {
        self.in_rotation = in_rotation.unwrap_or(self.settled == Some(true));
    }

    /// Whether the backend is in rotation now. Where that is another state than it was left in, somebody else's word is
    /// what the next result confirms or contradicts. Returns whether he has taken it out just now.
    pub(super) fn notice(&mut self, in_rotation: Option<bool>) -> bool {
        match in_rotation {
            Some(in_rotation) if self.settled.is_some() && self.in_rotation != in_rotation => {
                *self = Self { settled: Some(in_rotation), in_rotation, doubted: !in_rotation, ..Self::default() };
                self.doubted
            }
            _ => false,
        }
    }

    /// How soon it wants to be checked again.
    pub(super) fn pace(&self) -> Pace {
        let is_out = self.settled == Some(false);
        match self.failures.checked_sub(LONG_DEAD) {
            _ if self.settled.is_none() || self.against > 0 || self.doubted => Pace::Fast,
            _ if is_out && self.failures <= RESTARTING => Pace::Fast,
            Some(more) if is_out => Pace::Slow(more),
            _ => Pace::Steady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE_AND_TWO: Thresholds = Thresholds { healthy: 2, unhealthy: 3 };

    /// Results in turn, `+` and `-`, and which of them count.
    fn count(streak: &mut Streak, results: &str) -> String {
        let one = |result| if streak.count(result == '+', THREE_AND_TWO) { result } else { '.' };
        results.chars().map(one).collect()
    }

    #[test]
    fn a_result_counts_that_is_the_first_or_confirms_or_comes_often_enough_in_a_row() {
        for (results, counted) in [
            ("+", "+"),
            ("-", "-"),
            ("+---", "+..-"),
            ("+--+---", "+..+..-"),
            ("-+-++", "-.-.+"),
            ("+----++-", "+..--.+."),
        ] {
            assert_eq!(count(&mut Streak::default(), results), counted, "{results}");
        }
    }

    #[test]
    fn it_is_fast_while_a_change_is_pending_and_slow_for_one_that_is_long_dead() {
        let mut streak = Streak::default();
        assert_eq!(streak.pace(), Pace::Fast);
        for (results, pace) in [
            ("+", Pace::Steady),
            ("-", Pace::Fast),
            ("-", Pace::Fast),
            // It counts; but it may be restarting.
            ("-", Pace::Fast),
            ("----", Pace::Fast),
            ("-", Pace::Steady),
            ("---", Pace::Steady),
            ("-", Pace::Slow(0)),
            ("--", Pace::Slow(2)),
            ("+", Pace::Fast),
            ("+", Pace::Steady),
        ] {
            count(&mut streak, results);
            assert_eq!(streak.pace(), pace, "{results}");
        }
    }

    #[test]
    fn somebody_elses_word_is_what_the_next_result_confirms_or_contradicts() {
        let mut streak = Streak::default();
        assert!(!streak.notice(Some(false)), "nothing was said yet that he could contradict");
        count(&mut streak, "+--");
        streak.left(Some(true));
        assert!(!streak.notice(Some(true)));

        assert!(streak.notice(Some(false)) && !streak.notice(Some(false)), "taken out once");
        assert_eq!(streak.pace(), Pace::Fast);
        assert_eq!(count(&mut streak, "+"), ".");
        assert_eq!((count(&mut streak, "+"), streak.pace()), ("+".into(), Pace::Steady));
        streak.left(Some(true));

        assert!(streak.notice(Some(false)));
        assert_eq!((count(&mut streak, "-"), streak.pace()), ("-".into(), Pace::Fast));
        streak.left(Some(false));
        assert!(!streak.notice(Some(true)), "put in, not out");
        assert_eq!(count(&mut streak, "---"), "..-");

        // While the host has set its state aside, results go on to count, and what they come to is no news afterwards.
        assert!(!streak.notice(None));
        assert_eq!(count(&mut streak, "++"), ".+");
        streak.left(None);
        assert!(!streak.notice(Some(true)));
    }
}
