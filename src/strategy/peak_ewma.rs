use super::{Candidates, Hint, Index, Picker, Score, Strategy, sample};
use crate::backend::{Backend, Moment};
use std::sync::Arc;

/// The cheaper of two random backends by Finagle's Peak EWMA: `peak latency · (in flight + 1)`. O(1).
///
/// The latency is an average that jumps to every peak and forgets it over tens of seconds, so that one slow answer keeps
/// traffic away at once. Reading projects the average to now and writes nothing. A backend that was never measured costs
/// nothing until it has a request in flight, and then as much as Finagle's penalty: so it is tried by one request at a
/// time. Beyond Finagle, recent failures multiply the cost: where all answers take seconds, a failure after a millisecond
/// is no lesser peak.
///
/// Right where a slow answer foretells more of them. Where every backend pauses now and then, as garbage collectors do,
/// each peak drives traffic away for no reason: [`LeastLatency`](super::LeastLatency) averages instead.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma;

/// What a request in flight on a backend that was never measured costs: more than any latency.
const PENALTY: f64 = 1e9;

impl Strategy for PeakEwma {
    type Picker = Self;

    fn build(&self, _members: &[Arc<Backend>]) -> Self {
        *self
    }
}

impl Picker for PeakEwma {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let now = Moment::of(hint.now);
        sample::least(candidates, hint, 2, |backend| cost(backend, hint, now))
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let (backend, now) = (candidates.get(index)?, Moment::of(hint.now));
        let load = backend.load();
        let peak = load.latency().peak(now).unwrap_or(0.0);
        let parts = [
            ("peak latency", peak),
            ("in flight", load.work()),
            ("failures", sample::failures(load, now)),
            ("weight", hint.weight(backend)),
        ];
        Some(Score::new(cost(backend, hint, now), parts))
    }
}

fn cost(backend: &Backend, hint: &Hint<'_>, now: Moment) -> f64 {
    let load = backend.load();
    let in_flight = load.work();
    let cost = match load.latency().peak(now) {
        Some(peak) => peak * (in_flight + hint.work()),
        None if in_flight > 0.0 => PENALTY + in_flight,
        None => 0.0,
    };
    cost * (1.0 + sample::failures(load, now)) / hint.weight(backend)
}
