#[cfg(test)]
mod tests;
mod wanted;

use self::wanted::Wanted;
use super::{Candidates, Hint, Index, Picker, Score, Strategy, least_request, sample};
use crate::{
    backend::{Backend, Moment, Reported},
    rng::Rng,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

/// Google's Prequal (Wydrowski, Kleinberg, Rumble, Archer 2024): by what backends say about their own load when they are
/// asked, a moment before they are needed.
///
/// Each pick wants a few probes of random backends and does not wait for them; it goes by those that have come back, at
/// most 16 of them. A backend with more in flight than most is *hot*. Among the others the one with the least latency is
/// picked: what it tells of requests that came when it had as much in flight as now. Requests from here that were sent
/// since a backend told count on top.
///
/// The probes are asked by a [`Prober`](crate::probing::Prober) that the host spawns; without one nothing comes back, and
/// the pick is the less busy of two. Answers that carry a [`Report`](crate::backend::Report) are as good as probes, and save
/// them. What the paper leaves open: recent failures make a backend look busy and slow, since one that fails at once has
/// little in flight and would draw everything.
///
/// Clones want probes together: use one for each pool.
#[derive(Clone, Debug)]
pub struct Prequal {
    rule: Rule,
    wanted: Arc<Wanted>,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    /// The part of the probed backends that is not hot.
    cold: f64,
    probes: usize,
    /// Seconds.
    fresh: f64,
}

/// So many backends are known at a time; pools up to this size are known as a whole.
const KNOWN: usize = 16;
/// The most probes that one pick wants.
const MOST_PROBES: usize = 16;
/// Each pick draws at least so many to know about, probed or not.
const DRAWS: usize = 3;

impl Prequal {
    /// With the paper's settings: three probes a pick, which count for a second, and a backend is hot when it has more in
    /// flight than 84 % (2^-¼) of those that are known.
    pub fn new() -> Self {
        Self { rule: Rule { cold: 0.5_f64.powf(0.25), probes: 3, fresh: 1.0 }, wanted: Arc::default() }
    }

    /// How many probes a pick wants, up to 16. With none it goes by what answers carry.
    pub fn probes(self, probes: usize) -> Self {
        Self { rule: Rule { probes: probes.min(MOST_PROBES), ..self.rule }, ..self }
    }

    /// For how long what a backend told counts.
    pub fn fresh(self, fresh: Duration) -> Self {
        Self { rule: Rule { fresh: fresh.as_secs_f64(), ..self.rule }, ..self }
    }

    /// The part of the known backends that is not hot, from 0 to 1. With 0 only the number in flight counts, which is best
    /// for few backends that are alike; with 1 only the latency.
    pub fn cold(self, part: f64) -> Self {
        Self { rule: Rule { cold: part.clamp(0.0, 1.0), ..self.rule }, ..self }
    }

    /// The next backend to probe; `None` while none is wanted. For those who ask themselves what a
    /// [`Prober`](crate::probing::Prober) asks, as a simulation does: what the backend tells goes to
    /// [`reported`](Backend::reported).
    pub fn wanted(&self) -> Option<Arc<Backend>> {
        self.wanted.take()
    }

    /// The same, to wait for.
    pub fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<Arc<Backend>> {
        self.wanted.poll_take(cx)
    }
}

impl Default for Prequal {
    fn default() -> Self {
        Self::new()
    }
}

impl Strategy for Prequal {
    type Picker = PrequalPicker;

    fn build(&self, members: &[Arc<Backend>]) -> PrequalPicker {
        PrequalPicker {
            rule: self.rule,
            wanted: Arc::clone(&self.wanted),
            slots: Default::default(),
            asked: Default::default(),
            next: AtomicU64::new(0),
            uses: reuse(members.len(), self.rule.probes),
        }
    }
}

/// How often what a backend told is used among so many members: the paper's rule, with its δ of 1, less the one that is
/// removed for each pick.
fn reuse(members: usize, probes: usize) -> u32 {
    let spare = (1.0 - KNOWN as f64 / members as f64) * probes as f64 - 1.0;
    (2.0 / spare).clamp(1.0, 1_000.0) as u32
}

/// The picker of a [`Prequal`], with the backends that it knows about.
#[derive(Debug)]
pub struct PrequalPicker {
    rule: Rule,
    wanted: Arc<Wanted>,
    /// The backends that were drawn last, each with how often it may still be used. The next goes over the oldest.
    slots: [AtomicU64; KNOWN],
    /// When each was asked, in microseconds: what it told before is not an answer. 0 where it needed no asking.
    asked: [AtomicU64; KNOWN],
    next: AtomicU64,
    uses: u32,
}

/// What is known about one backend.
#[derive(Clone, Copy, Default)]
struct Known {
    slot: usize,
    place: u32,
    /// As failures and the weight make it look.
    in_flight: f64,
    /// Seconds; not a number where it was not told.
    latency: f64,
    failures: f64,
    weight: f64,
}

impl Picker for PrequalPicker {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let (now, mut rng) = (Moment::of(hint.now), hint.rng());
        self.draw(candidates, now, &mut rng);

        let mut known = [Known::default(); KNOWN];
        let mut n = 0;
        let mut learn = |slot: usize, index: Index, since: f64| {
            if let Some(told) = candidates.get(index).and_then(|backend| self.told(backend, hint, now, since)) {
                known[n] = Known { slot, place: index.get() as u32, ..told };
                n += 1;
            }
        };
        if candidates.len() <= KNOWN {
            candidates.eligible().iter().for_each(|&index| learn(KNOWN, index, self.rule.fresh));
        } else {
            for (slot, word) in self.slots.iter().enumerate() {
                if let Some(index) = place(word.load(Ordering::Relaxed)).filter(|&index| candidates.is_eligible(index))
                {
                    let since = now.micros().saturating_sub(self.asked[slot].load(Ordering::Relaxed));
                    learn(slot, index, self.rule.fresh.min(since as f64 / 1e6));
                }
            }
        }
        // Of one alone nothing can be said: it may be the worst of all.
        if n < 2 {
            return sample::least(candidates, hint, 2, |backend| least_request::cost(backend, hint, now));
        }
        let known = &known[..n];
        let picked = coldest(known, self.rule.cold, &mut rng)?;
        self.use_up(known, picked);
        Some(Index::new(picked.place as usize))
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let told = self.told(candidates.get(index)?, hint, Moment::of(hint.now), self.rule.fresh)?;
        let parts = [("in flight", told.in_flight), ("failures", told.failures), ("weight", told.weight)];
        Some(Score::new(told.latency, parts))
    }
}

impl PrequalPicker {
    /// Draws a few backends to know about, and wants probes of those that have told nothing for as long as a request
    /// takes.
    fn draw(&self, candidates: &Candidates<'_>, now: Moment, rng: &mut Rng) {
        let eligible = candidates.eligible();
        let mut probes = self.rule.probes;
        let draws = probes.max(DRAWS).min(eligible.len());
        sample::distinct(eligible.len(), draws, rng, |at, _| {
            let index = eligible[at];
            let Some(backend) = candidates.get(index) else { return };
            let is_old = |told: Reported| told.age > told.report.latency.unwrap_or(0.0);
            let ask = probes > 0 && backend.report(now).is_none_or(is_old);
            if ask {
                self.wanted.put(backend);
                probes -= 1;
            }
            if eligible.len() > KNOWN {
                let slot = self.next.fetch_add(1, Ordering::Relaxed) as usize % KNOWN;
                self.asked[slot].store(if ask { now.micros() } else { 0 }, Ordering::Relaxed);
                self.slots[slot].store(u64::from(self.uses) << 32 | (index.get() as u64 + 1), Ordering::Relaxed);
            }
        });
    }

    /// What a backend told in the last seconds, this many.
    fn told(&self, backend: &Backend, hint: &Hint<'_>, now: Moment, since: f64) -> Option<Known> {
        let told = backend.report(now).filter(|told| told.age <= since)?;
        let (latency, weight) = (told.report.latency.unwrap_or(f64::NAN), hint.weight(backend));
        let failures = sample::failures(backend.load(), now);
        let in_flight = (told.others? + backend.load().work() + hint.work()) * (1.0 + failures);
        Some(Known { in_flight: for_its_weight(in_flight, weight), latency, failures, weight, ..Known::default() })
    }

    /// What was used counts down; every other pick forgets the worst that is known.
    fn use_up(&self, known: &[Known], picked: &Known) {
        let Some(word) = self.slots.get(picked.slot) else { return };
        let seen = word.load(Ordering::Relaxed);
        let left = if seen >> 32 > 1 { seen - (1 << 32) } else { 0 };
        // Where another pick was faster, its count stands: a use more or less.
        let _ = word.compare_exchange(seen, left, Ordering::Relaxed, Ordering::Relaxed);
        let picks = self.next.load(Ordering::Relaxed) / self.rule.probes.max(DRAWS) as u64;
        if picks.is_multiple_of(2) {
            let busier = |one: &&Known, other: &&Known| one.in_flight.total_cmp(&other.in_flight);
            if let Some(worst) = known.iter().max_by(busier) {
                self.slots[worst.slot].store(0, Ordering::Relaxed);
            }
        }
    }
}

/// The backend in a slot.
fn place(word: u64) -> Option<Index> {
    (word as u32).checked_sub(1).map(|place| Index::new(place as usize))
}

/// The one with the least latency among those that have no more in flight than a part of all; by lot among equals.
fn coldest<'a>(known: &'a [Known], cold: f64, rng: &mut Rng) -> Option<&'a Known> {
    let mut in_flight = [0.0; KNOWN];
    let in_flight = &mut in_flight[..known.len()];
    in_flight.iter_mut().zip(known).for_each(|(slot, known)| *slot = known.in_flight);
    in_flight.sort_unstable_by(f64::total_cmp);
    // Rounded down: of two, the busier one is hot.
    let hot = in_flight[(cold * (known.len() - 1) as f64) as usize];
    let told = || known.iter().map(|known| known.latency).filter(|latency| !latency.is_nan());
    let mean = told().sum::<f64>() / told().count() as f64;
    // Where nobody told a latency that is one, failures weigh all the same.
    let mean = if mean > 0.0 { mean } else { 1.0 };
    let mut least = sample::Least::default();
    for (at, known) in known.iter().enumerate().filter(|(_, known)| known.in_flight <= hot) {
        // One that fails before it has a latency to tell of has none that is short.
        let latency = if known.latency.is_nan() { mean } else { known.latency };
        least.offer(Index::new(at), for_its_weight(latency + known.failures * mean, known.weight), rng);
    }
    known.get(least.index?.get())
}

/// What a load is to one of such a weight: to one of weight 0 every load is too much, none too.
fn for_its_weight(load: f64, weight: f64) -> f64 {
    if weight > 0.0 { load / weight } else { f64::INFINITY }
}
