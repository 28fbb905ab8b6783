//! What many gateways do to the backends together.

use super::percent;
use crate::{
    herd::{Return, spread, welcome},
    subsets::{Choice, connect},
    table::Table,
};

const STRATEGIES: [&str; 6] =
    ["round_robin", "random", "least_request", "peak_ewma", "least_latency", "prequal+reports"];

pub fn spreads(seed: u64) -> Table {
    let columns = ["strategy", "1 gateway", "10", "100", "1000", "1000 that have just begun"];
    let name =
        "Jobs at the busiest of 20 backends over the mean (p99 ms), load .85, the same traffic over more gateways";
    let mut table = Table::new(name, columns);
    for strategy in STRATEGIES {
        let show = |gateways, warm_up_ms, seconds| {
            let found = spread(strategy, gateways, warm_up_ms, seed, seconds);
            format!("{:.2} ({:.0})", found.max_mean, found.p99_ms)
        };
        let [one, ten, hundred, thousand] = [1, 10, 100, 1_000].map(|gateways| show(gateways, 30_000.0, 20.0));
        table.row([strategy.to_owned(), one, ten, hundred, thousand, show(1_000, 0.0, 5.0)]);
    }
    table
}

pub fn returns(seed: u64) -> Table {
    let columns = ["strategy", "it is", "gateways", "first 0.1 s", "first second", "tenth second", "peak", "p99 ms"];
    let name =
        "What a backend gets that comes back to 20, over a fair share; and the most jobs there over its 4 workers";
    let mut table = Table::new(name, columns);
    let worlds = [("back", false, false), ("new", true, false), ("back and cold", false, true)];
    let strategies = [
        "round_robin",
        "round_robin+slow_start",
        "least_request",
        "least_request+slow_start",
        "peak_ewma",
        "least_latency",
        "least_latency+slow_start",
    ];
    for strategy in strategies {
        for (word, new, cold) in worlds {
            for gateways in [1, 100, 1_000] {
                let found = welcome(strategy, &Return { gateways, after_ms: 30_000.0, told_ms: 10.0, new, cold }, seed);
                let [tenth, second, later] = [found.tenth, found.second, found.later].map(|over| format!("{over:.2}"));
                table.row([
                    strategy.to_owned(),
                    word.to_owned(),
                    gateways.to_string(),
                    tenth,
                    second,
                    later,
                    format!("{:.1}", found.peak),
                    format!("{:.0}", found.p99_ms),
                ]);
            }
        }
    }
    table
}

pub fn subsets(seed: u64) -> Table {
    let columns = [
        "gateways",
        "backends",
        "each uses",
        "gateways of a backend: fewest",
        "mean",
        "most",
        "load of the least busy",
        "busiest",
        "new when the first gateway leaves",
        "the last",
        "a backend",
    ];
    let name = "Connections and load, where each gateway uses all, or 12 at least; new connections of those who stay";
    let mut table = Table::new(name, columns);
    for (gateways, backends) in [
        (3, 100),
        (10, 10),
        (10, 100),
        (10, 1_000),
        (100, 100),
        (100, 1_000),
        (100, 10_000),
        (1_000, 100),
        (1_000, 10_000),
    ] {
        for choice in [Choice::Mesh, Choice::Subset, Choice::Aperture] {
            let found = connect(choice, gateways, 12, backends, seed);
            table.row([
                gateways.to_string(),
                backends.to_string(),
                choice.name().to_owned(),
                found.fewest.to_string(),
                format!("{:.1}", found.mean),
                found.most.to_string(),
                format!("{:.2}", found.idlest),
                format!("{:.2}", found.busiest),
                percent(found.first_left),
                percent(found.last_left),
                percent(found.backend_left),
            ]);
        }
    }
    table
}
