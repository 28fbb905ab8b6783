use super::{Moment, Outcome, latency::Average};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Whether a backend has stopped answering: long before a timeout says so, the age of the requests that wait for it does.
///
/// It is silent where requests wait, and nothing was answered for much longer than answers take. That may be bad luck, a
/// pause, or the end: so nobody is put out for it. Requests pass it by while there are others, but for one now and then,
/// each after four times the silence before the last, by which it shows that it is back. Where one of those waits in vain
/// as well, the silence is [proven](Self::is_proven): it is not that those before had asked for much.
///
/// Only an answer ends it, good or bad. That somebody's patience was at its end says nothing of the backend.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// How long answers take.
    usual: Average,
    /// When the last one came: microseconds of a [`Moment`], as the next.
    answered: AtomicU64,
    /// When the first request was let through since; 0 where none was.
    tried: AtomicU64,
    /// How many were.
    trials: AtomicU32,
}

/// Below this nothing is a silence: a pause of a garbage collector, a lost packet.
const LEAST: f64 = 0.025;

/// So many times what answers take is one.
const TIMES: f64 = 8.0;

/// While nothing is known of that, in seconds.
const UNKNOWN: f64 = 1.0;

/// Several that wait for so long, in seconds, prove it.
const SEVERAL: f64 = 1.0;

impl Silence {
    /// Takes in that there was an answer, or none.
    pub(super) fn heard(&self, outcome: Outcome, took: Duration, answers: u64, now: Moment) {
        if !outcome.is_answer() {
            return;
        }
        self.usual.sample(took.as_secs_f64(), answers, now);
        self.answered.store(now.micros(), Ordering::Relaxed);
        // Mostly nobody was let through, and reading is cheaper than writing.
        if self.tried.load(Ordering::Relaxed) != 0 {
            self.tried.store(0, Ordering::Relaxed);
            self.trials.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it is silent where requests have waited for `age` on average, and a request at `now` had better go elsewhere.
    pub(super) fn is_silent(&self, age: Duration, now: Moment) -> bool {
        self.thresholds(age, now).is_some()
    }

    /// The same for a request that was picked for it: the one that is due now may pass, and is counted.
    pub(super) fn keeps_off(&self, age: Duration, now: Moment) -> bool {
        let Some(thresholds) = self.thresholds(age, now) else { return false };
        // 1 at once, 2 after four times the threshold, 3 after sixteen.
        let turn = (thresholds.log2() / 2.0) as u32 + 1;
        let is_kept = self.trials.fetch_max(turn, Ordering::Relaxed) >= turn;
        if !is_kept {
            _ = self.tried.compare_exchange(0, now.micros(), Ordering::Relaxed, Ordering::Relaxed);
        }
        is_kept
    }

    /// Whether a request that came when it was silent already waits in vain as well; or, where no more come, several have for
    /// so long that they had hardly all asked for much.
    pub(super) fn is_proven(&self, age: Duration, waiting: u64, now: Moment) -> bool {
        let tried = self.tried.load(Ordering::Relaxed);
        let waits = now.micros().saturating_sub(tried) as f64 / 1e6;
        let in_vain = tried != 0 && waits >= self.threshold(now);
        self.is_silent(age, now) && (in_vain || waiting > 1 && age.as_secs_f64() >= SEVERAL)
    }

    /// For how many thresholds it has been silent; `None` below one.
    fn thresholds(&self, age: Duration, now: Moment) -> Option<f64> {
        let age = age.as_secs_f64();
        if age < LEAST {
            return None;
        }
        let since = now.micros().saturating_sub(self.answered.load(Ordering::Relaxed)) as f64 / 1e6;
        let thresholds = since.min(age) / self.threshold(now);
        (thresholds >= 1.0).then_some(thresholds)
    }

    fn threshold(&self, now: Moment) -> f64 {
        self.usual.read(now).map_or(UNKNOWN, |usual| (usual.value * TIMES).max(LEAST))
    }
}
