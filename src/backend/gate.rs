use crate::sync::{AtomicU64, Ordering};

/// Whether requests pass freely, or one at a time: while a backend is tried again after an ejection.
///
/// One word: the number of the trial, and above nothing else in it whether it is open, closed behind one request, or free
/// for one. The number keeps a permit of an old trial from opening a new one.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicU64);

const OPEN: u64 = 0;
const FREE: u64 = 1;
const TAKEN: u64 = 2;
const STATE: u64 = 3;
const NEXT: u64 = 4;

/// The right to pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pass {
    /// Nobody is kept.
    Free,
    /// The one that is tried, to be given back.
    Trial(u64),
}

impl Gate {
    /// Everyone passes.
    pub(super) fn open(&self) {
        _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            (word & STATE != OPEN).then(|| (word & !STATE) + (NEXT | OPEN))
        });
    }

    /// One passes at a time.
    pub(super) fn narrow(&self) {
        _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            (word & STATE == OPEN).then(|| (word & !STATE) + (NEXT | FREE))
        });
    }

    /// Whether everyone passes.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STATE == OPEN
    }

    /// Whether one passes at a time, and one does.
    pub(super) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STATE == TAKEN
    }

    /// Passes, unless another is being tried.
    pub(super) fn pass(&self) -> Option<Pass> {
        let word = self.0.load(Ordering::Relaxed);
        match word & STATE {
            OPEN => Some(Pass::Free),
            FREE => {
                let taken = word & !STATE | TAKEN;
                let swapped = self.0.compare_exchange(word, taken, Ordering::Relaxed, Ordering::Relaxed);
                swapped.ok().map(|_| Pass::Trial(taken))
            }
            _ => None,
        }
    }

    /// The next one may be tried. Nothing where the trial that `taken` was part of is over.
    pub(super) fn give_back(&self, taken: u64) {
        let free = taken & !STATE | FREE;
        _ = self.0.compare_exchange(taken, free, Ordering::Relaxed, Ordering::Relaxed);
    }
}
