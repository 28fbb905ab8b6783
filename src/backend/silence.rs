use super::{Latency, Moment};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Whether a backend has stopped answering: long before a timeout says so, the age of the requests that wait for it does.
///
/// It is silent where requests wait, and nothing has ended for much longer than its answers take. That may be bad luck, a
/// pause, or the end: so nobody is put out for it. Requests pass it by while there are others, but for one now and then,
/// each after four times the silence before the last, by which it shows that it is back.
///
/// A request that [leaves](Self::leave) because another backend has answered it waits no more, and the silence goes on as
/// if it did: until something ends.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// How many requests were let through in this silence.
    tried: AtomicU32,
    /// Since when the first one that left had waited: microseconds, plus 1; 0 where none did.
    left: AtomicU64,
}

/// Below this nothing is a silence: a pause of a garbage collector, a lost packet.
const LEAST: f64 = 0.025;

/// So many times its mean latency is one.
const MEANS: f64 = 8.0;

/// While nothing is known of its latency.
const UNKNOWN: f64 = 1.0;

/// Where requests need not wait for it, one more is let through so often, in seconds.
const EACH: f64 = 5.0;

/// A silence that goes on.
struct Length {
    seconds: f64,
    /// How many times as long as what is a silence: 1 or more.
    thresholds: f64,
    /// Requests have left.
    left: bool,
}

impl Silence {
    /// Whether it is silent, and a request at `now` had better go elsewhere.
    pub(super) fn is_silent(&self, latency: &Latency, now: Moment) -> bool {
        self.length(latency, now).is_some()
    }

    /// Whether it is silent to several: one that was let through waits in vain as well, or has left. One alone may have asked
    /// for much.
    pub(super) fn is_proven(&self, latency: &Latency, now: Moment) -> bool {
        self.length(latency, now)
            .is_some_and(|length| length.thresholds >= 2.0 && (length.left || latency.waiting() > 1))
    }

    /// The same for a request that was picked for it: the one that is due now may pass, and is counted.
    pub(super) fn keeps_off(&self, latency: &Latency, now: Moment) -> bool {
        // Mostly nobody waits, and the time need not be known.
        if latency.is_idle() && self.left.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Some(length) = self.length(latency, now) else {
            self.end();
            return false;
        };
        // 1 at once, 2 after four times the threshold, 3 after sixteen.
        let more = if length.left { length.seconds / EACH } else { 0.0 };
        let turn = (length.thresholds.log2() / 2.0) as u32 + 1 + more as u32;
        self.tried.fetch_max(turn, Ordering::Relaxed) >= turn
    }

    /// A request that has waited since `started` is about to leave.
    pub(super) fn leave(&self, latency: &Latency, started: Moment, now: Moment) {
        if self.left_for(latency, now) == 0.0 {
            self.left.store(started.micros() + 1, Ordering::Relaxed);
        }
    }

    // Mostly there is nothing to write, and reading is cheaper.
    fn end(&self) {
        if self.tried.load(Ordering::Relaxed) != 0 {
            self.tried.store(0, Ordering::Relaxed);
        }
        if self.left.load(Ordering::Relaxed) != 0 {
            self.left.store(0, Ordering::Relaxed);
        }
    }

    /// How long it has been silent; `None` where that is nothing.
    fn length(&self, latency: &Latency, now: Moment) -> Option<Length> {
        let left = self.left_for(latency, now);
        let age = latency.mean_age(now).as_secs_f64().max(left);
        if age < LEAST {
            return None;
        }
        let mean = latency.mean(now).map_or(UNKNOWN / MEANS, |mean| mean.value);
        let seconds = latency.faults(now).map_or(age, |last| last.idle.min(age));
        let thresholds = seconds / LEAST.max(MEANS * mean);
        (thresholds >= 1.0).then_some(Length { seconds, thresholds, left: left > 0.0 })
    }

    /// Seconds since the first of those came that have left and after whom nothing has ended.
    fn left_for(&self, latency: &Latency, now: Moment) -> f64 {
        let Some(left) = self.left.load(Ordering::Relaxed).checked_sub(1) else { return 0.0 };
        let ago = now.micros().saturating_sub(left) as f64 / 1e6;
        // The last end is known to a millisecond.
        let has_ended = latency.faults(now).is_some_and(|last| last.idle + 0.001 < ago);
        if has_ended { 0.0 } else { ago }
    }
}
