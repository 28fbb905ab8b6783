//! What every strategy must do, as a test that you run on your own.
//!
//! ```
//! use tower_balancer::strategy::{LeastRequest, conformance};
//!
//! conformance::check(LeastRequest::new, std::time::Instant::now());
//! ```

use super::{Candidates, Eligible, Hint, Index, Picker, Strategy, hash_key};
use crate::{
    backend::{Backend, BackendId, Lease, Outcome, Report, Weight},
    rng::Rng,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Runs the strategies that `make` makes through pools of every size and shape, with a fixed seed, and in a time of its
/// own that begins at `start` and does not pass by itself. Takes about a second.
///
/// # Panics
///
/// With what it did wrong:
///
/// * It picked a backend that is out or was tried, or a place beyond the members, or none although some were eligible:
///   whatever backends weigh and tell about their load, and whatever a request costs.
/// * It never picked one of several backends that are alike, under load or idle. Keys differ from request to request.
/// * A backend that fails at once got more than its share, whether it tells that it is idle or nothing.
/// * It did not follow a change of the members.
/// * Asked the same in the same order, two of them picked differently.
pub fn check<S: Strategy>(make: impl Fn() -> S, start: Instant) {
    picks_only_the_eligible(&make, start);
    excludes(&make(), start);
    starves_nobody(&make(), start);
    for (members, tells) in [(10, false), (2, false), (10, true), (2, true)] {
        is_not_drawn_to_failure(&make(), start, members, tells);
    }
    spreads_while_idle(&make, start);
    follows_the_members(&make(), start);
    is_repeatable(&make, start);
}

/// Beyond [`check`], for strategies that go by weights: with many requests in flight, each of several backends that are
/// alike but for their weights gets its share, to within a tenth of it.
///
/// # Panics
///
/// With the share that is not what the weight says.
pub fn check_weights<S: Strategy>(make: impl Fn() -> S, start: Instant) {
    const WEIGHTS: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
    let pool = Pool::new(&make(), &WEIGHTS);
    let picks = serve(&pool, start, 20_000, false, |_| (Outcome::Success, Duration::from_millis(200)));
    for (count, weight) in counts(&picks, WEIGHTS.len()).into_iter().zip(WEIGHTS) {
        let (share, expected) = (count as f64 / 20_000.0, weight / 10.0);
        let near = (share - expected).abs() < expected / 10.0;
        assert!(near, "weight {weight} of 10 got {:.1} % of the picks", share * 100.0);
    }
}

/// Beyond [`check`], for strategies that go by keys: equal keys meet the same backend, and when one is out, no other's keys
/// move.
///
/// # Panics
///
/// With the key that moved.
pub fn check_keys<S: Strategy>(make: impl Fn() -> S, start: Instant) {
    const MEMBERS: usize = 20;
    let pool = Pool::new(&make(), &[1.0; MEMBERS]);
    let all = Eligible::new([true; MEMBERS]);
    let mut rng = Rng::new(4);
    for key in 0..500 {
        let mut of = |eligible: &Eligible| {
            let hint = Hint::new(start, rng.next_u64()).key(hash_key(u64::to_le_bytes(key)));
            pool.picker.pick(&Candidates::new(&pool.backends, eligible), &hint)
        };
        let owner = of(&all);
        assert!(owner.is_some() && of(&all) == owner, "key {key} met two backends");
        let out = Index::new(key as usize % MEMBERS);
        let moved = owner != Some(out) && of(&all.with(out, false)) != owner;
        assert!(!moved, "key {key} moved, although its backend is in");
    }
}

/// Backends of such weights, and a picker over them.
struct Pool<P> {
    backends: Vec<Arc<Backend>>,
    picker: P,
}

impl<P: Picker> Pool<P> {
    fn new(strategy: &impl Strategy<Picker = P>, weights: &[f64]) -> Self {
        let backend = |(place, &weight): (usize, &f64)| {
            let backend = Backend::new(place.to_string());
            backend.set_weight(Weight::new(weight).unwrap_or_default());
            Arc::new(backend)
        };
        let backends: Vec<_> = weights.iter().enumerate().map(backend).collect();
        let picker = strategy.build(&backends);
        Self { backends, picker }
    }

    /// A pick for a request of which the key is random.
    fn pick(&self, eligible: &Eligible, now: Instant, rng: &mut Rng) -> Option<Index> {
        self.pick_at_cost(eligible, now, rng, 1.0)
    }

    fn pick_at_cost(&self, eligible: &Eligible, now: Instant, rng: &mut Rng, cost: f64) -> Option<Index> {
        let hint = Hint::new(now, rng.next_u64()).key(rng.next_u64()).cost(cost);
        self.picker.pick(&Candidates::new(&self.backends, eligible), &hint)
    }

    /// Each backend tells something about its load.
    fn report(&self, now: Instant, mut tells: impl FnMut() -> f64) {
        for backend in &self.backends {
            let (utilization, qps, eps) = (tells(), tells(), tells());
            let report = Report { utilization, qps, eps, in_flight: Some(tells()), latency: Some(tells()) };
            backend.reported(&report, now);
        }
    }
}

/// Alike, nothing, anything, and the extremes.
const WEIGHTS: [fn(&mut Rng) -> f64; 4] =
    [|_| 1.0, |_| 0.0, |rng| rng.unit() * 10.0, |rng| [0.0, 1e-300, 1.0, f64::MAX][rng.below(4)]];

/// What backends tell: nothing yet, that they are idle, anything, and the extremes.
const TELLS: [fn(&mut Rng) -> f64; 4] = [
    |_| f64::NAN,
    |_| 0.0,
    |rng| rng.unit() * 10.0,
    |rng| [f64::NAN, -1.0, 0.0, 1e-30, 1e30, f64::INFINITY][rng.below(6)],
];

const COSTS: [f64; 8] = [1.0, 0.0, -1.0, f64::NAN, 1e-300, f64::MAX, f64::INFINITY, f64::NEG_INFINITY];

fn picks_only_the_eligible<S: Strategy>(make: &impl Fn() -> S, start: Instant) {
    let mut rng = Rng::new(1);
    for members in [0, 1, 2, 3, 10, 64, 65, 129, 300] {
        for weight in WEIGHTS {
            let weights: Vec<f64> = (0..members).map(|_| weight(&mut rng)).collect();
            let pool = Pool::new(&make(), &weights);
            for share in [0, 1, 50, 99, 100] {
                let flags: Vec<bool> = (0..members).map(|_| rng.below(100) < share).collect();
                let eligible = Eligible::new(flags.iter().copied());
                for (tells, cost) in TELLS.into_iter().flat_map(|tells| COSTS.map(|cost| (tells, cost))) {
                    pool.report(start, || tells(&mut rng));
                    match pool.pick_at_cost(&eligible, start, &mut rng, cost) {
                        Some(index) => {
                            assert!(index.get() < members, "of {members} members it picked number {}", index.get());
                            assert!(flags[index.get()], "it picked a backend that is out");
                        }
                        None => assert!(!flags.contains(&true), "it picked none, although some were eligible"),
                    }
                }
            }
        }
    }
}

/// Those that were tried are taken from the candidates; where all were, they stay.
fn excludes<S: Strategy>(strategy: &S, start: Instant) {
    const MEMBERS: usize = 20;
    let pool = Pool::new(strategy, &[1.0; MEMBERS]);
    let ids: Vec<BackendId> = pool.backends.iter().map(|backend| backend.id().clone()).collect();
    let mut rng = Rng::new(5);
    for tried in (0..=MEMBERS).flat_map(|tried| [tried; 20]) {
        let left = if tried == MEMBERS { 0 } else { tried };
        let eligible = Eligible::new((0..MEMBERS).map(|place| place >= left));
        let hint = Hint::new(start, rng.next_u64()).key(rng.next_u64()).excluding(&ids[..tried]);
        // Once as the pool offers them, once as a stage around the strategy does.
        let offered = Candidates::new(&pool.backends, &eligible);
        for candidates in [offered, offered.among(eligible.as_slice())] {
            match pool.picker.pick(&candidates, &hint) {
                Some(index) => assert!(eligible.contains(index), "it picked a backend that was tried already"),
                None => panic!("it picked none, although some were eligible"),
            }
        }
    }
}

fn starves_nobody<S: Strategy>(strategy: &S, start: Instant) {
    const MEMBERS: usize = 5;
    let pool = Pool::new(strategy, &[1.0; MEMBERS]);
    let picks = serve(&pool, start, 2_000, false, |_| (Outcome::Success, Duration::from_millis(10)));
    for (place, count) in counts(&picks, MEMBERS).into_iter().enumerate() {
        assert!(count > 0, "of 2000 picks among {MEMBERS} backends that are alike, number {place} got none");
    }
}

/// Where nothing tells them apart, whoever comes first in the list must not get everything.
fn spreads_while_idle<S: Strategy>(make: &impl Fn() -> S, start: Instant) {
    const MEMBERS: usize = 5;
    const PICKS: usize = 50 * MEMBERS;
    let all = Eligible::new([true; MEMBERS]);
    // Nothing, nothing in flight, something.
    for tells in [f64::NAN, 0.0, 0.5] {
        let (pool, mut rng) = (Pool::new(&make(), &[1.0; MEMBERS]), Rng::new(6));
        pool.report(start, || tells);
        let picks: Vec<_> = (0..PICKS).filter_map(|_| pool.pick(&all, start, &mut rng)).collect();
        for (place, count) in counts(&picks, MEMBERS).into_iter().enumerate() {
            assert!(
                count > 0,
                "of {PICKS} picks among {MEMBERS} idle backends that are alike, number {place} got none"
            );
        }
    }
}

fn is_not_drawn_to_failure<S: Strategy>(strategy: &S, start: Instant, members: usize, tells: bool) {
    const REQUESTS: u32 = 10_000;
    let pool = Pool::new(strategy, &vec![1.0; members]);
    // Whatever their number, each of them works on five.
    let takes = Duration::from_millis(5 * members as u64);
    let fails_at_once = |place| match place {
        0 => (Outcome::BackendFault, Duration::from_millis(1)),
        _ => (Outcome::Success, takes),
    };
    let picks = serve(&pool, start, REQUESTS, tells, fails_at_once);
    let share = counts(&picks, members)[0] as f64 / f64::from(REQUESTS);
    // By lot it may get a little more than its part.
    let most = 1.1 / members as f64;
    let told = if tells { ", and tells that it is idle," } else { "" };
    let share_of = share * 100.0;
    assert!(share < most, "a backend that fails at once{told} got {share_of:.1} % of the picks among {members}");
}

/// Chance and time come in with the hint, and everything else is in the backends.
fn is_repeatable<S: Strategy>(make: &impl Fn() -> S, start: Instant) {
    let picks = |members: usize| {
        let pool = Pool::new(&make(), &vec![1.0; members]);
        serve(&pool, start, 500, true, |place| (Outcome::Success, Duration::from_millis(10 + place as u64)))
    };
    for members in [5, 40] {
        assert!(picks(members) == picks(members), "asked the same in the same order, two of them picked differently");
    }
}

fn follows_the_members<S: Strategy>(strategy: &S, start: Instant) {
    let mut rng = Rng::new(3);
    for members in [3, 1, 8, 2, 5] {
        let pool = Pool::new(strategy, &vec![1.0; members]);
        let all = Eligible::new((0..members).map(|_| true));
        for _ in 0..200 {
            let picked = pool.pick(&all, start, &mut rng);
            assert!(picked.is_some_and(|index| index.get() < members), "it picked {picked:?} of {members}");
        }
    }
}

/// Sends so many requests, one each millisecond, that end as said; and says who got them. Where backends tell, each does
/// with each of its answers: how busy it is, and how long its requests take.
fn serve<P: Picker>(
    pool: &Pool<P>,
    start: Instant,
    requests: u32,
    tells: bool,
    ends: impl Fn(usize) -> (Outcome, Duration),
) -> Vec<Index> {
    let all = Eligible::new(pool.backends.iter().map(|_| true));
    let mut rng = Rng::new(2);
    let mut picks = Vec::new();
    let mut open: Vec<(Instant, Outcome, Lease)> = Vec::new();
    for request in 0..requests {
        let now = start + Duration::from_millis(u64::from(request));
        for (ended, outcome, lease) in open.extract_if(.., |(ended, ..)| *ended <= now) {
            lease.complete(outcome, ended);
        }
        if let Some(index) = pool.pick(&all, now, &mut rng) {
            picks.push(index);
            let (backend, (outcome, takes)) = (&pool.backends[index.get()], ends(index.get()));
            if tells {
                let (in_flight, takes) = (f64::from(backend.load().in_flight()), takes.as_secs_f64());
                let (qps, eps) = (100.0, if outcome.is_fault() { 100.0 } else { 0.0 });
                let (in_flight, latency, utilization) = (Some(in_flight), Some(takes), qps * takes / 10.0);
                backend.reported(&Report { utilization, qps, eps, in_flight, latency }, now);
            }
            open.push((now + takes, outcome, Lease::take(Arc::clone(backend), now)));
        }
    }
    picks
}

/// How often each of so many members was picked.
fn counts(picks: &[Index], members: usize) -> Vec<usize> {
    let mut counts = vec![0; members];
    picks.iter().for_each(|index| counts[index.get()] += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Moment,
        strategy::{LeastRequest, RoundRobin},
    };
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A strategy of one function.
    #[derive(Clone, Copy)]
    struct Of(fn(&Candidates<'_>, &Hint<'_>) -> Option<Index>);

    impl Strategy for Of {
        type Picker = Self;
        fn build(&self, _members: &[Arc<Backend>]) -> Self {
            *self
        }
    }

    impl Picker for Of {
        fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
            (self.0)(candidates, hint)
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn start() -> Instant {
        Instant::now()
    }

    #[track_caller]
    fn is_refused(pick: fn(&Candidates<'_>, &Hint<'_>) -> Option<Index>, why: &str) {
        let refused = std::panic::catch_unwind(|| check(|| Of(pick), start())).unwrap_err();
        let literal = refused.downcast_ref::<&str>().map(|told| (*told).to_owned());
        let told = literal.or_else(|| refused.downcast_ref::<String>().cloned()).unwrap();
        assert!(told.contains(why), "{why}: {told}");
    }

    fn faults(backend: &Backend, hint: &Hint<'_>) -> f64 {
        backend.load().latency().faults(Moment::of(hint.now)).map_or(0.0, |faults| faults.value)
    }

    #[test]
    fn ties_by_place_are_refused() {
        is_refused(
            |candidates, hint| {
                let cost = |backend: &Backend| ((faults(backend, hint) * 1e3) as u32, backend.load().in_flight());
                let least = candidates.iter().min_by_key(|(_, backend)| cost(backend));
                least.map(|(index, _)| index)
            },
            "idle backends that are alike",
        );
    }

    #[test]
    fn whoever_believes_a_backend_that_fails_and_tells_that_it_is_idle_is_refused() {
        is_refused(
            |candidates, hint| {
                let told = |backend: &Backend| backend.report(Moment::of(hint.now))?.report.latency;
                let mut rng = hint.rng();
                // Silent ones by lot: they are not drawn to failure.
                let cost = |backend: &Backend| told(backend).map_or(0, |latency| (latency * 1e3) as u64);
                let least = candidates.iter().min_by_key(|(_, backend)| (cost(backend), rng.next_u64()));
                least.map(|(index, _)| index)
            },
            "tells that it is idle",
        );
    }

    #[test]
    fn whoever_is_lost_at_an_odd_cost_or_where_all_were_tried_is_refused() {
        let of_those_that_cost = |candidates: &Candidates<'_>, hint: &Hint<'_>| {
            (hint.cost / hint.cost == 1.0).then(|| LeastRequest::new().pick(candidates, hint))?
        };
        is_refused(of_those_that_cost, "it picked none");
        is_refused(
            |candidates, hint| {
                let untried = |backend: &Backend| !hint.excluded.contains(backend.id());
                candidates.iter().find(|(_, backend)| untried(backend)).map(|(index, _)| index)
            },
            "it picked none",
        );
    }

    #[test]
    fn whoever_draws_by_himself_is_refused() {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        is_refused(
            |candidates, hint| {
                let hint = Hint::new(hint.now, DRAWN.fetch_add(1, Ordering::Relaxed));
                LeastRequest::new().pick(candidates, &hint)
            },
            "picked differently",
        );
    }

    #[test]
    fn those_that_take_turns_pass() {
        check(RoundRobin::new, start());
    }
}
