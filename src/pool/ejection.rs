use super::{Detector, detector::Peers, slowness::Speeds};
use crate::backend::{Backend, Backoff, EjectionCause, Moment};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// When traffic takes a backend out, and for how long: what a pool does with the outcomes of its requests.
///
/// A backend that cannot be reached, or that breaks off, is out at once, whatever is set here. One that answers, and
/// fails, is out where it fails so often in a row, or so much more than its peers; but never so many of a tier and zone at
/// once that the rest could not bear it, and never the last.
///
/// ```
/// use tower_balancer::{BackendPool, pool::{Detector, Ejection}};
///
/// let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
/// pool.set_ejection(Ejection::default().consecutive(3).max_ejected(0.3));
/// # Ok::<_, tower_balancer::pool::InvalidMember>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    consecutive: u32,
    detector: Detector,
    slower: Option<f64>,
    max_ejected: f64,
    pub(super) backoff: Backoff,
}

impl Ejection {
    /// Answers never take a backend out; failures of the transport still do.
    pub fn never() -> Self {
        Self { consecutive: 0, detector: Detector::Off, slower: None, ..Self::default() }
    }

    /// Faults in a row that take a backend out, 5 by default, or more where its peers fail as well; with 0 no number does.
    pub fn consecutive(self, faults: u32) -> Self {
        Self { consecutive: faults, ..self }
    }

    /// How a backend is compared with its peers.
    pub fn detector(self, detector: Detector) -> Self {
        Self { detector, ..self }
    }

    /// Takes out who is so many times slower than the backend in the middle, and slower than the spread of the pool explains;
    /// at least 3 backends and a factor above 1. Nobody is out for being slow unless this is set: a strategy that minds
    /// latency gives him less, which is better than nothing.
    pub fn slower_than(self, factor: f64) -> Self {
        Self { slower: Some(factor).filter(|factor| *factor > 1.0), ..self }
    }

    /// The share of a tier and zone, from 0 to 1, that may be out by ejection, a half by default: rounded down, but one of
    /// two or more in any case, unless it is 0. The [effective number](Self::most_of) of a small pool may surprise.
    pub fn max_ejected(self, share: f64) -> Self {
        Self { max_ejected: if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }, ..self }
    }

    /// How long a backend is out.
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// How many of `backends` in one tier and zone may be out by ejection.
    pub fn most_of(&self, backends: usize) -> usize {
        let most = (backends as f64 * self.max_ejected) as usize;
        let at_least = usize::from(backends > 1 && self.max_ejected > 0.0);
        most.max(at_least).min(backends.saturating_sub(1))
    }

    pub(super) fn minds_latency(&self) -> bool {
        self.slower.is_some()
    }

    /// Whether `backend` is to go, and why, given how its peers do.
    fn judge(&self, backend: &Backend, peers: &Survey, now: Moment) -> Option<(EjectionCause, String)> {
        let (streak, window) = (backend.record().streak(), backend.record().window(now));
        if self.consecutive > 0 && Detector::is_row(streak, self.consecutive, window, &peers.faults) {
            return Some((EjectionCause::Consecutive, format!("{streak} failures in a row")));
        }
        let latency = || backend.load().latency().mean(now).map(|mean| mean.value);
        let slow = || Some((EjectionCause::Latency, peers.speeds.judge(latency()?, self.slower?)?));
        let fails = self.detector.judge(window, &peers.faults);
        fails.map(|cause| (EjectionCause::FailureRate, cause)).or_else(slow)
    }
}

impl Default for Ejection {
    fn default() -> Self {
        let backoff = Backoff::default();
        Self { consecutive: 5, detector: Detector::Binomial, slower: None, max_ejected: 0.5, backoff }
    }
}

/// How a pool does.
#[derive(Debug, Default)]
struct Survey {
    faults: Peers,
    speeds: Speeds,
}

/// A pool's judge: the rules, and how the pool did when somebody last looked.
#[derive(Debug, Default)]
pub(super) struct Judge {
    rules: ArcSwap<Ejection>,
    peers: ArcSwap<Survey>,
    /// The second in which somebody last looked.
    surveyed: AtomicU64,
}

impl Judge {
    pub(super) fn rules(&self) -> Ejection {
        **self.rules.load()
    }

    pub(super) fn set_rules(&self, rules: Ejection) {
        self.rules.store(rules.into());
        self.surveyed.store(0, Ordering::Relaxed);
    }

    /// Why `backend`, one of `backends`, is to go after a fault at `now`, if it is.
    pub(super) fn judge(
        &self,
        backend: &Backend,
        backends: &[Arc<Backend>],
        now: Instant,
    ) -> Option<(EjectionCause, String)> {
        let rules = self.rules();
        let now = Moment::of(now);
        // Looking at everyone for each fault would make of an outage a second one. Once a second is as new as need be.
        let second = now.micros() / 1_000_000 + 1;
        let is_old = self.surveyed.fetch_max(second, Ordering::Relaxed) < second;
        // Unless one is to go for a few failures in a row, of a pool of which little was known then.
        let may_go = rules.consecutive > 0 && backend.record().streak() >= rules.consecutive;
        if is_old || may_go && self.peers.load().faults.is_young() {
            let windows = backends.iter().map(|backend| backend.record().window(now));
            let latencies = backends.iter().filter_map(|backend| backend.load().latency().mean(now));
            let speeds = match rules.slower {
                Some(_) => Speeds::survey(latencies.map(|mean| mean.value)),
                None => Speeds::default(),
            };
            self.peers.store(Arc::new(Survey { faults: rules.detector.survey(windows), speeds }));
        }
        rules.judge(backend, &self.peers.load(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_may_go_and_never_the_last() {
        let half = Ejection::default();
        assert_eq!([0, 1, 2, 3, 4, 5, 10].map(|backends| half.most_of(backends)), [0, 0, 1, 1, 2, 2, 5]);
        assert_eq!([1, 2, 3, 10].map(|backends| half.max_ejected(1.0).most_of(backends)), [0, 1, 2, 9]);
        assert_eq!([1, 2, 3, 10].map(|backends| half.max_ejected(0.1).most_of(backends)), [0, 1, 1, 1]);
        assert_eq!([1, 2, 10].map(|backends| half.max_ejected(0.0).most_of(backends)), [0, 0, 0]);
        assert_eq!(half.max_ejected(f64::NAN).most_of(10), 0);
    }
}
