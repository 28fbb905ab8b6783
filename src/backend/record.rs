use super::{
    Moment, Outcome,
    recent::{ALL, PART, Recent, Second},
};
use crate::sync::{AtomicU32, Ordering};

/// How the requests of the last ten seconds went: what passive health is judged by.
#[derive(Debug, Default)]
pub struct Record {
    /// Faults since the last answer that was none.
    streak: AtomicU32,
    /// Requests, and faults among them.
    recent: Recent,
}

/// Requests, and how many of them failed for the backend's fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Those that say something about the backend: not what was cancelled or lost.
    pub requests: u32,
    /// Those that speak against it.
    pub faults: u32,
}

impl Record {
    /// Faults in a row. An [`Overload`](Outcome::Overload) neither adds to them nor ends them; nor does a
    /// [`ConnectFault`](Outcome::ConnectFault), which takes the backend out on its own.
    pub fn streak(&self) -> u32 {
        self.streak.load(Ordering::Relaxed)
    }

    /// The last nine to ten seconds.
    pub fn window(&self, now: Moment) -> Window {
        let counts = self.recent.until(Second::of(now));
        Window { requests: counts.all as u32, faults: counts.part as u32 }
    }

    /// Takes in one more, and says whether it is the first of a second.
    pub(super) fn add(&self, outcome: Outcome, now: Moment) -> bool {
        match outcome {
            Outcome::Cancelled | Outcome::Lost => return false,
            Outcome::BackendFault | Outcome::Reset | Outcome::Timeout => {
                _ = self.streak.fetch_add(1, Ordering::Relaxed)
            }
            Outcome::Success | Outcome::ClientFault => self.end_streak(),
            Outcome::Overload | Outcome::ConnectFault => {}
        }
        self.recent.add(if outcome.is_fault() { ALL + PART } else { ALL }, Second::of(now))
    }

    /// It starts anew: what it was put out for is not held against it a second time.
    pub(super) fn restart(&self) {
        self.end_streak();
        self.recent.clear();
    }

    // Most of the time there is nothing to end, and reading is cheaper than writing.
    fn end_streak(&self) {
        if self.streak() != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }
}
