use super::Report;
use crate::ewma::decay;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How fast the rates forget, in seconds.
const TAU: f64 = 5.0;

/// Latencies that are remembered for about the same number in flight.
const REMEMBERED: usize = 64;

/// For how long they count, while there are later ones.
const FRESH: Duration = Duration::from_secs(60);

/// What a server knows about its own load, to be told in a [`Report`].
///
/// Requests and errors per second and the mean utilization are of about the last 5 s. The latency is the median of
/// those requests that came when about as many were in flight as there are now: of the requests that were last to end, an
/// overloaded server has only the lucky ones to show.
///
/// Time is an argument: a simulated server keeps one of these just as a real one does.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tower_balancer::backend::LoadEstimate;
///
/// let mut load = LoadEstimate::new().capacity(10.0);
/// let (start, took) = (Instant::now(), Duration::from_millis(20));
///
/// let in_flight = load.begin(start);
/// assert_eq!((in_flight, load.report(start).in_flight), (1, Some(1.0)));
///
/// load.end(in_flight, took, true, start + took);
/// let report = load.report(start + took);
/// assert_eq!((report.in_flight, report.latency), (Some(0.0), Some(0.02)));
/// assert!(report.qps > 0.0 && report.utilization > 0.0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoadEstimate {
    capacity: Option<f64>,
    in_flight: u32,
    begun: Option<Begun>,
    latencies: BTreeMap<u32, Latencies>,
}

/// Sums in which what is longer ago counts for less.
#[derive(Clone, Copy, Debug)]
struct Begun {
    first: Instant,
    latest: Instant,
    busy: f64,
    requests: f64,
    errors: f64,
}

#[derive(Clone, Debug)]
struct Latencies {
    latest: Instant,
    /// Seconds; the next one goes over the oldest.
    ring: [f64; REMEMBERED],
    count: usize,
}

impl LoadEstimate {
    /// Of a server that has done nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of a server that is fully used with so many requests in flight. Without it no utilization is told.
    pub fn capacity(self, requests: f64) -> Self {
        Self { capacity: Some(requests), ..self }
    }

    /// A request comes in at `now`. Returns how many are in flight with it: to be given back when it [ends](Self::end).
    pub fn begin(&mut self, now: Instant) -> u32 {
        let begun = Begun { first: now, latest: now, busy: 0.0, requests: 0.0, errors: 0.0 };
        self.begun = Some(self.begun.map_or(begun, |begun| begun.at(now, self.in_flight)));
        self.in_flight = self.in_flight.saturating_add(1);
        self.in_flight
    }

    /// A request that began with so many in flight leaves at `now`. The time that it `took` to its answer is a sample
    /// only if the answer is `ok`: a fast error must not make the server look fast.
    pub fn end(&mut self, in_flight_at_start: u32, took: Duration, ok: bool, now: Instant) {
        self.cancel(now);
        if let Some(begun) = &mut self.begun {
            begun.requests += 1.0;
            begun.errors += f64::from(u8::from(!ok));
        }
        if ok {
            let empty = || Latencies { latest: now, ring: [0.0; REMEMBERED], count: 0 };
            let latencies = self.latencies.entry(about(in_flight_at_start)).or_insert_with(empty);
            latencies.ring[latencies.count % REMEMBERED] = took.as_secs_f64();
            latencies.count += 1;
            latencies.latest = now;
        }
    }

    /// A request leaves at `now` without an answer, because nobody waits for it any more.
    pub fn cancel(&mut self, now: Instant) {
        self.begun = self.begun.map(|begun| begun.at(now, self.in_flight));
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// What to tell at `now`.
    pub fn report(&self, now: Instant) -> Report {
        let mut report =
            Report { in_flight: Some(self.in_flight.into()), latency: self.latency(now), ..Report::default() };
        if let Some(begun) = self.begun.map(|begun| begun.at(now, self.in_flight)) {
            // A second that has only just begun is still a second.
            let seen = now.saturating_duration_since(begun.first).as_secs_f64().max(1.0);
            let mean = |sum: f64| sum / (TAU * (1.0 - decay(seen, TAU)));
            (report.qps, report.eps) = (mean(begun.requests), mean(begun.errors));
            report.utilization = self.capacity.map_or(0.0, |capacity| mean(begun.busy) / capacity);
        }
        report
    }

    fn latency(&self, now: Instant) -> Option<f64> {
        // The one that comes in now counts itself.
        let here = f64::from(about(self.in_flight.saturating_add(1)));
        let is_old = |latencies: &Latencies| now.saturating_duration_since(latencies.latest) > FRESH;
        let distance = |at: u32| (f64::from(at) / here).ln().abs();
        let nearest = self.latencies.iter().min_by(|(a, of_a), (b, of_b)| {
            is_old(of_a).cmp(&is_old(of_b)).then(distance(**a).total_cmp(&distance(**b)))
        });
        nearest.map(|(_, latencies)| latencies.median())
    }
}

impl Begun {
    /// As of `now`, with so many in flight since the latest change.
    fn at(self, now: Instant, in_flight: u32) -> Self {
        let left = decay(now.saturating_duration_since(self.latest).as_secs_f64(), TAU);
        Self {
            first: self.first,
            latest: self.latest.max(now),
            busy: self.busy * left + f64::from(in_flight) * TAU * (1.0 - left),
            requests: self.requests * left,
            errors: self.errors * left,
        }
    }
}

impl Latencies {
    /// The upper one of the two in the middle.
    fn median(&self) -> f64 {
        let mut seen = self.ring;
        let seen = &mut seen[..self.count.min(REMEMBERED)];
        seen.sort_by(f64::total_cmp);
        seen[seen.len() / 2]
    }
}

/// The number in flight to three binary digits: 1 to 8, 10, 12, 14, 16, 20, and so on.
fn about(in_flight: u32) -> u32 {
    let shift = (u32::BITS - in_flight.leading_zeros()).saturating_sub(3);
    in_flight >> shift << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn start() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_number_in_flight_is_known_to_three_digits() {
        let numbers: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 23, 24, u32::MAX].map(about).into();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 7 << 29]);
    }

    #[test]
    fn rates_and_utilization_are_those_of_the_last_seconds() {
        let (mut load, start) = (LoadEstimate::new().capacity(4.0), start());
        // One at a time, each 5 ms of every 10, every fourth in error.
        let run = |load: &mut LoadEstimate, from: u32, to: u32| {
            for request in from..to {
                let now = start + MS * 10 * request;
                let in_flight = load.begin(now);
                load.end(in_flight, MS * 5, request % 4 != 0, now + MS * 5);
            }
        };
        for (from, seconds) in [(0, 2), (200, 20), (2_000, 60)] {
            run(&mut load, from, seconds * 100);
            let report = load.report(start + Duration::from_secs(seconds.into()));
            assert!((98.0..102.0).contains(&report.qps), "after {seconds} s: {report:?}");
            assert!((24.0..26.0).contains(&report.eps), "after {seconds} s: {report:?}");
            assert!((0.122..0.128).contains(&report.utilization), "after {seconds} s: {report:?}");
        }
        let later = load.report(start + Duration::from_secs(75));
        assert!(later.qps < 6.0 && later.utilization < 0.01, "{later:?}");
    }

    #[test]
    fn the_latency_is_that_of_requests_that_began_with_as_many_in_flight() {
        let (mut load, start) = (LoadEstimate::new(), start());
        assert_eq!(load.report(start).latency, None);
        // It takes 10 ms for each request in flight; those that found many are last to end.
        for _ in 0..5 {
            let begun: Vec<_> = (0..8).map(|_| load.begin(start)).collect();
            begun.into_iter().for_each(|n| load.end(n, MS * 10 * n, true, start + MS * 10 * n));
        }
        let now = start + MS * 80;
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push((load.report(now).latency.unwrap() * 1e3).round());
            load.begin(now);
        }
        assert_eq!(seen, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]);
        // With nobody here, that of one alone; with more than ever, that of most.
        (0..8).for_each(|_| load.cancel(now));
        assert_eq!(load.report(now).latency, Some(0.01));
        (0..100).for_each(|_| _ = load.begin(now));
        assert_eq!(load.report(now).latency, Some(0.08));
    }

    #[test]
    fn latencies_of_a_minute_ago_count_only_while_there_are_no_others() {
        let (mut load, start) = (LoadEstimate::new(), start());
        let alone = load.begin(start);
        load.end(alone, MS * 10, true, start + MS * 10);
        let later = start + Duration::from_secs(70);
        assert_eq!(load.report(later).latency, Some(0.01));
        let pair = [load.begin(later), load.begin(later)];
        load.end(pair[1], MS * 500, true, later + MS * 500);
        assert_eq!(load.report(later + MS * 500).latency, Some(0.5));
    }

    #[test]
    fn errors_and_cancelled_requests_are_no_samples() {
        let (mut load, start) = (LoadEstimate::new(), start());
        let failed = load.begin(start);
        load.end(failed, MS, false, start + MS);
        load.begin(start + MS);
        load.cancel(start + MS * 2);
        let report = load.report(start + MS * 2);
        assert_eq!((report.latency, report.in_flight), (None, Some(0.0)));
        assert!(report.eps > 0.0 && report.eps == report.qps);
        // One that ends twice takes nothing below zero.
        load.cancel(start);
        assert_eq!(load.report(start).in_flight, Some(0.0));
    }
}
