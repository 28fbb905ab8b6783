//! Properties that every strategy has, and the ones of each.

use super::*;
use crate::{
    backend::Weight,
    error::{Reason, Unavailable},
    rng::Rng,
};
use std::time::Instant;

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
        let checked =
            std::panic::catch_unwind(|| conformance::check(|| name.parse::<AnyStrategy>().unwrap(), Instant::now()));
        assert!(checked.is_ok(), "{name} does not conform");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn those_that_go_by_weights_follow_them_and_those_that_go_by_keys_keep_them() {
    let named = |name: &'static str| move || name.parse::<AnyStrategy>().unwrap();
    for name in ["weighted_round_robin", "client_weighted", "random", "least_request", "peak_ewma", "least_latency"] {
        let checked = std::panic::catch_unwind(|| conformance::check_weights(named(name), Instant::now()));
        assert!(checked.is_ok(), "{name} does not follow the weights");
    }
    for name in ["ring", "maglev", "rendezvous", "memento"] {
        let checked = std::panic::catch_unwind(|| conformance::check_keys(named(name), Instant::now()));
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
