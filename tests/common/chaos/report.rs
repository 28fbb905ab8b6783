//! What became of a load, as a line of a table.

use super::{Scenario, load::Answer};
use std::{collections::BTreeMap, fmt, ops::Range, time::Duration};

/// What became of each request, and what the backends saw.
#[derive(Debug)]
pub struct Report {
    pub scenario: Scenario,
    pub answers: Vec<Answer>,
    /// The numbers of the requests that the backends have seen, one for each time.
    pub seen: Vec<String>,
    /// When something was wrong.
    pub disturbed: Range<Duration>,
}

impl Report {
    /// The titles of the columns.
    pub const TITLES: &str =
        "scenario   offered answered  failed seen twice  answered meanwhile   p50 ms   p99 ms   max ms";

    pub fn offered(&self) -> usize {
        self.answers.len()
    }

    pub fn failed(&self) -> usize {
        self.answers.iter().filter(|answer| answer.failure.is_some()).count()
    }

    /// How many requests failed, by what they were told.
    pub fn failures(&self) -> BTreeMap<&str, usize> {
        let mut failures = BTreeMap::new();
        let told = self.answers.iter().filter_map(|answer| answer.failure.as_deref());
        told.for_each(|failure| *failures.entry(failure).or_default() += 1);
        failures
    }

    /// The numbers of the requests that were seen more than once.
    pub fn duplicated(&self) -> Vec<&str> {
        let mut times = BTreeMap::<&str, usize>::new();
        self.seen.iter().for_each(|number| *times.entry(number).or_default() += 1);
        times.into_iter().filter(|(_, times)| *times > 1).map(|(number, _)| number).collect()
    }

    /// The share of what was due in the disturbance that was also answered in it.
    pub fn answered_meanwhile(&self) -> f64 {
        self.answered_of(|answer| answer.due)
    }

    /// The same of what was sent in it: less, where the machine or the client was slow.
    pub fn answered_of_sent(&self) -> f64 {
        self.answered_of(|answer| answer.sent)
    }

    /// How many were sent in a second of the disturbance, of what was sent in one before it: a client that waits sends less.
    pub fn pace(&self) -> f64 {
        let Range { start, end } = self.disturbed;
        let per_second = |range: Range<Duration>| {
            let sent = self.answers.iter().filter(|answer| range.contains(&answer.sent)).count();
            sent as f64 / (range.end - range.start).as_secs_f64()
        };
        per_second(start..end) / per_second(Duration::ZERO..start)
    }

    fn answered_of(&self, begun: impl Fn(&Answer) -> Duration) -> f64 {
        let all = || self.answers.iter().filter(|answer| self.disturbed.contains(&begun(answer)));
        let well = all().filter(|answer| answer.failure.is_none() && answer.done < self.disturbed.end);
        well.count() as f64 / all().count().max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |answer: &Answer| (answer.done - answer.due).as_secs_f64() * 1_000.0;
        let mut times: Vec<_> = self.answers.iter().map(millis).collect();
        times.sort_by(f64::total_cmp);
        let part =
            |part: f64| times.get((times.len() as f64 * part) as usize).or(times.last()).map_or(0.0, |time| *time);
        write!(
            f,
            "{:<10} {:>7} {:>8} {:>7} {:>10} {:>18.1}% {:>8.1} {:>8.1} {:>8.1}",
            self.scenario.name(),
            self.offered(),
            self.offered() - self.failed(),
            self.failed(),
            self.duplicated().len(),
            self.answered_meanwhile() * 100.0,
            part(0.5),
            part(0.99),
            part(1.0),
        )?;
        self.failures().iter().try_for_each(|(told, times)| write!(f, "  {times} × {told}"))
    }
}
