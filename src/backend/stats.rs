// Not those that models watch: each is added to on its own, and there is nothing to interleave.
use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

/// Why a backend was put out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum EjectionCause {
    /// It could not be reached, or broke off.
    Transport,
    /// So many failures in a row.
    Consecutive,
    /// It failed more often than its peers.
    FailureRate,
    /// It was slower than its peers.
    Latency,
    /// It was on trial, and failed again.
    Trial,
    /// The host said so.
    Host,
}

impl EjectionCause {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Transport, Self::Consecutive, Self::FailureRate, Self::Latency, Self::Trial, Self::Host];

    /// The cause as one word in lower case, for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::Latency => "latency",
            Self::Trial => "trial",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What happened to a backend beside its requests, counted since it was created. Each number only ever grows.
#[derive(Debug, Default)]
pub struct Stats {
    ejections: [AtomicU32; EjectionCause::ALL.len()],
    passed: AtomicU32,
    failed: AtomicU32,
}

impl Stats {
    /// How many times it was put out because of `cause`.
    pub fn ejections(&self, cause: EjectionCause) -> u64 {
        self.ejections[cause as usize].load(Ordering::Relaxed).into()
    }

    /// How many health checks it passed, whether that changed anything or not.
    pub fn checks_passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed).into()
    }

    /// How many it failed.
    pub fn checks_failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed).into()
    }

    pub(super) fn ejected(&self, cause: EjectionCause) {
        self.ejections[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn checked(&self, passed: bool) {
        let count = if passed { &self.passed } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_count_and_a_word_of_its_own() {
        let stats = Stats::default();
        for (number, cause) in EjectionCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, number);
            (0..=number).for_each(|_| stats.ejected(cause));
            let same_word = |other: &EjectionCause| other.as_str() == cause.as_str();
            assert_eq!(EjectionCause::ALL.iter().filter(|other| same_word(other)).count(), 1, "{cause}");
        }
        assert_eq!(EjectionCause::ALL.map(|cause| stats.ejections(cause)), [1, 2, 3, 4, 5, 6]);
    }
}
