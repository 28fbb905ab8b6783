use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// A point in time as a number: microseconds since a day before the first moment that this process heard of.
///
/// An [`Instant`] has no number that an atomic could keep, and its arithmetic costs more than the rest of a decision. A
/// decision that looks at many backends makes one of these and asks all of them with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The point in time `now`. Before the first moment there is no other.
    pub fn of(now: Instant) -> Self {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        // The first that is heard of may be the end of an ejection, and the present before it. A clock that has not run for a
        // day yet begins at its own beginning.
        let day = Duration::from_secs(86_400);
        let first = *FIRST.get_or_init(|| now.checked_sub(day).unwrap_or(now));
        Self(now.saturating_duration_since(first).as_micros() as u64)
    }

    /// The time since `earlier`; zero where that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn micros(self) -> u64 {
        self.0
    }

    pub(super) fn millis(self) -> u32 {
        (self.0 / 1_000) as u32
    }
}
