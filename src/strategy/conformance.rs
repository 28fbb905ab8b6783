//! What every strategy must do, as a test that you run on your own.
//!
//! ```
//! use tower_balancer::strategy::{LeastRequest, conformance};
//!
//! conformance::check(LeastRequest::new, std::time::Instant::now());
//! ```

use super::{Candidates, Eligible, Hint, Index, Picker, Strategy, hash_key};
use crate::{
    backend::{Backend, Lease, Outcome, Weight},
    rng::Rng,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Runs the strategies that `make` makes through pools of every size and shape, with a fixed seed, and in a time of its
/// own that begins at `start` and does not pass by itself. Takes well under a second.
///
/// # Panics
///
/// With what it did wrong:
///
/// * It picked a backend that is out, or a place beyond the members, or none although some were eligible.
/// * It never picked one of several backends that are alike.
/// * A backend that fails at once got more than its share.
/// * It did not follow a change of the members.
pub fn check<S: Strategy>(make: impl Fn() -> S, start: Instant) {
    picks_only_the_eligible(&make, start);
    starves_nobody(&make(), start);
    is_not_drawn_to_failure(&make(), start);
    follows_the_members(&make(), start);
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
    let counts = serve(&pool, start, 20_000, |_| (Outcome::Success, Duration::from_millis(200)));
    for (count, weight) in counts.into_iter().zip(WEIGHTS) {
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
        let hint = Hint::new(now, rng.next_u64()).key(rng.next_u64());
        self.picker.pick(&Candidates::new(&self.backends, eligible), &hint)
    }
}

/// Alike, nothing, anything, and the extremes.
const WEIGHTS: [fn(&mut Rng) -> f64; 4] =
    [|_| 1.0, |_| 0.0, |rng| rng.unit() * 10.0, |rng| [0.0, 1e-300, 1.0, f64::MAX][rng.below(4)]];

fn picks_only_the_eligible<S: Strategy>(make: &impl Fn() -> S, start: Instant) {
    let mut rng = Rng::new(1);
    for members in [0, 1, 2, 3, 10, 64, 65, 129, 300] {
        for weight in WEIGHTS {
            let weights: Vec<f64> = (0..members).map(|_| weight(&mut rng)).collect();
            let pool = Pool::new(&make(), &weights);
            for share in [0, 1, 50, 99, 100] {
                let flags: Vec<bool> = (0..members).map(|_| rng.below(100) < share).collect();
                let eligible = Eligible::new(flags.iter().copied());
                for _ in 0..20 {
                    match pool.pick(&eligible, start, &mut rng) {
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

fn starves_nobody<S: Strategy>(strategy: &S, start: Instant) {
    const MEMBERS: usize = 5;
    let pool = Pool::new(strategy, &[1.0; MEMBERS]);
    let counts = serve(&pool, start, 2_000, |_| (Outcome::Success, Duration::from_millis(10)));
    for (place, count) in counts.into_iter().enumerate() {
        assert!(count > 0, "of 2000 picks among {MEMBERS} backends that are alike, number {place} got none");
    }
}

fn is_not_drawn_to_failure<S: Strategy>(strategy: &S, start: Instant) {
    const MEMBERS: usize = 10;
    let pool = Pool::new(strategy, &[1.0; MEMBERS]);
    let fails_at_once = |place| match place {
        0 => (Outcome::BackendFault, Duration::from_millis(1)),
        _ => (Outcome::Success, Duration::from_millis(50)),
    };
    let counts = serve(&pool, start, 10_000, fails_at_once);
    let share = counts[0] as f64 / 10_000.0;
    // By lot it may get a little more than its tenth.
    assert!(share < 0.11, "a backend that fails at once got {:.1} % of the picks among {MEMBERS}", share * 100.0);
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

/// Sends so many requests, one each millisecond, that end as said; and counts who got how many.
fn serve<P: Picker>(
    pool: &Pool<P>,
    start: Instant,
    requests: u32,
    ends: impl Fn(usize) -> (Outcome, Duration),
) -> Vec<usize> {
    let all = Eligible::new(pool.backends.iter().map(|_| true));
    let mut rng = Rng::new(2);
    let mut counts = vec![0; pool.backends.len()];
    let mut open: Vec<(Instant, Outcome, Lease)> = Vec::new();
    for request in 0..requests {
        let now = start + Duration::from_millis(u64::from(request));
        for (ended, outcome, lease) in open.extract_if(.., |(ended, ..)| *ended <= now) {
            lease.complete(outcome, ended);
        }
        if let Some(index) = pool.pick(&all, now, &mut rng) {
            counts[index.get()] += 1;
            let (outcome, takes) = ends(index.get());
            open.push((now + takes, outcome, Lease::take(Arc::clone(&pool.backends[index.get()]), now)));
        }
    }
    counts
}
