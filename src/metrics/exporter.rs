use super::{FAMILIES, Family, Kind, Observed, Sink};
use crate::backend::ResponseTimes;
use ::metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::{
    collections::HashMap,
    fmt, mem,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// Publishes pools through the [`metrics`](::metrics) facade, to whatever recorder the host has installed.
///
/// The host calls [`publish`](Self::publish) when its recorder is about to be read, or spawns [`run`](Self::run). Requests
/// pay nothing for either.
///
/// Of a counter what has come since is told, and not what it is: recorders keep the highest that they were ever told, and the
/// count of a backend that has left and come back would stand still until it is beyond what it was before. So there is one
/// exporter for a recorder. Of a histogram the facade takes single samples only: each answer is told as the upper bound of its
/// [bucket](ResponseTimes::bounds), and those beyond the last bound as twice that. So a recorder whose buckets have the same
/// bounds has exact ones; its sum is too high, by up to as much as a bucket is wide.
///
/// A backend that has left is not published any more; its gauges are set to 0 once. When the recorder forgets it is the
/// recorder's affair: give it an idle timeout.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tower_balancer::{BackendPool, metrics::{Exporter, Observed}};
///
/// let pool = BackendPool::new(["http://10.0.0.1:8080"])?;
/// let mut exporter = Exporter::new([Observed::new("web", &pool)]);
/// exporter.publish(Instant::now());
/// // Or: tokio::spawn(exporter.run(Duration::from_secs(5)));
/// # Ok::<_, tower_balancer::pool::InvalidMember>(())
/// ```
pub struct Exporter {
    observed: Vec<Observed>,
    published: Published,
}

/// What was told before.
#[derive(Default)]
struct Published {
    /// Counts that were told, and whether they were in this round.
    counters: HashMap<Sample, (u64, bool)>,
    /// Gauges that were told, likewise.
    gauges: HashMap<Sample, bool>,
    /// Answers in each bucket that were told, likewise.
    times: HashMap<Sample, (Vec<u64>, bool)>,
}

type Sample = (&'static str, Vec<Label>);

impl Exporter {
    /// An exporter of these pools. It describes its metrics to the recorder: install that before.
    pub fn new(observed: impl IntoIterator<Item = Observed>) -> Self {
        FAMILIES.iter().for_each(describe);
        Self { observed: observed.into_iter().collect(), published: Published::default() }
    }

    /// Tells the recorder how things stand at `now`.
    pub fn publish(&mut self, now: Instant) {
        for observed in &self.observed {
            observed.tell(now, &mut self.published);
        }
        self.published.end_round();
    }

    /// Publishes every `period`, for as long as it is polled.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub async fn run(mut self, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.publish(ticks.tick().await.into_std());
        }
    }
}

fn describe(family: &Family) {
    let (name, help) = (family.name(), family.help());
    let unit = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
    match family.kind() {
        Kind::Counter => describe_counter!(name, unit, help),
        Kind::Gauge => describe_gauge!(name, unit, help),
        Kind::Histogram => describe_histogram!(name, unit, help),
    }
}

impl Published {
    /// What was not told of in this round has left.
    fn end_round(&mut self) {
        let left = |(name, labels): &Sample| gauge!(*name, labels.clone()).set(0.0);
        self.gauges.retain(|sample, is_there| {
            let is_there = mem::take(is_there);
            if !is_there {
                left(sample);
            }
            is_there
        });
        self.counters.retain(|_, (_, is_there)| mem::take(is_there));
        self.times.retain(|_, (_, is_there)| mem::take(is_there));
    }
}

/// What has come to `before`. One that has left and come back under the same name begins anew.
fn more(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn sample(family: Family, values: &[&str]) -> Sample {
    let labels = family.labels().iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    (family.name(), labels.collect())
}

impl Sink for Published {
    fn counter(&mut self, family: Family, labels: &[&str], value: u64) {
        let sample = sample(family, labels);
        let counter = counter!(sample.0, sample.1.clone());
        let (before, is_there) = self.counters.entry(sample).or_default();
        *is_there = true;
        counter.increment(more(value, mem::replace(before, value)));
    }

    fn gauge(&mut self, family: Family, labels: &[&str], value: f64) {
        let sample = sample(family, labels);
        gauge!(sample.0, sample.1.clone()).set(value);
        self.gauges.insert(sample, true);
    }

    fn histogram(&mut self, family: Family, labels: &[&str], times: &ResponseTimes) {
        let sample = sample(family, labels);
        let histogram = histogram!(sample.0, sample.1.clone());
        let now: Vec<_> = times.counts().collect();
        let (before, is_there) = self.times.entry(sample).or_default();
        *is_there = true;
        before.resize(now.len(), 0);
        let beyond = ResponseTimes::bounds().last().unwrap_or_default() * 2;
        for ((bound, now), before) in ResponseTimes::bounds().chain([beyond]).zip(now).zip(before) {
            let more = more(now, mem::replace(before, now));
            if more > 0 {
                histogram.record_many(bound.as_secs_f64(), more as usize);
            }
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("observed", &self.observed).finish_non_exhaustive()
    }
}
