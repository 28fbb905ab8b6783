use super::{Moment, Outcome};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// How the requests of the last ten seconds went: what passive health is judged by.
///
/// Ten slots of a second each; one addition for each answer. A count that two threads lose between them as a second begins
/// does not matter.
#[derive(Debug, Default)]
pub struct Record {
    /// Faults since the last answer that was none.
    streak: AtomicU32,
    /// In one word: which second (24 bits), requests (20), faults (20).
    slots: [AtomicU64; SLOTS as usize],
}

const SLOTS: u64 = 10;
const FAULT: u64 = 1;
const REQUEST: u64 = 1 << 20;
const COUNTS: u64 = (1 << 40) - 1;
const SECOND: u64 = 0xff_ffff;

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
        let second = second(now);
        let slots = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let recent = slots.filter(|word| second.wrapping_sub(word >> 40) & SECOND < SLOTS);
        recent.fold(Window::default(), |window, word| Window {
            requests: window.requests + ((word & COUNTS) / REQUEST) as u32,
            faults: window.faults + (word % REQUEST) as u32,
        })
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
        let second = second(now);
        let slot = &self.slots[(second % SLOTS) as usize];
        let what = REQUEST + FAULT * u64::from(outcome.is_fault());
        let is_first = slot.load(Ordering::Relaxed) >> 40 != second;
        if is_first {
            slot.store(second << 40 | what, Ordering::Relaxed);
        } else {
            slot.fetch_add(what, Ordering::Relaxed);
        }
        is_first
    }

    /// It starts anew: what it was put out for is not held against it a second time.
    pub(super) fn restart(&self) {
        self.end_streak();
        self.slots.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }

    // Most of the time there is nothing to end, and reading is cheaper than writing.
    fn end_streak(&self) {
        if self.streak() != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }
}

fn second(now: Moment) -> u64 {
    (now.micros() / 1_000_000 + 1) & SECOND
}
