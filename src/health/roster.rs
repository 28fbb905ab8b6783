use super::{
    HealthChecker, Probe,
    check::{Answer, check},
    pace::Pace,
    schedule::{Schedule, following},
};
use crate::{
    backend::{Backend, BackendId},
    pool::Change,
    rng::Rng,
};
use futures_util::future::{AbortHandle, Aborted, abortable};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

/// The backends that one run watches: who is due when, and who is being asked.
pub(super) struct Roster<T, P> {
    checker: HealthChecker<T, P>,
    /// By the order in which they joined.
    watched: HashMap<u64, Watched>,
    places: HashMap<BackendId, u64>,
    joined: u64,
    schedule: Schedule,
    rng: Rng,
    offset: f64,
}

struct Watched {
    backend: Arc<Backend>,
    stage: Stage,
    /// Those that join together are checked together once. From then on they take turns.
    takes_turns: bool,
}

enum Stage {
    Due(Instant),
    Asked { due: Instant, abort: AbortHandle },
}

/// What was found out.
pub(super) struct Checked {
    place: u64,
    asked: Instant,
    answer: Answer,
}

impl<T, P> Roster<T, P>
where
    T: Clone + Send + Sync + 'static,
    P: Probe<T>,
{
    /// Everybody is due at once.
    pub(super) fn new(checker: HealthChecker<T, P>, now: Instant) -> Self {
        let mut rng = Rng::new(checker.settings.seed.unwrap_or_else(|| fastrand::u64(..)));
        let offset = rng.unit();
        let (watched, places, schedule) = Default::default();
        let mut roster = Self { checker, watched, places, joined: 0, schedule, rng, offset };
        roster.look_at_all(now);
        roster
    }

    /// When the first one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// Begins the check of the first one that is due.
    pub(super) fn begin(&mut self, now: Instant) -> Option<impl Future<Output = Result<Checked, Aborted>> + use<T, P>> {
        while let Some(place) = self.schedule.take(now) {
            let Some(watched) = self.watched.get_mut(&place) else { continue };
            let Stage::Due(due) = watched.stage else { continue };
            let members = self.checker.pool.members();
            // Its target may be a new one by now. Where it has left, its stage says so: the news of it is under way.
            let there = members.find(watched.backend.id().as_str());
            let Some((_, target)) = there.filter(|(backend, _)| Arc::ptr_eq(backend, &watched.backend)) else {
                continue;
            };
            let (probe, target) = (Arc::clone(&self.checker.probe), target.clone());
            let timeout = self.checker.settings.timeout;
            let (check, abort) = abortable(async move {
                let answer = check(&*probe, target, timeout).await;
                Checked { place, asked: now, answer }
            });
            watched.stage = Stage::Asked { due, abort };
            return Some(check);
        }
        None
    }

    /// Takes in what a check found out, and says when the next one is.
    pub(super) fn conclude(&mut self, Checked { place, asked, answer }: Checked, now: Instant) {
        let Some(watched) = self.watched.get_mut(&place) else { return };
        let Stage::Asked { due, .. } = watched.stage else { return };
        let settings = &self.checker.settings;
        let pace = match self.checker.findings.conclude(&watched.backend, &answer, asked, now, settings.thresholds) {
            // Where nobody is left, requests wait for the first one that is back.
            Pace::Slow(_) if !self.checker.pool.members().backends().iter().any(|other| other.is_eligible()) => {
                Pace::Steady
            }
            pace => pace,
        };
        let mut delay = settings.intervals.draw(pace, &mut self.rng);
        if pace == Pace::Steady && !watched.takes_turns {
            watched.takes_turns = true;
            delay = delay.mul_f64(1.0 - settings.intervals.phase(place, self.offset));
        }
        let next = following(due + delay, settings.intervals.at(pace), asked, now);
        watched.stage = Stage::Due(next);
        self.schedule.add(place, next);
    }

    /// Takes in what has happened in the pool.
    pub(super) fn hear(&mut self, change: Change, now: Instant) {
        match change {
            Change::Added(id) | Change::Removed(id) | Change::Health { id, .. } => self.look_at(&id, now),
            Change::Missed(_) => self.look_at_all(now),
            _ => {}
        }
    }

    fn look_at_all(&mut self, now: Instant) {
        self.checker.findings.forget_the_gone();
        let members = self.checker.pool.members();
        let mut ids: Vec<_> = members.backends().iter().map(|backend| backend.id().clone()).collect();
        let there: HashSet<_> = ids.iter().cloned().collect();
        ids.extend(self.places.keys().filter(|id| !there.contains(*id)).cloned());
        ids.iter().for_each(|id| self.look_at(id, now));
    }

    /// Makes what is known of `id` agree with the pool as it is now, whatever has happened to it.
    fn look_at(&mut self, id: &BackendId, now: Instant) {
        let members = self.checker.pool.members();
        let there = members.find(id.as_str()).map(|(backend, _)| backend);
        let known = self.places.get(id).and_then(|place| Some((*place, self.watched.get(place)?)));
        match (known, there) {
            (Some((place, watched)), Some(backend)) if Arc::ptr_eq(&watched.backend, backend) => {
                if self.checker.findings.is_doubted(backend) {
                    self.hasten(place, now);
                }
            }
            (known, there) => {
                if let Some((place, _)) = known {
                    self.forget(place);
                }
                if let Some(backend) = there {
                    self.join(backend, now);
                }
            }
        }
    }

    fn join(&mut self, backend: &Arc<Backend>, now: Instant) {
        self.checker.settings.seclude(backend, now);
        let place = self.joined;
        self.joined += 1;
        self.places.insert(backend.id().clone(), place);
        let watched = Watched { backend: Arc::clone(backend), stage: Stage::Due(now), takes_turns: false };
        self.watched.insert(place, watched);
        self.schedule.add(place, now);
    }

    fn forget(&mut self, place: u64) {
        let Some(Watched { backend, stage, .. }) = self.watched.remove(&place) else { return };
        match stage {
            Stage::Due(due) => _ = self.schedule.remove(place, due),
            Stage::Asked { abort, .. } => abort.abort(),
        }
        self.places.remove(backend.id().as_str());
        self.checker.findings.forget(&backend);
    }

    /// Makes a backend due at once. One that is being asked will be as soon as the answer is there, which is older.
    fn hasten(&mut self, place: u64, now: Instant) {
        if let Some(watched) = self.watched.get_mut(&place)
            && let Stage::Due(due) = watched.stage
            && due > now
            && self.schedule.remove(place, due)
        {
            watched.stage = Stage::Due(now);
            self.schedule.add(place, now);
        }
    }
}
