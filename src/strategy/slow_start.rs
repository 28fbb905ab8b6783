use super::{Admission, Candidates, Hint, Index, Picker, Score, Strategy, hint::Factor};
use crate::{
    backend::{Backend, Moment},
    hash::mix,
    rng::Rng,
};
use std::{sync::Arc, time::Duration};

/// A backend that is new in rotation gets little at first, and its full share when it is warm: caches fill, code is
/// compiled, connections are made. A stage before any strategy.
///
/// The share is `max(least, (t / window)^(1 / aggression))`, as Envoy has it, where `t` is the time since its first request
/// in this rotation. With [`evidence`](Self::evidence) answers count instead of time. What counts is the share beside the
/// greatest of the others': where all are new, because the balancer is, nobody gets little. (Of more than 32 candidates it
/// is the greatest of 32.)
///
/// It is a factor on the weight where a strategy weighs, and the probability that a backend keeps its turn, or its key,
/// where one takes turns. A strategy that weighs what is in flight takes it for the probability too where nothing is, or
/// one that is new would get nothing while there is little to do: see [`Hint::weight`]. So one that looks at all backends
/// may keep a new one at one request at a time, whatever its share.
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
}

impl<G> SlowStart<G> {
    /// Over a minute, in a straight line, from a tenth.
    pub fn new(inner: G) -> Self {
        let ramp = Ramp { window: 60.0, exponent: 1.0, least: LEAST, evidence: 0 };
        Self { inner, ramp }
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

    /// The share to begin with, from 0.01 to 1: with none at all it would never warm up. What is no number counts as a tenth.
    pub fn least(self, least: f64) -> Self {
        let least = if least.is_nan() { LEAST } else { least.clamp(0.01, 1.0) };
        Self { ramp: Ramp { least, ..self.ramp }, ..self }
    }

    /// The share grows with the answers that a backend gives, and is full after so many: one that gets no traffic does not
    /// get warm. Answers count that it gives while its mean latency is within twice the pool's median; with others it stays
    /// where it is. What it had answered before somebody first looked counts. The window says nothing then.
    pub fn evidence(self, answers: u32) -> Self {
        Self { ramp: Ramp { evidence: answers, ..self.ramp }, ..self }
    }
}

const LEAST: f64 = 0.1;

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

/// An answer of one whose mean is so many times the pool's median is no evidence of being warm.
const SLOW: f64 = 2.0;

impl<G: Strategy> Strategy for SlowStart<G> {
    type Picker = SlowStartPicker<G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        SlowStartPicker { inner: self.inner.build(members), ramp: self.ramp }
    }
}

/// The picker of a [`SlowStart`].
#[derive(Debug)]
pub struct SlowStartPicker<P> {
    inner: P,
    ramp: Ramp,
}

impl<P> SlowStartPicker<P> {
    /// The share of a backend, beside one that is warm.
    fn share(&self, backend: &Backend, now: Moment) -> f64 {
        let load = backend.load();
        if self.ramp.evidence == 0 {
            return self.ramp.at(load.in_rotation(now).unwrap_or(0.0) / self.ramp.window);
        }
        self.ramp.at(f64::from(load.proven()) / f64::from(self.ramp.evidence))
    }

    /// The shares beside the greatest.
    fn warmth(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Warmth<'_, P> {
        let now = Moment::of(hint.now);
        let mut greatest = self.ramp.least;
        for backend in some(candidates, hint) {
            greatest = greatest.max(self.share(backend, now));
            // Mostly the first one is warm.
            if greatest >= 1.0 {
                break;
            }
        }
        Warmth { picker: self, greatest }
    }

    /// Looks at what one that is not warm has answered until now.
    fn look(&self, backend: &Backend, candidates: &Candidates<'_>, hint: &Hint<'_>) {
        let load = backend.load();
        if load.proven() < self.ramp.evidence {
            let mean = load.latency().mean(Moment::of(hint.now)).map_or(0.0, |mean| mean.value);
            load.prove(mean <= SLOW * median(candidates, hint).unwrap_or(mean));
        }
    }
}

/// The share of each backend, beside the greatest.
struct Warmth<'a, P> {
    picker: &'a SlowStartPicker<P>,
    greatest: f64,
}

impl<P: Picker> Factor for Warmth<'_, P> {
    fn of(&self, backend: &Backend, now: Moment) -> f64 {
        (self.picker.share(backend, now) / self.greatest).min(1.0)
    }
}

/// The most candidates that are looked at.
const MOST: usize = 32;

/// The candidates; of many, some that are evenly spaced, from one on that the lot falls on.
fn some<'a>(candidates: &Candidates<'a>, hint: &Hint<'_>) -> impl Iterator<Item = &'a Backend> + use<'a> {
    let (backends, eligible) = (candidates.backends(), candidates.eligible());
    let looked_at = eligible.len().min(MOST);
    let first = Rng::new(mix(hint.seed, WARMTH)).below(eligible.len());
    let at = move |number| (first + number * eligible.len() / looked_at) % eligible.len();
    (0..looked_at).map(move |number| &*backends[eligible[at(number)].get()])
}

/// Keeps that lot apart from others of the same seed.
const WARMTH: u64 = 0x7761_726d;

/// The median of the mean latencies, in seconds: the lower one of two.
fn median(candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<f64> {
    let now = Moment::of(hint.now);
    let (mut means, mut n) = ([0.0; MOST], 0);
    for mean in some(candidates, hint).filter_map(|backend| backend.load().latency().mean(now)) {
        means[n] = mean.value;
        n += 1;
    }
    let middle = n.checked_sub(1)? / 2;
    Some(*means[..n].select_nth_unstable_by(middle, f64::total_cmp).1)
}

impl<P: Picker> Picker for SlowStartPicker<P> {
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        self.inner.admit(candidates)
    }

    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let picked = hint.scaled(&self.warmth(candidates, hint), |hint| self.inner.pick(candidates, hint))?;
        if self.ramp.evidence > 0
            && let Some(backend) = candidates.get(picked)
        {
            self.look(backend, candidates, hint);
        }
        Some(picked)
    }

    fn binds(&self, index: Index, hint: &Hint<'_>) -> bool {
        self.inner.binds(index, hint)
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let warmth = self.warmth(candidates, hint);
        let mut score = hint.scaled(&warmth, |hint| self.inner.score(candidates, index, hint))?;
        score.parts.push(("slow start", warmth.of(candidates.get(index)?, Moment::of(hint.now))));
        Some(score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Lease, Outcome},
        strategy::{Eligible, RoundRobin},
    };
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn now() -> Instant {
        Instant::now()
    }

    fn members(n: u32) -> Vec<Arc<Backend>> {
        (0..n).map(|n| Arc::new(Backend::new(n.to_string()))).collect()
    }

    /// One request after the other, each of which backend 0 answers in `takes` and the others in 5 ms. Calls `each` after
    /// each pick with its number.
    fn serve<P: Picker>(
        picker: &SlowStartPicker<P>,
        members: &[Arc<Backend>],
        picks: u64,
        takes: Duration,
        mut each: impl FnMut(Moment),
    ) {
        let (start, all) = (now(), Eligible::new(members.iter().map(|_| true)));
        for pick in 0..picks {
            let now = start + Duration::from_millis(pick);
            let index = picker.pick(&Candidates::new(members, &all), &Hint::new(now, mix(pick, 1))).unwrap();
            let took = if index.get() == 0 { takes } else { Duration::from_millis(5) };
            Lease::take(Arc::clone(&members[index.get()]), now).complete(Outcome::Success, now + took);
            each(Moment::of(now));
        }
    }

    #[test]
    fn slow_answers_are_no_evidence_when_they_are_over_either() {
        for n in [2, 4] {
            let members = members(n);
            let picker = SlowStart::new(RoundRobin::new()).evidence(50).build(&members);
            let slow = &members[0];
            serve(&picker, &members, 3_000, Duration::from_millis(50), |now| {
                assert_eq!(picker.share(slow, now), 0.1);
            });
            assert!(slow.load().answers_in_rotation() > 75);
            assert!(members[1..].iter().all(|other| picker.share(other, Moment::of(now())) == 1.0));
            // Its mean is well again after so many answers; it takes half as many again as are evidence until it is half warm.
            let (mut well, mut half_warm) = (None, None);
            serve(&picker, &members, 6_000, Duration::from_millis(5), |now| {
                let answers = slow.load().answers_in_rotation();
                if slow.load().latency().mean(now).unwrap().value <= 0.0099 {
                    well.get_or_insert(answers);
                }
                if picker.share(slow, now) >= 0.5 {
                    half_warm.get_or_insert(answers);
                }
            });
            let after = half_warm.unwrap() - well.unwrap();
            assert!((24..=27).contains(&after), "{n}: {after}");
            assert_eq!(picker.share(slow, Moment::of(now())), 1.0);
        }
    }

    #[test]
    fn evidence_is_of_one_rotation_and_survives_a_rebuild() {
        let members = members(3);
        let strategy = SlowStart::new(RoundRobin::new()).evidence(50);
        let shares =
            |picker: &SlowStartPicker<_>| [0, 1, 2].map(|place| picker.share(&members[place], Moment::of(now())));
        let old = strategy.build(&members);
        serve(&old, &members, 75, Duration::from_millis(5), |_| ());
        let before = shares(&old);
        assert!(before.iter().all(|share| (0.4..0.6).contains(share)), "{before:?}");
        let new = strategy.build(&members);
        assert_eq!(shares(&new), before);
        members[1].mark_unhealthy("Connection refused", now());
        members[1].mark_healthy("asked", now());
        assert_eq!(shares(&new), [before[0], 0.1, before[2]]);
        serve(&new, &members, 1_000, Duration::from_millis(5), |_| ());
        assert_eq!(shares(&new), [1.0; 3]);
    }

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
        for (least, share) in [(0.0, 0.01), (-1.0, 0.01), (f64::INFINITY, 1.0), (f64::NAN, 0.1)] {
            assert_eq!(at(SlowStart::new(()).least(least), 0.0), share);
        }
    }
}
