//! What many gateways that know nothing of each other do together: how evenly they load the backends, and what they do to one
//! that comes back.

use super::{
    scenario::Scenario,
    world::{Chooser, Measured, quantile, run},
};

const REPLICAS: usize = 20;
const WORKERS: usize = 4;

fn world(gateways: usize, load: f64, warm_up_ms: f64, more: &str) -> Scenario {
    let text = format!(
        "name = 'herd'\nreplicas = {REPLICAS}\nworkers = {WORKERS}\nbalancers = {gateways}\nload = {load}\n\
         warm_up_ms = {warm_up_ms:?}\n\
         service = {{ kind = 'exponential', mean_ms = 10 }}\n{more}"
    );
    Scenario::parse(&text).expect("a scenario of our own")
}

/// How evenly the load lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Jobs at the busiest replica over the mean, at any moment.
    pub max_mean: f64,
    pub p99_ms: f64,
}

/// Over so many seconds, after a warm-up; all gateways begin at the same time.
pub fn spread(strategy: &'static str, gateways: usize, warm_up_ms: f64, seed: u64, seconds: f64) -> Spread {
    let measured = run(&world(gateways, 0.85, warm_up_ms, ""), &Chooser::named(strategy), seed, seconds);
    Spread { max_mean: measured.spread, p99_ms: quantile(&measured.latency, 0.99) }
}

/// A replica that comes back, or is new.
#[derive(Clone, Copy, Debug)]
pub struct Return {
    pub gateways: usize,
    /// When it is back. Until then the others are used, and warm.
    pub after_ms: f64,
    /// Milliseconds after which each gateway hears of it, on average.
    pub told_ms: f64,
    /// Nobody has ever heard of it.
    pub new: bool,
    /// It begins at a tenth of its speed and has all of it after ten seconds.
    pub cold: bool,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Welcome {
    /// Requests in the first tenth of a second, in the first second and in the tenth one, over a fair share.
    pub tenth: f64,
    pub second: f64,
    pub later: f64,
    /// The most jobs there at any time, over its workers.
    pub peak: f64,
    /// The 99th percentile of all requests from then on.
    pub p99_ms: f64,
}

const SECONDS: f64 = 10.0;

pub fn welcome(strategy: &'static str, back: &Return, seed: u64) -> Welcome {
    let Return { gateways, after_ms, told_ms, new, cold } = *back;
    let warmup = match cold {
        // Not again within the run.
        true => "warmup = { every_ms = 1e9, from = 0.1, over_ms = 10000 }",
        false => "",
    };
    let away = format!("away = {{ until_ms = {after_ms:?}, told_ms = {told_ms}, new = {new} }}");
    let scenario = world(gateways, 0.7, after_ms, &format!("[[replica]]\nwhich = [0]\n{away}\n{warmup}"));
    let Measured { joined, latency, peak, .. } = run(&scenario, &Chooser::named(strategy), seed, SECONDS);
    let fair = scenario.rate(scenario.load) / REPLICAS as f64;
    let within = |from: f64, to: f64| {
        let there = joined.iter().filter(|at| (from * 1e3..to * 1e3).contains(*at)).count();
        there as f64 / ((to - from) * fair)
    };
    Welcome {
        tenth: within(0.0, 0.1),
        second: within(0.0, 1.0),
        later: within(9.0, 10.0),
        peak: peak as f64 / WORKERS as f64,
        p99_ms: quantile(&latency, 0.99),
    }
}
