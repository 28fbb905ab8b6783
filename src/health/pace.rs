use crate::rng::Rng;
use std::time::Duration;

/// How soon a backend is checked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// What was found out is older than what is known.
    AtOnce,
    /// Something is not settled yet.
    Fast,
    /// As long as nothing happens.
    Steady,
    /// It has failed for long, and so many times more.
    Slow(u32),
}

/// The time between two checks of one backend, for each pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    steady: Duration,
    fast: Duration,
    /// `None` for so many times the steady one, whatever that is.
    down: Option<Duration>,
    jitter: f64,
}

const SHORTEST: Duration = Duration::from_millis(1);
/// So that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
const DOWN_FACTOR: u32 = 6;

impl Intervals {
    pub(super) fn new(steady: Duration, fast: Duration, jitter: f64) -> Self {
        Self { steady: bounded(steady), fast: bounded(fast), down: None, jitter }
    }

    pub(super) fn steady(self, steady: Duration) -> Self {
        Self { steady: bounded(steady), ..self }
    }

    pub(super) fn fast(self, fast: Duration) -> Self {
        Self { fast: bounded(fast), ..self }
    }

    pub(super) fn down(self, down: Duration) -> Self {
        Self { down: Some(bounded(down)), ..self }
    }

    /// What is no number counts as none.
    pub(super) fn jitter(self, jitter: f64) -> Self {
        Self { jitter: if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) }, ..self }
    }

    /// Without chance.
    pub(super) fn at(&self, pace: Pace) -> Duration {
        match pace {
            Pace::AtOnce => Duration::ZERO,
            Pace::Fast => self.fast.min(self.steady),
            Pace::Steady => self.steady,
            Pace::Slow(more) => {
                let longest = self.down.unwrap_or(self.steady * DOWN_FACTOR).max(self.steady);
                self.steady.saturating_mul(2_u32.saturating_pow(more.saturating_add(1))).min(longest)
            }
        }
    }

    /// With chance: so much sooner or later that backends, and processes, do not stay in step.
    pub(super) fn draw(&self, pace: Pace, rng: &mut Rng) -> Duration {
        let exact = self.at(pace);
        if self.jitter == 0.0 || exact.is_zero() {
            return exact;
        }
        exact.mul_f64(1.0 + self.jitter * (2.0 * rng.unit() - 1.0)).max(SHORTEST)
    }

    /// The share of an interval by which the backend that joined as number `place` is ahead of the first.
    ///
    /// Steps of the golden ratio: however many backends there are, and whenever they join, they lie evenly. Where chance is
    /// allowed, it says where they begin, so that processes that start together do not ask together.
    pub(super) fn phase(&self, place: u64, offset: f64) -> f64 {
        const GOLDEN: f64 = 0.618_033_988_749_895;
        let offset = if self.jitter == 0.0 { 0.0 } else { offset };
        (place as f64 * GOLDEN + offset).fract()
    }
}

fn bounded(interval: Duration) -> Duration {
    interval.clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn five_and_one() -> Intervals {
        Intervals::new(5 * SECOND, SECOND, 0.0)
    }

    #[test]
    fn the_long_dead_are_asked_half_as_often_each_time_down_to_a_sixth() {
        let seconds =
            |intervals: Intervals| [0, 1, 2, 3, u32::MAX].map(|more| intervals.at(Pace::Slow(more)).as_secs());
        assert_eq!(seconds(five_and_one()), [10, 20, 30, 30, 30]);
        assert_eq!(seconds(five_and_one().steady(SECOND)), [2, 4, 6, 6, 6]);
        assert_eq!(seconds(five_and_one().down(60 * SECOND)), [10, 20, 40, 60, 60]);
        for off in [Duration::ZERO, SECOND, 5 * SECOND] {
            assert_eq!(seconds(five_and_one().down(off)), [5; 5]);
        }
    }

    #[test]
    fn fast_is_at_most_steady_and_nothing_is_below_a_millisecond_or_overflows() {
        assert_eq!(five_and_one().at(Pace::Fast), SECOND);
        assert_eq!(five_and_one().steady(SECOND / 2).at(Pace::Fast), SECOND / 2);
        assert_eq!(five_and_one().fast(Duration::ZERO).at(Pace::Fast), SHORTEST);
        assert_eq!(five_and_one().steady(Duration::ZERO).at(Pace::Steady), SHORTEST);
        let forever = five_and_one().steady(Duration::MAX).down(Duration::MAX).jitter(1.0);
        let mut rng = Rng::new(1);
        assert!((0..100).all(|more| forever.draw(Pace::Slow(more), &mut rng) <= 2 * LONGEST));
    }

    #[test]
    fn jitter_stays_within_its_share_and_uses_it() {
        let intervals = five_and_one().jitter(0.1);
        let mut rng = Rng::new(1);
        let drawn: Vec<_> = (0..1_000).map(|_| intervals.draw(Pace::Steady, &mut rng).as_secs_f64()).collect();
        assert!(drawn.iter().all(|drawn| (4.5..=5.5).contains(drawn)));
        assert!(drawn.iter().any(|drawn| *drawn < 4.52) && drawn.iter().any(|drawn| *drawn > 5.48));
        assert_eq!(intervals.jitter(f64::NAN).draw(Pace::Steady, &mut rng), 5 * SECOND);
        assert!(intervals.jitter(9.0).draw(Pace::Steady, &mut rng) <= 10 * SECOND);
    }

    #[test]
    fn phases_lie_evenly_however_many_there_are() {
        for count in [2, 10, 100, 10_000] {
            let mut phases: Vec<_> = (0..count).map(|place| five_and_one().phase(place, 0.7)).collect();
            assert_eq!(phases[0], 0.0, "without chance the first has the whole interval");
            phases.push(1.0);
            phases.sort_by(f64::total_cmp);
            let widest = phases.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            assert!(widest * count as f64 <= 2.0, "{count}: {widest}");
        }
    }
}
