use super::{
    Candidates, Hint, Index, Picker, Score, Strategy,
    sample::{Least, distinct, failures},
};
use crate::{
    backend::{Backend, Moment, Sampled},
    ewma::{blend, fade},
    rng::Rng,
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
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastLatency;

/// What [`LeastLatency`] builds.
#[derive(Debug)]
pub struct LeastLatencyPicker {
    /// The mean latency of the backends in seconds, as far as the picks before have seen them, as `f64` bits; zero while unknown.
    mean: AtomicU64,
    /// The best candidates of the last picks among many, by place.
    remembered: [AtomicU32; REMEMBERED],
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
    /// The strategy.
    pub fn new() -> Self {
        Self
    }
}

impl Strategy for LeastLatency {
    type Picker = LeastLatencyPicker;

    fn build(&self, _members: &[Arc<Backend>]) -> LeastLatencyPicker {
        // Nobody is remembered yet: a place beyond any member.
        LeastLatencyPicker { mean: AtomicU64::new(0), remembered: std::array::from_fn(|_| AtomicU32::new(u32::MAX)) }
    }
}

impl Picker for LeastLatencyPicker {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let mut rng = hint.rng();
        if candidates.len() <= SCAN {
            return self.cheapest(candidates, candidates.eligible(), hint, &mut rng, |_, _| {});
        }
        let mut looked_at = [Index::new(0); CHOICES + REMEMBERED];
        let looked_at = self.sample(candidates, &mut rng, &mut looked_at);
        let mut best = [(f64::INFINITY, None); REMEMBERED];
        let picked = self.cheapest(candidates, looked_at, hint, &mut rng, |index, cost| {
            keep_best(&mut best, cost, index);
        });
        for (slot, (_, index)) in self.remembered.iter().zip(best) {
            if let Some(index) = index {
                slot.store(index.get() as u32, Ordering::Relaxed);
            }
        }
        picked
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let (backend, now) = (candidates.get(index)?, Moment::of(hint.now));
        let mean = mean(candidates.iter().map(|(_, backend)| &**backend), now);
        let (load, latency) = (backend.load(), backend.load().latency());
        let measured = latency.mean(now);
        let parts = [
            ("mean latency", measured.map_or(f64::NAN, |sampled| sampled.value)),
            ("the pool's", mean),
            ("mean age", latency.mean_age(now).as_secs_f64()),
            ("in flight", load.work()),
            ("failures", failures(load, now)),
            ("weight", hint.weight(backend)),
        ];
        let of = if candidates.len() <= SCAN { candidates.len() } else { CHOICES + REMEMBERED };
        Some(Score::new(cost(backend, measured, mean, of, hint, now), parts))
    }
}

impl LeastLatencyPicker {
    /// Some at random, and those that were good a moment ago.
    fn sample<'a>(
        &self,
        candidates: &Candidates<'_>,
        rng: &mut Rng,
        looked_at: &'a mut [Index; CHOICES + REMEMBERED],
    ) -> &'a [Index] {
        let eligible = candidates.eligible();
        let mut n = 0;
        distinct(eligible.len(), CHOICES, rng, |place, _| {
            looked_at[n] = eligible[place];
            n += 1;
        });
        for remembered in &self.remembered {
            let index = Index::new(remembered.load(Ordering::Relaxed) as usize);
            if candidates.is_eligible(index) && !looked_at[..n].contains(&index) {
                looked_at[n] = index;
                n += 1;
            }
        }
        &looked_at[..n]
    }

    /// The cheapest of them; `each` hears of all. One look at each backend: the mean that they are compared with is that of the
    /// pick before.
    fn cheapest(
        &self,
        candidates: &Candidates<'_>,
        looked_at: &[Index],
        hint: &Hint<'_>,
        rng: &mut Rng,
        mut each: impl FnMut(Index, f64),
    ) -> Option<Index> {
        let now = Moment::of(hint.now);
        let backends = || looked_at.iter().filter_map(|&index| Some((index, candidates.get(index)?)));
        let known = f64::from_bits(self.mean.load(Ordering::Relaxed));
        let mean = if known > 0.0 { known } else { mean(backends().map(|(_, backend)| &**backend), now) };
        let (mut least, mut sum, mut n) = (Least::default(), 0.0, 0_u32);
        for (index, backend) in backends() {
            let measured = backend.load().latency().mean(now);
            if let Some(measured) = measured {
                (sum, n) = (sum + measured.value, n + 1);
            }
            let cost = cost(backend, measured, mean, looked_at.len(), hint, now);
            least.offer(index, cost, rng);
            each(index, cost);
        }
        if n > 0 {
            self.learn(known, sum / f64::from(n), candidates.len() <= SCAN);
        }
        least.index
    }

    /// Takes in the mean of all, or of some of them.
    fn learn(&self, known: f64, seen: f64, is_of_all: bool) {
        let mean = if is_of_all || known == 0.0 { seen } else { blend(known, seen, 0.05) };
        // What hardly changes is not written: other threads read it. Two picks at once may lose one of two looks, and nothing else.
        if !is_of_all || (mean - known).abs() > known * 0.01 {
            self.mean.store(mean.to_bits(), Ordering::Relaxed);
        }
    }
}

/// Stands for the mean while nothing was ever measured: any number will do, since all cost alike.
const UNKNOWN: f64 = 1.0;

/// The mean of what was measured.
fn mean<'a>(backends: impl Iterator<Item = &'a Backend>, now: Moment) -> f64 {
    let measured = backends.filter_map(|backend| backend.load().latency().mean(now));
    let (sum, n) = measured.fold((0.0, 0_u32), |(sum, n), sampled| (sum + sampled.value, n + 1));
    if n > 0 { sum / f64::from(n) } else { UNKNOWN }
}

/// What a request costs on `backend`, one of so many that are compared.
fn cost(backend: &Backend, measured: Option<Sampled>, mean: f64, of: usize, hint: &Hint<'_>, now: Moment) -> f64 {
    let load = backend.load();
    let in_flight = load.work();
    let estimate = match measured.filter(|sampled| sampled.idle < FORGOTTEN) {
        Some(sampled) => blend(mean, sampled.value, fade(sampled.idle, DRIFT)),
        // One request finds out how it is; the others wait for what it finds.
        None if in_flight == 0.0 && hint.turns_to(backend, of) => 0.0,
        None => mean,
    };
    let age = load.latency().mean_age_secs(now);
    let (weight, requests) = (hint.weight(backend), in_flight + hint.work() + OTHERS);
    // Mostly there is nothing to divide, and of a division all that follows has to wait.
    let ahead = if weight == 1.0 { requests } else { requests / weight };
    (estimate + failures(load, now) * mean).max(age / 2.0) * ahead * ahead
}

/// Keeps the cheapest, in order.
fn keep_best(best: &mut [(f64, Option<Index>); REMEMBERED], cost: f64, index: Index) {
    if let Some(at) = best.iter().position(|(kept, _)| cost < *kept) {
        best[at..].rotate_right(1);
        best[at] = (cost, Some(index));
    }
}
