//! The simulator of `benches/quality` is trusted: queueing theory says what it must measure. And what it says of the
//! strategies, in a subset that is quick enough for every run.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "the bench's files, of which a part is used")]

#[path = "../benches/quality/affinity.rs"]
mod affinity;
#[path = "../benches/quality/balancer.rs"]
mod balancer;
#[path = "../benches/quality/catalogue.rs"]
mod catalogue;
#[path = "../benches/quality/draw.rs"]
mod draw;
#[path = "../benches/quality/replica.rs"]
mod replica;
#[path = "../benches/quality/scenario.rs"]
mod scenario;
#[path = "../benches/quality/world.rs"]
mod world;

use scenario::Scenario;
use tower_balancer::strategy::Ring;
use world::{Chooser, Measured, quantile, run};

/// A round trip: what every request takes beside waiting and work.
const TRAVEL_MS: f64 = 0.5;

fn world(replicas: usize, workers: usize, load: f64) -> Scenario {
    Scenario::parse(&format!(
        "name = 'theory'\nreplicas = {replicas}\nworkers = {workers}\nbalancers = 1\nload = {load}\n\
         service = {{ kind = 'exponential', mean_ms = 10 }}"
    ))
    .unwrap()
}

fn strategy(name: &'static str) -> Chooser {
    Chooser::Strategy(name)
}

fn mean(measured: &Measured) -> f64 {
    measured.latency.iter().sum::<f64>() / measured.latency.len() as f64
}

fn assert_near(measured: f64, theory: f64, tolerance: f64, what: &str) {
    let off = (measured / theory - 1.0).abs();
    assert!(off < tolerance, "{what}: measured {measured:.3}, theory {theory:.3}, off by {:.1} %", off * 100.0);
}

/// The probability that a job waits, with `k` servers and `a` of them busy on average (Erlang 1917).
fn erlang_c(k: usize, a: f64) -> f64 {
    let mut blocked = 1.0;
    for n in 1..=k {
        blocked = a * blocked / (n as f64 + a * blocked);
    }
    let load = a / k as f64;
    blocked / (1.0 - load * (1.0 - blocked))
}

/// Mean and 99th percentile of the time in an M/M/k system, in milliseconds, for a mean service of 10 ms.
fn mmk(k: usize, load: f64) -> (f64, f64) {
    let (rate, waits) = (0.1, erlang_c(k, k as f64 * load));
    let drain = k as f64 * rate * (1.0 - load);
    // Waiting is 0, or exponential with the rate at which the line drains; service comes on top.
    let beyond = |t: f64| {
        let waited = (drain * (-rate * t).exp() - rate * (-drain * t).exp()) / (drain - rate);
        (1.0 - waits) * (-rate * t).exp() + waits * waited
    };
    let (mut low, mut high) = (0.0, 10_000.0);
    while high - low > 1e-6 {
        let middle = (low + high) / 2.0;
        if beyond(middle) > 0.01 { low = middle } else { high = middle }
    }
    (1.0 / rate + waits / drain, low)
}

#[test]
fn a_central_queue_is_erlangs() {
    for (k, load) in [(1, 0.5), (4, 0.7), (16, 0.85)] {
        let measured = run(&world(1, k, load), &Chooser::CentralQueue, 1, 600.0 / k as f64);
        let (mean_ms, p99) = mmk(k, load);
        assert_near(mean(&measured), mean_ms + TRAVEL_MS, 0.04, "mean");
        assert_near(quantile(&measured.latency, 0.99), p99 + TRAVEL_MS, 0.06, "p99");
    }
}

#[test]
fn random_choice_is_as_many_queues_of_their_own() {
    for load in [0.5, 0.7, 0.85] {
        let measured = run(&world(10, 4, load), &strategy("random"), 2, 60.0);
        let (mean_ms, p99) = mmk(4, load);
        assert_near(mean(&measured), mean_ms + TRAVEL_MS, 0.04, "mean");
        assert_near(quantile(&measured.latency, 0.99), p99 + TRAVEL_MS, 0.08, "p99");
    }
}

#[test]
fn turns_are_better_than_chance_and_worse_than_one_line() {
    let scenario = world(10, 4, 0.8);
    let p99 = |chooser: &Chooser| quantile(&run(&scenario, chooser, 3, 60.0).latency, 0.99);
    let [line, turns, chance] = [Chooser::CentralQueue, strategy("round_robin"), strategy("random")].map(|c| p99(&c));
    assert!(line < turns && turns < chance, "{line} {turns} {chance}");
    // With Erlang arrivals of order 10 the line of one worker is close to half as long (Kingman 1961: (1 + 1/10) / 2).
    let scenario = world(10, 1, 0.7);
    let waited = |chooser: &Chooser| mean(&run(&scenario, chooser, 4, 120.0)) - TRAVEL_MS - 10.0;
    let [turns, chance] = [strategy("round_robin"), strategy("random")].map(|c| waited(&c));
    assert_near(chance, 10.0 * 0.7 / 0.3, 0.05, "M/M/1");
    assert!((0.35..0.55).contains(&(turns / chance)), "Kingman's bound is 0.55 of {chance}: {turns}");
}

#[test]
fn a_shared_processor_does_not_care_for_the_law_of_the_work() {
    for law in [
        "kind = 'exponential', mean_ms = 10",
        "kind = 'constant', mean_ms = 10",
        "kind = 'bounded_pareto', alpha = 1.5, min = 0.35, max = 50, mean_ms = 10",
    ] {
        let scenario = Scenario::parse(&format!(
            "name = 'shared'\nreplicas = 4\nprocessor_sharing = true\ncapacity = 1.0\nbalancers = 1\nload = 0.6\nservice = {{ {law} }}"
        ))
        .unwrap();
        let measured = run(&scenario, &strategy("random"), 5, 300.0);
        assert_near(mean(&measured), 10.0 / 0.4 + TRAVEL_MS, 0.06, law);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    for id in ["S4", "S6", "S7", "S9", "S14"] {
        let scenario = catalogue::scenarios(Some(id)).remove(0);
        for name in ["random", "least_latency"] {
            let once = |seed| run(&scenario, &strategy(name), seed, 1.0).latency;
            assert!(once(7) == once(7), "{id} {name}");
            assert!(once(7) != once(8), "{id} {name}");
        }
    }
}

#[test]
fn least_latency_keeps_its_promises() {
    let tail = |id: &str, name| {
        let scenario = catalogue::scenarios(Some(id)).remove(0);
        let measured = run(&scenario, &strategy(name), 1, 6.0);
        (quantile(&measured.latency, 0.99), measured.errors)
    };
    // Ratios within one world, far from the noise: 1.0 against 1.6 and more in the full suite.
    for (id, rival) in [("S2", "least_request"), ("S6", "peak_ewma"), ("S8-100", "least_request")] {
        let (ours, theirs) = (tail(id, "least_latency").0, tail(id, rival).0);
        assert!(ours < 0.9 * theirs, "{id}: {ours} against {theirs} of {rival}");
    }
    // The one that fails fast gets no share, the black holes next to none.
    assert!(tail("S10", "least_latency").1 < 1e-4);
    // The pool ejects it for everyone else, after some.
    assert!((1e-4..1e-2).contains(&tail("S10", "round_robin").1));
    assert!(tail("S4", "least_latency").1 < 5e-4);
}

#[test]
fn a_bound_holds_and_most_keys_stay_at_home() {
    let ring = |bound| affinity::of("ring", Ring::new, bound, 1, 20_000);
    let (plain, bounded) = (ring(None), ring(Some(1.25)));
    assert!(plain.affinity == 1.0 && plain.max_mean > 1.5, "{plain:?}");
    assert!((0.65..0.95).contains(&bounded.affinity), "{bounded:?}");
    assert!(bounded.max_mean < 1.26 && bounded.worst <= 1.25, "{bounded:?}");
    assert!(bounded == ring(Some(1.25)));
}

#[test]
fn a_bad_scenario_is_named() {
    let good = "name = 'x'\nreplicas = 2\nbalancers = 1\nload = 0.5\nservice = { kind = 'constant', mean_ms = 1 }\n";
    assert!(Scenario::parse(good).is_ok());
    for (bad, named) in [
        (good.replace("load = 0.5", "load = -1"), "load"),
        (good.replace("replicas = 2", "replicas = 0"), "replicas"),
        (good.replace("constant", "odd"), "odd"),
        (format!("{good}colour = 1"), "colour"),
        (format!("{good}capacity = 2.0"), "capacity"),
        (format!("{good}[[replica]]\nwhich = 'some'"), "some"),
    ] {
        let error = Scenario::parse(&bad).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}
