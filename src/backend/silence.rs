use super::{Latency, Moment};
use crate::sync::{AtomicU32, Ordering};

/// Whether a backend has stopped answering: long before a timeout says so, the age of the requests that wait for it does.
///
/// It is silent where requests wait, and nothing has ended for much longer than its answers take. That may be bad luck, a
/// pause, or the end: so nobody is put out for it. Requests pass it by while there are others, but for one now and then,
/// each after four times the silence before the last, by which it shows that it is back.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// How many requests were let through in this silence.
    tried: AtomicU32,
}

/// Below this nothing is a silence: a pause of a garbage collector, a lost packet.
const LEAST: f64 = 0.025;

/// So many times its mean latency is one.
const MEANS: f64 = 8.0;

/// While nothing is known of its latency.
const UNKNOWN: f64 = 1.0;

impl Silence {
    /// Whether it is silent, and a request at `now` had better go elsewhere.
    pub(super) fn is_silent(latency: &Latency, now: Moment) -> bool {
        length(latency, now).is_some()
    }

    /// The same for a request that was picked for it: the one that is due now may pass, and is counted.
    pub(super) fn keeps_off(&self, latency: &Latency, now: Moment) -> bool {
        let Some(length) = length(latency, now) else {
            // Mostly it is zero, and reading is cheaper than writing.
            if self.tried.load(Ordering::Relaxed) != 0 {
                self.tried.store(0, Ordering::Relaxed);
            }
            return false;
        };
        // 1 at once, 2 after four times the threshold, 3 after sixteen.
        let turn = (length.log2() / 2.0) as u32 + 1;
        self.tried.fetch_max(turn, Ordering::Relaxed) >= turn
    }
}

/// How long it has been silent, in thresholds; `None` below one.
fn length(latency: &Latency, now: Moment) -> Option<f64> {
    let age = latency.mean_age(now).as_secs_f64();
    if age < LEAST {
        return None;
    }
    let mean = latency.mean(now).map_or(UNKNOWN / MEANS, |mean| mean.value);
    let silence = latency.faults(now).map_or(age, |last| last.idle.min(age));
    let length = silence / LEAST.max(MEANS * mean);
    (length >= 1.0).then_some(length)
}
