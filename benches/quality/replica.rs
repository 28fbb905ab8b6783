//! A replica: workers with one line before them, or a processor that is shared.

use super::scenario::{Nature, Scenario};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// A job is known by the number of its request.
pub type Job = usize;

/// Nanoseconds of virtual time.
pub type Time = u64;

pub const MS: f64 = 1e6;

pub struct Replica {
    pub nature: Nature,
    pub down: bool,
    pub discipline: Discipline,
    paused_until: Time,
    restarted: Time,
    /// Counts changes of the plan; an event that carries an older number is void.
    pub plan: u64,
}

pub enum Discipline {
    Line { busy: Vec<Option<(Job, Time)>>, waiting: VecDeque<(Job, f64)> },
    Shared { capacity: f64, left: f64, clock: f64, updated: Time, jobs: BinaryHeap<Reverse<(Ordered, Job)>> },
}

/// A finite number that can be compared.
#[derive(Clone, Copy, PartialEq)]
pub struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Replica {
    pub fn new(scenario: &Scenario, nature: Nature, now: Time) -> Self {
        let discipline = match scenario.capacity {
            Some(capacity) => {
                Discipline::Shared { capacity, left: 1.0, clock: 0.0, updated: now, jobs: BinaryHeap::new() }
            }
            None => Discipline::Line { busy: vec![None; scenario.workers], waiting: VecDeque::new() },
        };
        Self { nature, down: false, discipline, paused_until: 0, restarted: now, plan: 0 }
    }

    /// Jobs here, served or waiting.
    pub fn jobs(&self) -> usize {
        match &self.discipline {
            Discipline::Line { busy, waiting } => busy.iter().flatten().count() + waiting.len(),
            Discipline::Shared { jobs, .. } => jobs.len(),
        }
    }

    pub fn speed(&self, now: Time) -> f64 {
        let warm = self.nature.warmup.map_or(1.0, |warmup| {
            let part = (now - self.restarted) as f64 / (warmup.over_ms * MS);
            warmup.from + (1.0 - warmup.from) * part.min(1.0)
        });
        self.nature.speed * warm
    }

    pub fn cores(&self) -> f64 {
        match &self.discipline {
            Discipline::Line { busy, .. } => busy.len() as f64,
            Discipline::Shared { capacity, left, .. } => capacity * left,
        }
    }

    pub fn is_paused(&self, now: Time) -> bool {
        now < self.paused_until
    }

    /// Whether one more job would run at full speed at once.
    pub fn has_room(&self, now: Time) -> bool {
        !self.down
            && !self.is_paused(now)
            && self.nature.error_after_ms.is_none()
            && (self.jobs() as f64) < self.cores()
    }

    /// How long one more job of `work` would take, as far as can be known now.
    pub fn expected(&self, work: f64, now: Time) -> f64 {
        if self.down || self.nature.error_after_ms.is_some() {
            return f64::INFINITY;
        }
        let pause = self.paused_until.saturating_sub(now) as f64;
        let (jobs, cores) = (self.jobs() as f64, self.cores());
        pause
            + match &self.discipline {
                // In line: the jobs ahead beyond the free workers, then the own.
                Discipline::Line { .. } => work / self.speed(now) * (1.0 + (jobs + 1.0 - cores).max(0.0) / cores),
                Discipline::Shared { .. } => work / (cores / (jobs + 1.0)).min(1.0),
            }
    }

    pub fn restart(&mut self, now: Time) {
        self.restarted = now;
    }

    /// A new job.
    pub fn push(&mut self, job: Job, work: f64, now: Time) {
        self.advance(now);
        match &mut self.discipline {
            Discipline::Line { waiting, .. } => waiting.push_back((job, work)),
            Discipline::Shared { clock, jobs, .. } => jobs.push(Reverse((Ordered(*clock + work), job))),
        }
        self.start_waiting(now);
        self.plan += 1;
    }

    /// The jobs that are done by now.
    pub fn take_done(&mut self, now: Time, done: &mut Vec<Job>) {
        self.advance(now);
        match &mut self.discipline {
            Discipline::Line { busy, .. } => {
                for worker in busy.iter_mut() {
                    if let Some((job, ends)) = *worker
                        && ends <= now
                    {
                        done.push(job);
                        *worker = None;
                    }
                }
            }
            Discipline::Shared { clock, jobs, .. } => {
                // A nanosecond of rounding must not keep a finished job.
                while jobs.peek().is_some_and(|Reverse((ends, _))| ends.0 <= *clock + 1.0) {
                    done.extend(jobs.pop().map(|Reverse((_, job))| job));
                }
            }
        }
        self.start_waiting(now);
        self.plan += 1;
    }

    /// When the next job is done, if nothing changes until then.
    pub fn next_done(&self, now: Time) -> Option<Time> {
        match &self.discipline {
            Discipline::Line { busy, .. } => busy.iter().flatten().map(|(_, ends)| *ends).min(),
            Discipline::Shared { clock, jobs, .. } => {
                jobs.peek().map(|Reverse((ends, _))| now + ((ends.0 - clock) / self.rate()).max(0.0).ceil() as Time)
            }
        }
    }

    /// Everything stands still until `until`.
    pub fn pause(&mut self, now: Time, until: Time) {
        self.advance(now);
        if let Discipline::Line { busy, .. } = &mut self.discipline {
            busy.iter_mut().flatten().for_each(|(_, ends)| *ends += until - now);
        }
        self.paused_until = until;
        self.plan += 1;
    }

    /// Neighbours leave this much.
    pub fn leave(&mut self, now: Time, part: f64) {
        self.advance(now);
        if let Discipline::Shared { left, .. } = &mut self.discipline {
            *left = part;
        }
        self.plan += 1;
    }

    /// How fast each job of a shared processor runs.
    fn rate(&self) -> f64 {
        (self.cores() / self.jobs().max(1) as f64).min(1.0) * self.nature.speed
    }

    fn advance(&mut self, now: Time) {
        let rate = self.rate();
        if let Discipline::Shared { clock, updated, .. } = &mut self.discipline {
            *clock += (now - *updated) as f64 * rate;
            *updated = now;
        }
    }

    fn start_waiting(&mut self, now: Time) {
        let (speed, begins) = (self.speed(now), now.max(self.paused_until));
        if let Discipline::Line { busy, waiting } = &mut self.discipline {
            for worker in busy.iter_mut().filter(|worker| worker.is_none()) {
                let Some((job, work)) = waiting.pop_front() else { break };
                *worker = Some((job, begins + (work / speed) as Time));
            }
        }
    }
}
