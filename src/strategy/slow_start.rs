use super::{Admission, Candidates, Hint, Index, Picker, Score, Strategy, hint::Factor};
use crate::{
    backend::{Backend, Moment},
    ewma::blend,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A backend that is new in rotation gets little at first, and its full share when it is warm: caches fill, code is
/// compiled, connections are made. A stage before any strategy.
///
/// The share is `max(least, (t / window)^(1 / aggression))`, as Envoy has it, where `t` is the time since its first request
/// in this rotation. It is a factor on the weight where a strategy weighs, and the probability that a backend keeps its
/// turn, or its key, where one takes turns. With [`evidence`](Self::evidence) answers count instead of time.
///
/// ```
/// use std::time::Duration;
/// use tower_balancer::strategy::{LeastRequest, SlowStart};
///
/// let strategy = SlowStart::new(LeastRequest::new()).window(Duration::from_secs(30));
/// # let _ = strategy;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SlowStart<G> {
    inner: G,
    ramp: Ramp,
}

/// How the share of a backend grows.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    /// Seconds.
    window: f64,
    exponent: f64,
    least: f64,
    /// Answers; 0 is by time.
    evidence: u32,
    /// The pool's mean latency in seconds; 0 while unknown.
    mean: f64,
}

impl<G> SlowStart<G> {
    /// Over a minute, in a straight line, from a tenth.
    pub fn new(inner: G) -> Self {
        Self { inner, ramp: Ramp { window: 60.0, exponent: 1.0, least: 0.1, evidence: 0, mean: 0.0 } }
    }

    /// How long until a backend has its full share.
    pub fn window(self, window: Duration) -> Self {
        Self { ramp: Ramp { window: window.as_secs_f64(), ..self.ramp }, ..self }
    }

    /// With 1 the share grows in a straight line; above, faster at first. What is not a positive number counts as 1.
    pub fn aggression(self, aggression: f64) -> Self {
        let aggression = if aggression > 0.0 && aggression.is_finite() { aggression } else { 1.0 };
        Self { ramp: Ramp { exponent: 1.0 / aggression, ..self.ramp }, ..self }
    }

    /// The share to begin with, from 0.01 to 1: with none at all it would never warm up.
    pub fn least(self, least: f64) -> Self {
        Self { ramp: Ramp { least: least.clamp(0.01, 1.0), ..self.ramp }, ..self }
    }

    /// The share grows with the answers that a backend gives, and is full after so many: one that gets no traffic does not
    /// get warm. While its mean latency is above twice the pool's it stays where it began. The window says nothing then.
    pub fn evidence(self, answers: u32) -> Self {
        Self { ramp: Ramp { evidence: answers, ..self.ramp }, ..self }
    }
}

impl Factor for Ramp {
    fn of(&self, backend: &Backend, now: Moment) -> f64 {
        let load = backend.load();
        if self.evidence == 0 {
            return self.at(load.in_rotation(now).unwrap_or(0.0) / self.window);
        }
        let is_slow = load.latency().mean(now).is_some_and(|mean| self.mean > 0.0 && mean.value > SLOW * self.mean);
        self.at(if is_slow { 0.0 } else { f64::from(load.answers_in_rotation()) / f64::from(self.evidence) })
    }
}

impl Ramp {
    /// After such a part of the whole ramp.
    fn at(&self, part: f64) -> f64 {
        // A window of nothing is over at once.
        if part >= 1.0 || part.is_nan() {
            return 1.0;
        }
        part.powf(self.exponent).max(self.least)
    }
}

/// An answer that took so many times the pool's mean is no evidence of being warm.
const SLOW: f64 = 2.0;

impl<G: Strategy> Strategy for SlowStart<G> {
    type Picker = SlowStartPicker<G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        SlowStartPicker { inner: self.inner.build(members), ramp: self.ramp, mean: AtomicU64::new(0) }
    }
}

/// The picker of a [`SlowStart`].
#[derive(Debug)]
pub struct SlowStartPicker<P> {
    inner: P,
    ramp: Ramp,
    /// The mean latency of those that were picked, in seconds, as `f64` bits; zero while unknown.
    mean: AtomicU64,
}

impl<P: Picker> Picker for SlowStartPicker<P> {
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        self.inner.admit(candidates)
    }

    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let mean = f64::from_bits(self.mean.load(Ordering::Relaxed));
        let picked = hint.scaled(&Ramp { mean, ..self.ramp }, |hint| self.inner.pick(candidates, hint))?;
        if self.ramp.evidence > 0
            && let Some(seen) = candidates.get(picked).and_then(|it| it.load().latency().mean(Moment::of(hint.now)))
        {
            let mean = if mean > 0.0 { blend(mean, seen.value, 0.05) } else { seen.value };
            self.mean.store(mean.to_bits(), Ordering::Relaxed);
        }
        Some(picked)
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let ramp = Ramp { mean: f64::from_bits(self.mean.load(Ordering::Relaxed)), ..self.ramp };
        let mut score = hint.scaled(&ramp, |hint| self.inner.score(candidates, index, hint))?;
        score.parts.push(("slow start", ramp.of(candidates.get(index)?, Moment::of(hint.now))));
        Some(score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_as_envoy_has_it() {
        let at = |aggression: f64, seconds: f64| SlowStart::new(()).aggression(aggression).ramp.at(seconds / 60.0);
        // At aggression 1, and squared at aggression 2.
        let shares = [(0.0, 0.1, 0.01), (6.0, 0.1, 0.1), (15.0, 0.25, 0.25), (30.0, 0.5, 0.5), (45.0, 0.75, 0.75)];
        for (seconds, straight, squared) in shares.into_iter().chain([(60.0, 1.0, 1.0)]) {
            assert!((at(1.0, seconds) - straight).abs() < 1e-4, "{seconds}");
            assert!((at(2.0, seconds).powi(2) - squared).abs() < 1e-4, "{seconds}");
        }
    }

    #[test]
    fn no_window_and_no_aggression_are_as_good_as_defined() {
        let at = |strategy: SlowStart<()>, elapsed: f64| strategy.ramp.at(elapsed / strategy.ramp.window);
        for elapsed in [0.0, 1.0] {
            assert_eq!(at(SlowStart::new(()).window(Duration::ZERO), elapsed), 1.0);
        }
        for aggression in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(at(SlowStart::new(()).aggression(aggression), 30.0), 0.5);
        }
        assert_eq!(at(SlowStart::new(()).least(0.0), 0.0), 0.01);
    }
}
