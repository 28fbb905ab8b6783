//! What the bench of fleets says, in a subset that is quick enough for every run, beside what theory says of it.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "files of the bench and of the crate, of which a part is used"
)]

#[path = "../src/fleet/ballot.rs"]
mod ballot;
#[path = "../src/fleet/council.rs"]
mod council;
#[path = "../src/hash.rs"]
mod hashing;

mod backend {
    pub(crate) use tower_balancer::backend::BackendId;
}

/// The crate's own, and each gateway that is ranked is counted.
mod hash {
    pub(crate) use crate::hashing::hash_key;
    use std::cell::Cell;

    thread_local! {
        pub(crate) static RANKED: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn mix(one: u64, other: u64) -> u64 {
        RANKED.set(RANKED.get() + 1);
        crate::hashing::mix(one, other)
    }
}

#[path = "../benches/fleet/cost.rs"]
mod cost;
#[path = "../benches/fleet/detection.rs"]
mod detection;
#[path = "../benches/fleet/herd.rs"]
mod herd;
#[path = "../benches/fleet/probes.rs"]
mod probes;
#[path = "../benches/fleet/subsets.rs"]
mod subsets;
#[path = "../benches/fleet/traffic.rs"]
mod traffic;

#[path = "../benches/quality/balancer.rs"]
mod balancer;
#[path = "../benches/quality/draw.rs"]
mod draw;
#[path = "../benches/quality/replica.rs"]
mod replica;
#[path = "../benches/quality/scenario.rs"]
mod scenario;
#[path = "../benches/quality/world.rs"]
mod world;

use ballot::Ballot;
use cost::Seen;
use council::Council;
use detection::Fleet;
use herd::{Return, spread, welcome};
use probes::{backends, gateways, probers, share};
use std::sync::Arc;
use subsets::{Choice, connect};
use tower_balancer::backend::Outcome;
use traffic::{Ejected, Traffic};

const INTERVAL: f64 = 5.0;
/// The longest interval, with what chance adds, and a moment for news to go around.
const AN_INTERVAL: f64 = 1.1 * INTERVAL + 0.2;

fn mean(times: &[f64]) -> f64 {
    times.iter().sum::<f64>() / times.len() as f64
}

fn assert_near(found: f64, theory: f64, tolerance: f64, what: &str) {
    assert!((found / theory - 1.0).abs() < tolerance, "{what}: {found:.3}, theory {theory:.3}");
}

#[test]
fn the_shares_are_those_that_each_gateway_works_out_for_itself() {
    let (names, backends) = (gateways(7, 1), backends(40));
    for k in 1..=3 {
        let asked_by = probers(&names, &backends, k);
        for (me, name) in names.iter().enumerate() {
            let mut council = Council::new(Arc::clone(name), k);
            names.iter().for_each(|other| council.hear(Arc::clone(other), Some(Ballot::default())));
            let round = council.round();
            for (backend, asked_by) in backends.iter().zip(&asked_by) {
                assert_eq!(round.rule(backend).is_mine, asked_by.contains(&me), "{backend} by {k}");
            }
        }
    }
}

#[test]
fn shares_are_as_even_as_by_lot_and_only_the_share_of_who_leaves_moves() {
    for (count, all, k) in [(3, 100, 2), (10, 1_000, 2), (100, 1_000, 2), (100, 1_000, 3), (20, 10, 2)] {
        for seed in 1..4 {
            let shares = share(&gateways(count, seed), &backends(all), k);
            assert_eq!((shares.askers, shares.mean), (k, (k * all) as f64 / count as f64));
            // Each backend falls to a gateway by k chances in so many.
            let p = k as f64 / count as f64;
            let deviation = (all as f64 * p * (1.0 - p)).sqrt();
            let (most, fewest) = (shares.most as f64 - shares.mean, shares.mean - shares.fewest as f64);
            assert!(most < 5.0 * deviation && fewest < 5.0 * deviation, "{shares:?} {deviation}");
            assert_eq!(shares.moved, shares.had);
        }
    }
}

fn fleet(gateways: usize, k: usize) -> Fleet {
    Fleet { gateways, backends: 120, dying: 100, k, threshold: 1, lag_ms: 5.0, loss: 0.0, broken: None, seconds: 60.0 }
}

#[test]
fn a_death_is_known_everywhere_within_an_interval() {
    // Each asks at times of its own: one of them finds it, the later of two, or the second of three.
    for (k, part) in [(1, 1.0 / 2.0), (2, 2.0 / 3.0), (3, 1.0 / 2.0)] {
        let found = detection::run(&fleet(4, k), 1);
        assert_eq!((found.all.len(), found.missed, found.wrong), (100, 0, 0.0));
        assert_near(mean(&found.all), part * INTERVAL, 0.12, "mean");
        assert!(found.all[99] < AN_INTERVAL, "{k}: {:?}", found.all);
        // Two more in a row, each after a second.
        let patient = detection::run(&Fleet { threshold: 3, ..fleet(4, k) }, 1);
        assert_near(mean(&patient.all), part * INTERVAL + 2.0, 0.12, "in a row");
        assert!(patient.all[99] < AN_INTERVAL + 2.0 * 1.1, "{k}: {:?}", patient.all);
    }
}

#[test]
fn the_last_gateway_hears_of_it_as_late_as_the_longest_of_all_delays() {
    let found = detection::run(&Fleet { lag_ms: 1_000.0, ..fleet(20, 1) }, 1);
    // The mean of the longest of n exponential times is the n-th harmonic number; who asked knows at once.
    let harmonic: f64 = (1..20).map(|n| 1.0 / f64::from(n)).sum();
    assert_near(mean(&found.all) - mean(&found.first), harmonic, 0.1, "seconds");
    assert_near(mean(&found.first), INTERVAL / 2.0, 0.12, "the first one");
}

#[test]
fn the_same_seed_gives_the_same_deaths_and_another_gives_others() {
    let once = |seed| detection::run(&Fleet { loss: 0.05, backends: 30, dying: 20, ..fleet(5, 2) }, seed);
    assert!(once(7) == once(7) && once(7) != once(8));
}

#[test]
fn one_broken_gateway_takes_out_its_share_with_one_prober_and_nobody_with_more() {
    let had = |k| {
        let asked_by = probers(&gateways(4, 1), &backends(120), k);
        asked_by.iter().filter(|asked_by| asked_by.contains(&0)).count()
    };
    let finds = |k, all| {
        let dying = if all { 120 } else { 0 };
        detection::run(&Fleet { broken: Some(all), dying, ..fleet(4, k) }, 1)
    };
    // One that finds all of them ill; and one that finds all well, whatever dies.
    assert_eq!([1, 2, 3].map(|k| finds(k, false).wrong), [had(1) as f64, 0.0, 0.0]);
    assert_eq!([1, 2, 3].map(|k| finds(k, true).missed), [had(1), had(2), 0]);
}

#[test]
fn checks_that_get_lost_take_out_the_well_as_often_as_chance_has_it() {
    let p = 0.1;
    let fleet = |k, threshold| Fleet { dying: 0, backends: 30, loss: p, threshold, seconds: 250.0, ..fleet(3, k) };
    // In for 5 s a check until one is lost, out for a second a check until one is not.
    let cycle = INTERVAL / p + 1.0 / (1.0 - p);
    let out = 1.0 / (1.0 - p) / cycle;
    let runs = 5;
    let seconds = runs as f64 * 30.0 * 250.0;
    let [one, two, three] = [1, 2, 3].map(|k| detection::runs(&fleet(k, 1), 1, runs).wrong);
    assert_near(one, seconds / cycle, 0.1, "one");
    // Two at the same time; of three there are three pairs.
    let both = seconds * 2.0 * out / cycle;
    assert_near(two, both, 0.5, "two");
    assert_near(three, 3.0 * both, 0.5, "three");
    // Three lost in a row, twice at the same time.
    assert_eq!(detection::run(&fleet(2, 3), 1).wrong, 0.0);
}

#[test]
fn each_gateways_traffic_pays_for_itself_to_find_out() {
    for gateways in [1, 10, 100] {
        let traffic = Traffic { gateways, backends: 10, rate: 100.0, outcome: Outcome::ConnectFault };
        // Who cannot be reached is out with the first request, who fails with the fifth.
        assert_eq!(traffic::run(&traffic, 1).failed, gateways as u64);
        let Ejected { half, failed, .. } = traffic::run(&Traffic { outcome: Outcome::BackendFault, ..traffic }, 1);
        assert_eq!(failed, 5 * gateways as u64);
        // Five turns, and it is somewhere in the first.
        if gateways == 100 {
            assert_near(half, 4.5 * gateways as f64 / 100.0, 0.1, "half of the gateways");
        }
    }
}

#[test]
fn apertures_are_even_and_move_and_subsets_stay_and_are_as_even_as_by_lot() {
    for (count, all) in [(10, 100), (50, 100), (30, 7)] {
        let least = 12;
        let [mesh, subset, aperture] =
            [Choice::Mesh, Choice::Subset, Choice::Aperture].map(|choice| connect(choice, count, least, all, 1));
        assert_eq!((mesh.fewest, mesh.most, mesh.first_left), (count, count, 0.0));
        assert!((aperture.busiest - 1.0).abs() < 1e-9 && (aperture.idlest - 1.0).abs() < 1e-9, "{aperture:?}");
        assert_eq!((subset.first_left, subset.last_left), (0.0, 0.0));
        if all > least {
            let p = least as f64 / all as f64;
            let deviation = (count as f64 * p * (1.0 - p)).sqrt();
            assert_eq!(subset.mean, count as f64 * p);
            assert!((subset.most as f64 - subset.mean) < 5.0 * deviation && subset.busiest > 1.0, "{subset:?}");
            // An aperture touches one backend more than it needs at either end.
            assert!(aperture.most - aperture.fewest <= 2 && aperture.first_left > 0.05, "{aperture:?}");
            // Somebody else takes the place of one that leaves, in the subsets that had it.
            assert_near(subset.backend_left, 1.0 / all as f64, 0.7, "a backend has left");
        } else {
            assert_eq!((subset.fewest, aperture.fewest, aperture.most), (count, count, count));
        }
    }
}

#[test]
fn what_a_look_costs_grows_with_gateways_times_backends_and_its_memory_with_the_votes() {
    let k = 2;
    let mut memory = Vec::new();
    for (count, all) in [(5, 200), (50, 200), (5, 2_000)] {
        let seen = Seen::new(count, all, k, 1);
        hash::RANKED.set(0);
        let mine = seen.look();
        // Everybody, for who has to ask; and who has voted, for what they say.
        assert_eq!(hash::RANKED.get(), all * (count + k));
        let look = seen.cost();
        assert_eq!((look.mine, look.votes), (mine, k * all));
        memory.push(look.memory as f64);
    }
    assert!(memory[1] < 1.2 * memory[0] && (5.0..15.0).contains(&(memory[2] / memory[0])), "{memory:?}");
}

#[test]
fn one_change_is_told_in_as_many_bytes_whatever_the_number_of_gateways() {
    // k ballots with a share of k · backends / gateways votes each, to all gateways.
    let [few, many] = [5, 50].map(|count| Seen::new(count, 1_000, 2, 1).wire());
    assert_near(many.tells, few.tells, 0.25, "to few and to many");
    assert_near(Seen::new(5, 2_000, 2, 1).wire().tells, 2.0 * few.tells, 0.1, "twice the backends");
    assert!(few.ballot < few.all / 2);
}

#[test]
fn among_many_gateways_what_is_in_flight_at_one_says_little() {
    let jobs = |strategy, gateways| spread(strategy, gateways, 1_000.0, 1, 3.0).max_mean;
    let chance = jobs("random", 10);
    let [one, ten, many] = [1, 10, 500].map(|gateways| jobs("least_request", gateways));
    assert!(one < 0.6 * chance && one < ten && ten < many, "{one} {ten} {many}, by chance {chance}");
}

#[test]
fn who_comes_back_gets_a_fair_share_by_turns_and_less_with_a_slow_start() {
    let back = Return { gateways: 20, after_ms: 5_000.0, told_ms: 10.0, new: false, cold: false };
    let turns = welcome("round_robin", &back, 1);
    let slow = welcome("round_robin+slow_start", &back, 1);
    assert_near(turns.second, 1.0, 0.15, "by turns");
    assert!((0.05..0.3).contains(&slow.second) && slow.later > 0.8, "{slow:?}");
}

#[test]
fn many_gateways_that_do_not_know_a_backend_do_not_all_try_it_at_once() {
    let back = Return { gateways: 100, after_ms: 3_000.0, told_ms: 10.0, new: true, cold: false };
    let found = welcome("least_latency", &back, 1);
    // One from each would be 3.6 times its share of the first tenth of a second, and a quarter of a second's work at once.
    assert!(found.tenth < 2.2 && found.peak < 8.0, "{found:?}");
    assert_near(found.second, 1.0, 0.4, "over a fair share");
}
