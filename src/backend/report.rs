use super::Moment;
use crate::sync::{AtomicU64, Ordering};

/// What a server says about itself. A value of zero is one that it does not tell.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tower_balancer::backend::{Backend, Moment, Report};
///
/// let (backend, now) = (Backend::new("a"), Instant::now());
/// assert!(backend.report(Moment::of(now)).is_none());
///
/// backend.reported(&Report { utilization: 0.5, qps: 100.0, ..Report::default() }, now);
/// let reported = backend.report(Moment::of(now + Duration::from_secs(2))).unwrap();
/// assert_eq!((reported.report.qps, reported.age), (100.0, 2.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// The share of what it can do that is in use: 1 is all of it, and more is possible. It must go up and down with the
    /// requests that the server gets: who weighs servers by it sends more where it is low.
    pub utilization: f64,
    /// Requests that it answers, per second.
    pub qps: f64,
    /// Errors among them, per second.
    pub eps: f64,
    /// Requests that it works on, from whomever they came.
    pub in_flight: Option<f64>,
    /// Seconds that a request takes which comes in now.
    pub latency: Option<f64>,
}

/// The last [`Report`] of a backend, and how long it has told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reported {
    /// What it said.
    pub report: Report,
    /// Of the requests in flight, those that did not come from here.
    pub others: Option<f64>,
    /// Seconds since it said so.
    pub age: f64,
    /// Seconds since the first report of the series to which this one belongs. Three minutes of silence end a series.
    pub since: f64,
}

/// The silence, in seconds, after which a report begins a new series.
const SILENCE: f64 = 180.0;

impl Report {
    /// Without the values that are no finite numbers from zero up; `None` where no value is left.
    fn cleaned(self) -> Option<Self> {
        let is_value = |value: &f64| *value >= 0.0 && (*value as f32).is_finite();
        let told = |value: f64| if is_value(&value) { value } else { 0.0 };
        let report = Self {
            utilization: told(self.utilization),
            qps: told(self.qps),
            eps: told(self.eps),
            in_flight: self.in_flight.filter(is_value),
            latency: self.latency.filter(is_value),
        };
        (report != Self::default()).then_some(report)
    }
}

/// Where the last report of a backend is kept. Each word is whole; a reader may find a new word beside an old one, and
/// each is what the server said a moment ago.
#[derive(Debug)]
pub(super) struct LastReport {
    /// Utilization and requests per second.
    rates: AtomicU64,
    /// Errors per second, and requests in flight from elsewhere; not a number where that is not told.
    errors: AtomicU64,
    /// Requests in flight and latency; not a number where it is not told.
    load: AtomicU64,
    /// The first of the series and the last, in microseconds.
    first: AtomicU64,
    last: AtomicU64,
}

impl LastReport {
    /// Keeps `report` in `place`, which is made with the first one.
    pub(super) fn keep(place: &std::sync::OnceLock<Box<Self>>, report: &Report, own: u32, now: Moment) {
        if let Some(report) = report.cleaned() {
            place.get_or_init(|| Box::new(Self::first(&report, own, now))).store(&report, own, now);
        }
    }

    fn first(report: &Report, own: u32, now: Moment) -> Self {
        let [rates, errors, load] = words(report, own).map(AtomicU64::new);
        Self { rates, errors, load, first: AtomicU64::new(now.micros()), last: AtomicU64::new(now.micros()) }
    }

    fn store(&self, report: &Report, own: u32, now: Moment) {
        let [rates, errors, load] = words(report, own);
        self.rates.store(rates, Ordering::Relaxed);
        self.errors.store(errors, Ordering::Relaxed);
        self.load.store(load, Ordering::Relaxed);
        if seconds(&self.last, now) >= SILENCE {
            self.first.store(now.micros(), Ordering::Relaxed);
        }
        self.last.store(now.micros(), Ordering::Relaxed);
    }

    pub(super) fn load(&self, now: Moment) -> Reported {
        let [(utilization, qps), (eps, others), (in_flight, latency)] =
            [&self.rates, &self.errors, &self.load].map(|word| unpack(word.load(Ordering::Relaxed)));
        let told = |value: f64| Some(value).filter(|value| !value.is_nan());
        Reported {
            report: Report { utilization, qps, eps, in_flight: told(in_flight), latency: told(latency) },
            others: told(others),
            age: seconds(&self.last, now),
            since: seconds(&self.first, now),
        }
    }
}

/// Seconds from the moment in `word` to `now`; none where that is a moment ahead.
fn seconds(word: &AtomicU64, now: Moment) -> f64 {
    now.micros().saturating_sub(word.load(Ordering::Relaxed)) as f64 / 1e6
}

fn words(report: &Report, own: u32) -> [u64; 3] {
    let (in_flight, latency) = (report.in_flight.unwrap_or(f64::NAN), report.latency.unwrap_or(f64::NAN));
    // A server that tells fewer than there are from here has not seen all of them yet.
    let others = report.in_flight.map_or(f64::NAN, |in_flight| (in_flight - f64::from(own)).max(0.0));
    [pack(report.utilization, report.qps), pack(report.eps, others), pack(in_flight, latency)]
}

fn pack(high: f64, low: f64) -> u64 {
    u64::from((high as f32).to_bits()) << 32 | u64::from((low as f32).to_bits())
}

fn unpack(word: u64) -> (f64, f64) {
    (f32::from_bits((word >> 32) as u32).into(), f32::from_bits(word as u32).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_finite_number_from_zero_up_is_not_told() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
            let report = Report { utilization: odd, qps: odd, eps: odd, in_flight: Some(odd), latency: Some(odd) };
            assert_eq!(report.cleaned(), None, "{odd}");
            let report = Report { qps: 7.0, ..report };
            assert_eq!(report.cleaned(), Some(Report { qps: 7.0, ..Report::default() }), "{odd}");
        }
        let idle = Report { in_flight: Some(0.0), ..Report::default() };
        assert_eq!((Report::default().cleaned(), idle.cleaned()), (None, Some(idle)));
    }

    #[test]
    fn a_pair_in_a_word_is_what_it_was() {
        assert_eq!(unpack(pack(0.25, 1_000.0)), (0.25, 1_000.0));
        assert!(unpack(pack(0.0, f64::NAN)).1.is_nan());
    }
}
