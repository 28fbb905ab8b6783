use super::{
    Candidates, Hint, Index, Picker, Strategy,
    weighted_round_robin::{Scale, pick},
};
use crate::backend::{Backend, Moment, Report};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Turns in proportion to what the backends say that they can do: gRPC's client-side weighted round robin.
///
/// A backend's weight is the requests per second that it would answer if it were fully used, less a penalty for errors:
/// `qps / (utilization + eps / qps * penalty)`, times its configured weight. Backends that tell no requests per second
/// or no utilization count as the mean of the others, and while fewer than two tell both, the configured weights are all
/// there is. The turns are those of [`WeightedRoundRobin`](super::WeightedRoundRobin): O(1), but for the pick that finds the
/// weights [too old](Self::update_period) and makes them anew, O(n).
///
/// Backends tell it in the answer's head or trailers: see `http::orca`, and `http::ReportLoadLayer` for what makes an
/// axum or tonic server do so.
///
/// ```
/// use std::{sync::Arc, time::{Duration, Instant}};
/// use tower_balancer::{
///     backend::{Backend, Report},
///     strategy::{Candidates, ClientWeighted, Eligible, Hint, Picker, Strategy},
/// };
///
/// let backends = [Arc::new(Backend::new("strong")), Arc::new(Backend::new("weak"))];
/// let now = Instant::now();
/// for (backend, utilization) in backends.iter().zip([0.25, 0.5]) {
///     backend.reported(&Report { utilization, qps: 100.0, ..Report::default() }, now);
/// }
///
/// let picker = ClientWeighted::new().blackout(Duration::ZERO).build(&backends);
/// let (all, hint) = (Eligible::new([true, true]), Hint::new(now, 0));
/// let picks = (0..30).filter_map(|_| picker.pick(&Candidates::new(&backends, &all), &hint));
/// assert_eq!(picks.filter(|index| index.get() == 0).count(), 20);
/// ```
#[derive(Clone, Debug)]
pub struct ClientWeighted {
    sequence: Arc<AtomicU64>,
    rule: Rule,
}

/// When a report counts, and what it is worth.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// Seconds.
    blackout: f64,
    /// Seconds.
    expiry: f64,
    period: Duration,
    penalty: f64,
}

impl Default for ClientWeighted {
    fn default() -> Self {
        let rule = Rule { blackout: 10.0, expiry: 180.0, period: Duration::from_secs(1), penalty: 1.0 };
        Self { sequence: Arc::default(), rule }
    }
}

impl ClientWeighted {
    /// With gRPC's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a backend must have told before it is believed. Defaults to 10 s; begins again after a silence of three
    /// minutes.
    pub fn blackout(self, blackout: Duration) -> Self {
        self.rule(|rule| rule.blackout = blackout.as_secs_f64())
    }

    /// How long a report counts where no other follows. Defaults to three minutes.
    pub fn expiry(self, expiry: Duration) -> Self {
        self.rule(|rule| rule.expiry = expiry.as_secs_f64())
    }

    /// How often the weights follow the reports: whichever pick is the first after so long makes them anew. Defaults to
    /// 1 s; less than 100 ms counts as that.
    pub fn update_period(self, period: Duration) -> Self {
        self.rule(|rule| rule.period = period.max(Duration::from_millis(100)))
    }

    /// What the share of errors, from 0 to 1, is multiplied with to be added to the utilization. Defaults to 1; what is
    /// no finite number from zero up counts as zero.
    pub fn error_penalty(self, penalty: f64) -> Self {
        self.rule(|rule| rule.penalty = if penalty.is_finite() { penalty.max(0.0) } else { 0.0 })
    }

    fn rule(mut self, change: impl FnOnce(&mut Rule)) -> Self {
        change(&mut self.rule);
        self
    }
}

impl Strategy for ClientWeighted {
    type Picker = ClientWeightedPicker;

    fn build(&self, members: &[Arc<Backend>]) -> ClientWeightedPicker {
        let picker = ClientWeightedPicker {
            sequence: Arc::clone(&self.sequence),
            strides: members.iter().map(|_| AtomicU16::default()).collect(),
            due: AtomicU64::new(0),
            rule: self.rule,
        };
        picker.weigh(members, |_| None);
        picker
    }
}

/// The strides of [`ClientWeighted`] over the members of a pool, as of the last update.
#[derive(Debug)]
pub struct ClientWeightedPicker {
    sequence: Arc<AtomicU64>,
    strides: Box<[AtomicU16]>,
    /// The moment of the next update, in microseconds.
    due: AtomicU64,
    rule: Rule,
}

impl Picker for ClientWeightedPicker {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let now = Moment::of(hint.now);
        if self.is_due(now.micros()) {
            self.weigh(candidates.backends(), |backend| self.rule.weight(backend, now));
        }
        pick(&self.sequence, &self.strides, |stride| stride.load(Ordering::Relaxed), candidates, hint)
    }
}

impl ClientWeightedPicker {
    /// Whether an update is due, and this pick's to do.
    fn is_due(&self, now: u64) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let next = now.saturating_add(u64::try_from(self.rule.period.as_micros()).unwrap_or(u64::MAX));
        now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Makes the strides anew, in place. Asks `told` more than once about each, and a report may come in between: a
    /// stride is then off by the difference until the next update.
    fn weigh(&self, backends: &[Arc<Backend>], told: impl Fn(&Backend) -> Option<f64>) {
        let sum = |(sum, count), weight| (sum + weight, count + 1.0);
        let (sum, count) = backends.iter().filter_map(|backend| told(backend)).fold((0.0, 0.0), sum);
        // Of one alone it is its own, and all are alike.
        let mean = if count > 0.0 { sum / count } else { 1.0 };
        let weight = |backend: &Arc<Backend>| told(backend).unwrap_or(mean) * backend.weight();
        let scale = Scale::of(backends.iter().map(weight));
        for (stride, backend) in self.strides.iter().zip(backends) {
            stride.store(scale.stride(weight(backend)), Ordering::Relaxed);
        }
    }
}

impl Rule {
    /// What `backend` said, where that counts now.
    fn weight(&self, backend: &Backend, now: Moment) -> Option<f64> {
        let reported = backend.report(now)?;
        let counts = reported.since >= self.blackout && reported.age < self.expiry;
        if counts { weight(&reported.report, self.penalty) } else { None }
    }
}

/// Requests per second at full use, as gRPC has it.
fn weight(report: &Report, penalty: f64) -> Option<f64> {
    let &Report { utilization, qps, eps, .. } = report;
    (utilization > 0.0 && qps > 0.0).then(|| qps / (utilization + eps / qps * penalty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Weight, strategy::Eligible};
    use std::time::Instant;

    fn of(utilization: f64, qps: f64, eps: f64) -> Report {
        Report { utilization, qps, eps, ..Report::default() }
    }

    #[test]
    fn the_weight_is_grpcs() {
        assert_eq!(weight(&of(0.5, 100.0, 0.0), 1.0), Some(200.0));
        assert_eq!(weight(&of(0.5, 100.0, 50.0), 1.0), Some(100.0));
        assert_eq!(weight(&of(0.5, 100.0, 50.0), 0.0), Some(200.0));
        assert_eq!(weight(&of(0.25, 10.0, 1.0), 2.5), Some(20.0));
        assert_eq!(weight(&of(0.0, 100.0, 50.0), 1.0), None);
        assert_eq!(weight(&of(0.5, 0.0, 50.0), 1.0), None);
    }

    /// Backends of such weights, and a moment from which on to look at them.
    fn pool(weights: &[f64]) -> (Vec<Arc<Backend>>, Instant) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        let start = Instant::now();
        Moment::of(start);
        let backend = |&weight: &f64| {
            let backend = Backend::new(weight.to_string());
            backend.set_weight(Weight::new(weight).unwrap());
            Arc::new(backend)
        };
        (weights.iter().map(backend).collect(), start)
    }

    /// How often each is picked in so many picks, all at `now`.
    fn counts(picker: &impl Picker, backends: &[Arc<Backend>], now: Instant, picks: usize) -> Vec<usize> {
        let all = Eligible::new(backends.iter().map(|_| true));
        let mut counts = vec![0; backends.len()];
        for seed in 0..picks as u64 {
            let index = picker.pick(&Candidates::new(backends, &all), &Hint::new(now, seed));
            counts[index.unwrap().get()] += 1;
        }
        counts
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_backend_is_believed_after_the_blackout_and_until_the_expiry() {
        let (backends, start) = pool(&[1.0, 1.0]);
        let picker = ClientWeighted::new().build(&backends);
        for second in 0..=10 {
            let now = start + SECOND * second;
            backends[0].reported(&of(0.25, 100.0, 0.0), now);
            backends[1].reported(&of(0.5, 100.0, 0.0), now);
            let expected = if second < 10 { [15, 15] } else { [20, 10] };
            assert_eq!(counts(&picker, &backends, now, 30), expected, "after {second} s");
        }
        assert_eq!(counts(&picker, &backends, start + SECOND * 189, 30), [20, 10]);
        assert_eq!(counts(&picker, &backends, start + SECOND * 190, 30), [15, 15]);
        // After the silence it takes another blackout.
        for (second, expected) in [(200, [15, 15]), (205, [15, 15]), (210, [20, 10])] {
            let now = start + SECOND * second;
            backends[0].reported(&of(0.25, 100.0, 0.0), now);
            backends[1].reported(&of(0.5, 100.0, 0.0), now);
            assert_eq!(counts(&picker, &backends, now, 30), expected, "after {second} s");
        }
    }

    #[test]
    fn weights_change_once_a_period() {
        let (backends, start) = pool(&[1.0, 1.0]);
        let picker = ClientWeighted::new().blackout(Duration::ZERO).update_period(SECOND * 5).build(&backends);
        assert_eq!(counts(&picker, &backends, start, 30), [15, 15]);
        backends[0].reported(&of(0.25, 100.0, 0.0), start);
        backends[1].reported(&of(0.5, 100.0, 0.0), start);
        assert_eq!(counts(&picker, &backends, start + SECOND * 4, 30), [15, 15]);
        assert_eq!(counts(&picker, &backends, start + SECOND * 5, 30), [20, 10]);
    }

    #[test]
    fn who_does_not_tell_counts_as_the_mean_of_the_others() {
        let (backends, start) = pool(&[1.0, 1.0, 1.0]);
        let strategy = ClientWeighted::new().blackout(Duration::ZERO);
        backends[0].reported(&of(0.25, 100.0, 0.0), start);
        // One alone says nothing about the others.
        assert_eq!(counts(&strategy.build(&backends), &backends, start, 30), [10, 10, 10]);
        backends[2].reported(&of(0.5, 100.0, 0.0), start);
        assert_eq!(counts(&strategy.build(&backends), &backends, start, 90_000), [40_000, 30_000, 20_000]);
        // Told, and of no use: neither requests nor utilization.
        backends[1].reported(&Report { in_flight: Some(1.0), ..Report::default() }, start);
        assert_eq!(counts(&strategy.build(&backends), &backends, start, 90_000), [40_000, 30_000, 20_000]);
    }

    #[test]
    fn what_is_told_is_multiplied_with_the_configured_weight() {
        let (backends, start) = pool(&[1.0, 4.0]);
        let strategy = ClientWeighted::new().blackout(Duration::ZERO);
        assert_eq!(counts(&strategy.build(&backends), &backends, start, 50_000), [10_000, 40_000]);
        backends[0].reported(&of(0.25, 100.0, 0.0), start);
        backends[1].reported(&of(0.5, 100.0, 0.0), start);
        assert_eq!(counts(&strategy.build(&backends), &backends, start, 30_000), [10_000, 20_000]);
    }

    #[test]
    fn extreme_reports_and_weights_are_served() {
        let (backends, start) = pool(&[f64::MAX, 0.0, 1e-300]);
        let huge = f64::from(f32::MAX);
        for (backend, report) in backends.iter().zip([of(1e-40, huge, 0.0), of(huge, 1e-40, huge), of(1.0, 1.0, huge)])
        {
            backend.reported(&report, start);
        }
        let strategy = ClientWeighted::new().blackout(Duration::ZERO).error_penalty(f64::NAN).expiry(Duration::MAX);
        assert_eq!(counts(&strategy.build(&backends), &backends, start, 100).iter().sum::<usize>(), 100);
        let picker = strategy.update_period(Duration::MAX).build(&backends);
        assert_eq!(counts(&picker, &backends, start, 100).iter().sum::<usize>(), 100);
    }
}
