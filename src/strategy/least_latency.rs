use super::{
    Candidates, Hint, Index, Picker, Score, Strategy,
    sample::{Least, distinct, failures, least},
};
use crate::{
    backend::{Backend, Moment},
    ewma::{blend, fade},
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// The backend that is expected to answer soonest, by what its answers and its open requests show.
///
/// The cost of a backend is `max(mean latency, half the mean age of its open requests) · (in flight + 2)²`:
///
/// * The mean is over the last 40 or so answers, and none counts for more than five times the mean: a pause that hits
///   every backend now and then says nothing about the next request. Among backends that are alike it changes so little
///   that each of many balancers keeps to favourites of its own, where it knows best what is in flight.
/// * A backend that stops answering produces no samples. Its open requests get older, and that shows at once.
/// * An estimate that nobody refreshes drifts toward the pool's mean, not to zero: an idle backend is as good as any, not
///   better than all.
/// * The square prefers spreading over two to queueing behind one, and so keeps many balancers that know nothing of each
///   other from agreeing on the same favourite. The two added are the request itself and one of somebody else's: what is
///   in flight from here is never all there is, and a slow backend that looks idle is worse than a fast one that is not.
/// * A failure is no sample of the latency. The share of failures is charged at a hundred times the pool's mean each.
/// * A backend that was not measured for a minute is explored, by one request at a time, and by no more than its turn would
///   be: each of many balancers wants to know how a new one is, and all at once would drown it.
///
/// The age of a request counts until its answer begins: a long body is no sign of a slow backend. A backend with twice the
/// weight gets twice as many in flight. Up to 128 candidates are all looked at, O(n); beyond, 8 at random and the best 4 of the
/// last pick.
#[derive(Clone, Debug, Default)]
pub struct LeastLatency {
    shared: Arc<Shared>,
}

/// What picks learn for the next ones.
#[derive(Debug)]
struct Shared {
    /// The pool's mean latency in seconds, as `f64` bits; zero while unknown.
    mean: AtomicU64,
    /// The best candidates of the last picks, by place.
    remembered: [AtomicU32; REMEMBERED],
}

impl Default for Shared {
    fn default() -> Self {
        // Nobody is remembered yet: a place beyond any member.
        Self { mean: AtomicU64::new(0), remembered: std::array::from_fn(|_| AtomicU32::new(u32::MAX)) }
    }
}

/// Up to so many candidates, looking at all of them costs a microsecond or two.
const SCAN: usize = 128;
/// Beyond, so many are looked at by lot,
const CHOICES: usize = 8;
/// and so many because they were good a moment ago.
const REMEMBERED: usize = 4;

/// Seconds after which two thirds of an estimate have drifted to the pool's mean.
const DRIFT: f64 = 10.0;
/// Seconds after which an estimate is worth nothing, and the backend is explored anew.
const FORGOTTEN: f64 = 60.0;

/// Requests on a backend that others sent, as far as nothing is known of them.
const OTHERS: f64 = 1.0;

impl LeastLatency {
    /// The strategy; clones learn together.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for LeastLatency {
    type Picker = Self;

    fn build(&self, _members: &[Arc<Backend>]) -> Self {
        self.clone()
    }
}

impl Picker for LeastLatency {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let now = Moment::of(hint.now);
        if candidates.len() <= SCAN { scan(candidates, hint, now) } else { self.sample(candidates, hint, now) }
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let (backend, now) = (candidates.get(index)?, Moment::of(hint.now));
        let mean = mean(candidates.iter().map(|(_, backend)| &**backend), now).unwrap_or(UNKNOWN);
        let (load, latency) = (backend.load(), backend.load().latency());
        let parts = [
            ("mean latency", latency.mean(now).map_or(f64::NAN, |sampled| sampled.value)),
            ("the pool's", mean),
            ("mean age", latency.mean_age(now).as_secs_f64()),
            ("in flight", load.work()),
            ("failures", failures(load, now)),
            ("weight", hint.weight(backend)),
        ];
        let of = if candidates.len() <= SCAN { candidates.len() } else { CHOICES + REMEMBERED };
        Some(Score::new(cost(backend, mean, of, hint, now), parts))
    }
}

/// The best of all.
fn scan(candidates: &Candidates<'_>, hint: &Hint<'_>, now: Moment) -> Option<Index> {
    let mean = mean(candidates.iter().map(|(_, backend)| &**backend), now).unwrap_or(UNKNOWN);
    least(candidates, hint, SCAN, |backend| cost(backend, mean, candidates.len(), hint, now))
}

impl LeastLatency {
    /// The best of some at random and of those that were good a moment ago.
    fn sample(&self, candidates: &Candidates<'_>, hint: &Hint<'_>, now: Moment) -> Option<Index> {
        let mut rng = hint.rng();
        let eligible = candidates.eligible();
        let mut looked_at = [Index::new(0); CHOICES + REMEMBERED];
        let mut n = 0;
        distinct(eligible.len(), CHOICES, &mut rng, |place, _| {
            looked_at[n] = eligible[place];
            n += 1;
        });
        for remembered in &self.shared.remembered {
            let index = Index::new(remembered.load(Ordering::Relaxed) as usize);
            if candidates.is_eligible(index) && !looked_at[..n].contains(&index) {
                looked_at[n] = index;
                n += 1;
            }
        }
        let looked_at = &looked_at[..n];

        let backends = || looked_at.iter().filter_map(|&index| Some((index, candidates.get(index)?)));
        let mean = self.shared.learn_mean(mean(backends().map(|(_, backend)| &**backend), now));
        let mut least = Least::default();
        let mut best = [(f64::INFINITY, None); REMEMBERED];
        for (index, backend) in backends() {
            let cost = cost(backend, mean, looked_at.len(), hint, now);
            least.offer(index, cost, &mut rng);
            keep_best(&mut best, cost, index);
        }
        for (slot, (_, index)) in self.shared.remembered.iter().zip(best) {
            if let Some(index) = index {
                slot.store(index.get() as u32, Ordering::Relaxed);
            }
        }
        least.index
    }
}

impl Shared {
    /// The pool's mean after a look at a part of it.
    fn learn_mean(&self, seen: Option<f64>) -> f64 {
        let known = f64::from_bits(self.mean.load(Ordering::Relaxed));
        let mean = match seen {
            Some(seen) if known > 0.0 => blend(known, seen, 0.05),
            Some(seen) => seen,
            None if known > 0.0 => known,
            None => return UNKNOWN,
        };
        // Two picks at once may lose one of two looks, and nothing else.
        self.mean.store(mean.to_bits(), Ordering::Relaxed);
        mean
    }
}

/// Stands for the mean while nothing was ever measured: any number will do, since all cost alike.
const UNKNOWN: f64 = 1.0;

/// The mean of what was measured.
fn mean<'a>(backends: impl Iterator<Item = &'a Backend>, now: Moment) -> Option<f64> {
    let measured = backends.filter_map(|backend| backend.load().latency().mean(now));
    let (sum, n) = measured.fold((0.0, 0_u32), |(sum, n), sampled| (sum + sampled.value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// What a request costs on `backend`, one of so many that are compared.
fn cost(backend: &Backend, mean: f64, of: usize, hint: &Hint<'_>, now: Moment) -> f64 {
    let load = backend.load();
    let in_flight = load.work();
    let measured = load.latency().mean(now);
    let estimate = match measured.filter(|sampled| sampled.idle < FORGOTTEN) {
        Some(sampled) => blend(mean, sampled.value, fade(sampled.idle, DRIFT)),
        // One request finds out how it is; the others wait for what it finds.
        None if in_flight == 0.0 && hint.turns_to(backend, of) => 0.0,
        None => mean,
    };
    let age = load.latency().mean_age(now).as_secs_f64();
    let ahead = (in_flight + hint.work() + OTHERS) / hint.weight(backend);
    (estimate + failures(load, now) * mean).max(age / 2.0) * ahead * ahead
}

/// Keeps the cheapest, in order.
fn keep_best(best: &mut [(f64, Option<Index>); REMEMBERED], cost: f64, index: Index) {
    if let Some(at) = best.iter().position(|(kept, _)| cost < *kept) {
        best[at..].rotate_right(1);
        best[at] = (cost, Some(index));
    }
}
