//! Properties that every strategy has, and the ones of each.

use super::*;
use crate::{
    backend::{Lease, Outcome, Weight},
    error::{Reason, Unavailable},
    rng::Rng,
};
use std::time::{Duration, Instant};

/// Those that go by no key.
const KEYLESS: [&str; 8] = [
    "round_robin",
    "weighted_round_robin",
    "random",
    "least_request",
    "peak_ewma",
    "least_latency",
    "client_weighted",
    "prequal",
];

fn named(name: &str) -> AnyStrategy {
    name.parse().unwrap()
}

fn backends(weights: &[f64]) -> Vec<Arc<Backend>> {
    let backend = |(place, &weight): (usize, &f64)| {
        let backend = Backend::new(place.to_string());
        backend.set_weight(Weight::new(weight).unwrap());
        Arc::new(backend)
    };
    weights.iter().enumerate().map(backend).collect()
}

#[expect(clippy::disallowed_methods, reason = "no strategy here depends on the time")]
fn hint(seed: u64) -> Hint<'static> {
    Hint::new(Instant::now(), seed)
}

/// How often each of `weights` is picked in `picks` picks from the `eligible`.
fn shares(strategy: &impl Strategy, weights: &[f64], eligible: &Eligible, picks: usize) -> Vec<usize> {
    let backends = backends(weights);
    let picker = strategy.build(&backends);
    let candidates = Candidates::new(&backends, eligible);
    let mut counts = vec![0; weights.len()];
    let mut rng = Rng::new(1);
    for _ in 0..picks {
        if let Some(index) = picker.pick(&candidates, &hint(rng.next_u64())) {
            counts[index.get()] += 1;
        }
    }
    counts
}

fn chi_square(observed: &[usize], weights: &[f64]) -> f64 {
    let (picks, total) = (observed.iter().sum::<usize>() as f64, weights.iter().sum::<f64>());
    let cell = |(&seen, weight): (&usize, &f64)| {
        let expected = picks * weight / total;
        (seen as f64 - expected).powi(2) / expected
    };
    observed.iter().zip(weights).map(cell).sum()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn every_strategy_conforms() {
    for name in AnyStrategy::NAMES {
        let checked = std::panic::catch_unwind(|| conformance::check(|| named(name), Instant::now()));
        assert!(checked.is_ok(), "{name} does not conform");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn those_that_go_by_weights_follow_them_and_those_that_go_by_keys_keep_them() {
    for name in KEYLESS.into_iter().filter(|name| *name != "round_robin") {
        let checked = std::panic::catch_unwind(|| conformance::check_weights(|| named(name), Instant::now()));
        assert!(checked.is_ok(), "{name} does not follow the weights");
    }
    for name in ["ring", "maglev", "rendezvous", "memento"] {
        let checked = std::panic::catch_unwind(|| conformance::check_keys(|| named(name), Instant::now()));
        assert!(checked.is_ok(), "{name} does not keep keys");
    }
    assert!(std::panic::catch_unwind(|| conformance::check_weights(RoundRobin::new, Instant::now())).is_err());
    assert!(std::panic::catch_unwind(|| conformance::check_keys(RoundRobin::new, Instant::now())).is_err());
}

/// A strategy of one function.
#[derive(Clone, Copy)]
struct Wrong(fn(&Candidates<'_>) -> Option<Index>);

impl Strategy for Wrong {
    type Picker = Self;
    fn build(&self, _members: &[Arc<Backend>]) -> Self {
        *self
    }
}

impl Picker for Wrong {
    fn pick(&self, candidates: &Candidates<'_>, _hint: &Hint<'_>) -> Option<Index> {
        (self.0)(candidates)
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn what_does_not_conform_is_told_why() {
    type Pick = fn(&Candidates<'_>) -> Option<Index>;
    let wrong: [(Pick, &str); 5] = [
        (|_| None, "it picked none"),
        (|candidates| Some(Index::new(candidates.backends().len())), "members it picked number"),
        (|candidates| (!candidates.is_empty()).then(|| Index::new(0)), "a backend that is out"),
        (|candidates| candidates.eligible().first().copied(), "got none"),
        (
            |candidates| {
                let least = candidates
                    .iter()
                    .min_by_key(|(_, backend)| (backend.load().in_flight(), backend.load().completed()));
                least.map(|(index, _)| index)
            },
            "fails at once",
        ),
    ];
    for (pick, why) in wrong {
        let checked = std::panic::catch_unwind(|| conformance::check(|| Wrong(pick), Instant::now()));
        let payload = checked.unwrap_err();
        let literal = payload.downcast_ref::<&str>().map(|told| (*told).to_owned());
        let told = literal.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap();
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn admission_says_why_not() {
    let refused = |flags: &[bool]| {
        let (backends, eligible) = (backends(&vec![1.0; flags.len()]), Eligible::new(flags.iter().copied()));
        RoundRobin::new().admit(&Candidates::new(&backends, &eligible))
    };
    assert_eq!(refused(&[]), Admission::Refuse(Unavailable::new(Reason::NoBackends)));
    assert_eq!(refused(&[false, false]), Admission::Refuse(Unavailable::new(Reason::AllUnhealthy)));
    assert_eq!(refused(&[false, true]), Admission::Admit);
}

#[test]
fn round_robin_is_exactly_even_over_the_eligible() {
    let eligible = Eligible::new([true, false, true, true]);
    assert_eq!(shares(&RoundRobin::new(), &[1.0; 4], &eligible, 3_000), [1_000, 0, 1_000, 1_000]);
}

#[test]
fn the_cursor_of_round_robin_survives_a_rebuild() {
    let strategy = RoundRobin::new();
    let backends = backends(&[1.0; 3]);
    let all = Eligible::new([true; 3]);
    let picked: Vec<_> = (0..7)
        .map(|_| strategy.build(&backends).pick(&Candidates::new(&backends, &all), &hint(0)).unwrap().get())
        .collect();
    assert_eq!(picked, [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn random_follows_the_weights() {
    let weights = [1.0, 2.0, 3.0, 0.5, 3.5];
    let counts = shares(&Random, &weights, &Eligible::new([true; 5]), 100_000);
    // 4 degrees of freedom: 18.5 is the 99.9th percentile.
    assert!(chi_square(&counts, &weights) < 18.5, "{counts:?}");
}

#[test]
fn random_follows_the_weights_of_the_eligible_when_most_of_the_weight_is_out() {
    let weights = [96.0, 1.0, 0.0, 3.0];
    let counts = shares(&Random, &weights, &Eligible::new([false, true, true, true]), 100_000);
    assert_eq!((counts[0], counts[2]), (0, 0));
    // 1 degree of freedom: 10.8 is the 99.9th percentile.
    assert!(chi_square(&[counts[1], counts[3]], &[1.0, 3.0]) < 10.8, "{counts:?}");
}

#[test]
fn random_treats_backends_alike_where_all_have_weight_zero() {
    for weights in [[0.0; 4], [f64::MAX; 4]] {
        let counts = shares(&Random, &weights, &Eligible::new([true; 4]), 100_000);
        // 3 degrees of freedom: 16.3 is the 99.9th percentile.
        assert!(chi_square(&counts, &[1.0; 4]) < 16.3, "{counts:?}");
    }
}

#[test]
fn random_never_picks_weight_zero_while_another_is_eligible() {
    let counts = shares(&Random, &[0.0, 1.0, 0.0], &Eligible::new([true; 3]), 10_000);
    assert_eq!(counts, [0, 10_000, 0]);
}

#[test]
fn weights_of_which_the_sum_is_infinite_are_followed_all_the_same() {
    let weights = [f64::MAX, f64::MAX, 0.0, f64::MAX / 2.0];
    // From the table, and where it always misses: there the heavy ones are a part of many that are out.
    let (mut few, mut many) = (weights.to_vec(), weights.to_vec());
    few.push(0.0);
    many.resize(1_000, f64::MAX);
    for weights in [few, many] {
        let eligible = Eligible::new((0..weights.len()).map(|place| place < 4));
        let counts = shares(&Random, &weights, &eligible, 100_000);
        assert_eq!(counts[2], 0);
        // 2 degrees of freedom: 13.8 is the 99.9th percentile.
        let chi_square = chi_square(&[counts[0], counts[1], counts[3]], &[1.0, 1.0, 0.5]);
        assert!(chi_square < 13.8, "{chi_square}");
    }
}

/// Nothing, next to nothing, anything, and the most.
fn any_weight(rng: &mut Rng) -> Weight {
    Weight::new([0.0, 5e-324, 1e-300, 1.0, 10.0 * rng.unit(), 1e300, f64::MAX][rng.below(7)]).unwrap()
}

/// Members, who of them is in, and a picker that was built over exactly these.
struct Version {
    members: Vec<Arc<Backend>>,
    eligible: Eligible,
    picker: Box<dyn Picker>,
}

impl Version {
    fn new(strategy: &AnyStrategy, all: &[Arc<Backend>], rng: &mut Rng) -> Self {
        let (there, is_in) = (rng.below(101), rng.below(101));
        let members: Vec<_> = all.iter().filter(|_| rng.below(100) < there).cloned().collect();
        let eligible = Eligible::new(members.iter().map(|_| rng.below(100) < is_in));
        Self { picker: strategy.build(&members), members, eligible }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn whoever_comes_and_goes_and_whatever_it_weighs_one_that_is_in_is_picked() {
    let start = Instant::now();
    for name in KEYLESS {
        let (strategy, mut rng) = (named(name), Rng::new(1));
        // More than are all looked at.
        let all = backends(&[1.0; 300]);
        let mut old = Version::new(&strategy, &all, &mut rng);
        let mut open: Vec<Lease> = Vec::new();
        for change in 0..150_u64 {
            (0..30).for_each(|_| all[rng.below(300)].set_weight(any_weight(&mut rng)));
            let new = Version::new(&strategy, &all, &mut rng);
            // Who still holds the version before picks from that; both learn together.
            for pick in 0..20 {
                let version = if pick % 2 == 0 { &new } else { &old };
                let now = start + Duration::from_millis(change * 20 + pick);
                let hint = Hint::new(now, rng.next_u64());
                match version.picker.pick(&Candidates::new(&version.members, &version.eligible), &hint) {
                    Some(index) => {
                        assert!(version.eligible.contains(index), "{name}: number {} is out", index.get());
                        open.push(Lease::take(Arc::clone(&version.members[index.get()]), now));
                    }
                    None => assert!(version.eligible.as_slice().is_empty(), "{name}: it picked none"),
                }
                if open.len() > 50 {
                    let outcome = [Outcome::Success, Outcome::BackendFault][rng.below(2)];
                    open.swap_remove(rng.below(50)).complete(outcome, now);
                }
            }
            old = new;
        }
    }
}

#[test]
fn one_that_weighs_nothing_gets_nothing_beside_one_that_weighs_something() {
    for name in ["random", "least_request", "peak_ewma", "least_latency", "prequal"] {
        for weight in [1e-100, 1.0, f64::MAX] {
            let counts = shares(&named(name), &[0.0, weight], &Eligible::new([true; 2]), 1_000);
            assert_eq!(counts, [0, 1_000], "{name}, {weight}");
        }
    }
}

#[test]
fn turns_are_exactly_even_over_whoever_is_in_from_wherever_the_cursor_is() {
    let (strategy, mut rng, all) = (RoundRobin::new(), Rng::new(1), backends(&[1.0; 20]));
    for change in 0..200 {
        let there = rng.below(101);
        let members: Vec<_> = all.iter().filter(|_| rng.below(100) < there).cloned().collect();
        let eligible = Eligible::new(members.iter().map(|_| rng.below(3) > 0));
        let (picker, n) = (strategy.build(&members), eligible.as_slice().len());
        let rounds = 1 + rng.below(3);
        let mut counts = vec![0; members.len()];
        for _ in 0..rounds * n {
            counts[picker.pick(&Candidates::new(&members, &eligible), &hint(0)).unwrap().get()] += 1;
        }
        let is_even = eligible.as_slice().iter().all(|index| counts[index.get()] == rounds);
        assert!(is_even, "change {change}, {n} of {}", members.len());
        // Leave the cursor anywhere.
        (0..rng.below(20)).for_each(|_| _ = picker.pick(&Candidates::new(&members, &eligible), &hint(0)));
    }
}

#[test]
fn weights_are_followed_among_those_that_are_in_whoever_left_and_however_many_are_out() {
    let weights = [1.0, 2.0, 3.0, 4.0];
    for name in ["weighted_round_robin", "client_weighted", "random"] {
        let strategy = named(name);
        for others in [0, 5, 400] {
            // What was there before, to leave something behind in what is shared.
            drop(shares(&strategy, &[7.0; 3], &Eligible::new([true; 3]), 1_000));
            let mut all = weights.to_vec();
            all.resize(4 + others, 2.0);
            let eligible = Eligible::new((0..all.len()).map(|place| place < 4));
            let counts = shares(&strategy, &all, &eligible, 20_000);
            // 3 degrees of freedom: 16.3 is the 99.9th percentile.
            let chi_square = chi_square(&counts[..4], &weights);
            assert!(chi_square < 16.3, "{name} with {others} out: {chi_square}");
        }
    }
}
