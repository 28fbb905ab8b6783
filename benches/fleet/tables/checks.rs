//! How soon a death is known, and how often it is none.

use super::percent;
use crate::{
    detection::{self, Detected, Fleet},
    table::Table,
    traffic::{self, Traffic},
};
use tower_balancer::backend::Outcome;

fn seconds(times: &[f64]) -> [String; 3] {
    let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    [mean, at(0.99), at(1.0)].map(|time| format!("{time:.2}"))
}

pub fn detection(seed: u64) -> Table {
    let columns = ["gateways", "k", "in a row", "lag ms", "mean s", "p99", "most", "first gateway: mean"];
    let mut table = Table::new("From a death until all gateways have it out, by checks every 5 s ± 10 %", columns);
    let fleet = |gateways, k, threshold, lag_ms| Fleet {
        gateways,
        backends: 40,
        dying: 30,
        k,
        threshold,
        lag_ms,
        loss: 0.0,
        broken: None,
        seconds: 120.0,
    };
    let fleets = [
        fleet(1, 2, 1, 10.0),
        fleet(3, 1, 1, 10.0),
        fleet(3, 2, 1, 10.0),
        fleet(3, 3, 1, 10.0),
        fleet(3, 1, 3, 10.0),
        fleet(3, 2, 3, 10.0),
        fleet(3, 3, 3, 10.0),
        fleet(10, 2, 1, 10.0),
        fleet(100, 2, 1, 10.0),
        fleet(1_000, 2, 1, 10.0),
        fleet(100, 2, 1, 100.0),
        fleet(100, 2, 1, 1_000.0),
    ];
    for fleet in fleets {
        let times = if fleet.gateways > 100 { 3 } else { 30 };
        let Detected { first, all, missed, .. } = detection::runs(&fleet, seed, times);
        assert_eq!(missed, 0, "{fleet:?}");
        let [mean, p99, most] = seconds(&all);
        let Fleet { gateways, k, threshold, lag_ms, .. } = fleet;
        table.row([
            gateways.to_string(),
            k.to_string(),
            threshold.to_string(),
            lag_ms.to_string(),
            mean,
            p99,
            most,
            seconds(&first)[0].clone(),
        ]);
    }
    table
}

pub fn wrong(seed: u64) -> Table {
    let columns = ["checks that get lost", "in a row", "k = 1", "k = 2", "k = 3"];
    let name = "Backends that are well and taken out, a thousand hours of a backend, where checks get lost by chance";
    let mut table = Table::new(name, columns);
    for (loss, threshold) in [(0.01, 1), (0.05, 1), (0.01, 2), (0.05, 2), (0.05, 3)] {
        let found = |k| {
            let fleet = Fleet {
                gateways: 3,
                backends: 200,
                dying: 0,
                k,
                threshold,
                lag_ms: 10.0,
                loss,
                broken: None,
                seconds: 360.0,
            };
            let hours = 20.0 * fleet.backends as f64 * fleet.seconds / 3_600.0;
            format!("{:.1}", detection::runs(&fleet, seed, 20).wrong / hours * 1_000.0)
        };
        table.row([percent(loss), threshold.to_string(), found(1), found(2), found(3)]);
    }
    table
}

pub fn broken(seed: u64) -> Table {
    let columns = ["gateways", "k", "one finds all ill: wrongly out", "one finds all well: deaths missed"];
    let mut table = Table::new("One gateway is itself broken: of 200 backends", columns);
    for (gateways, k) in [(1, 2), (3, 1), (3, 2), (3, 3), (10, 1), (10, 2), (10, 3)] {
        let found = |finds| {
            let fleet = Fleet {
                gateways,
                backends: 200,
                dying: if finds { 200 } else { 0 },
                k,
                threshold: 1,
                lag_ms: 10.0,
                loss: 0.0,
                broken: Some(finds),
                seconds: 60.0,
            };
            detection::run(&fleet, seed)
        };
        let (ill, well) = (found(false).wrong, found(true).missed);
        table.row([gateways.to_string(), k.to_string(), format!("{ill:.0}"), well.to_string()]);
    }
    table
}

pub fn traffic(seed: u64) -> Table {
    let columns = ["gateways", "requests/s at a backend", "it", "first s", "half", "last", "failed, all together"];
    let name = "From a failure until each gateway's own traffic has taken the backend out: one of 10, round robin";
    let mut table = Table::new(name, columns);
    for gateways in [1, 10, 100, 1_000] {
        for (rate, outcome, word) in [
            (1_000.0, Outcome::ConnectFault, "refuses"),
            (1_000.0, Outcome::BackendFault, "fails"),
            (10.0, Outcome::BackendFault, "fails"),
        ] {
            let found = traffic::run(&Traffic { gateways, backends: 10, rate, outcome }, seed);
            let [first, half, last] = [found.first, found.half, found.last].map(|time| format!("{time:.2}"));
            let (rate, failed) = (rate.to_string(), found.failed.to_string());
            table.row([gateways.to_string(), rate, word.to_owned(), first, half, last, failed]);
        }
    }
    table
}
