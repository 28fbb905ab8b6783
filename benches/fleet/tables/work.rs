//! What sharing the checks saves, and what it costs.

use super::percent;
use crate::{
    cost::Seen,
    probes::{backends, gateways, share},
    table::Table,
};
use tower_balancer::health::DEFAULT_INTERVAL;

const FLEETS: [(usize, usize); 12] = [
    (1, 10),
    (1, 10_000),
    (3, 10),
    (3, 1_000),
    (10, 100),
    (10, 10_000),
    (100, 10),
    (100, 1_000),
    (100, 10_000),
    (1_000, 10),
    (1_000, 1_000),
    (1_000, 10_000),
];

pub fn probes(seed: u64) -> Table {
    let columns = [
        "gateways",
        "backends",
        "checks/s at a backend",
        "alone",
        "at a gateway: mean",
        "most",
        "alone",
        "most/mean",
        "moved when one leaves",
        "1/gateways",
    ];
    let mut table = Table::new("Checks, shared among gateways with 2 of them for each backend, every 5 s", columns);
    for (count, all) in FLEETS {
        let names = gateways(count, seed);
        let shares = share(&names, &backends(all), 2);
        let a_second = |checks: f64| format!("{:.1}", checks / DEFAULT_INTERVAL.as_secs_f64());
        table.row([
            count.to_string(),
            all.to_string(),
            a_second(shares.askers as f64),
            a_second(count as f64),
            a_second(shares.mean),
            a_second(shares.most as f64),
            a_second(all as f64),
            format!("{:.2}", shares.most as f64 / shares.mean),
            percent(shares.moved as f64 / (all * shares.askers) as f64),
            percent(1.0 / count as f64),
        ]);
    }
    table
}

pub fn cost(seed: u64) -> Table {
    let columns = [
        "gateways",
        "backends",
        "votes read",
        "ranked",
        "allocations",
        "held kB",
        "ballot kB",
        "all kB",
        "a change: etcd is told kB",
        "and tells kB",
        "once a day each: kB/s",
    ];
    let name = "One look of a gateway at all backends, and what etcd carries, with 2 gateways for each backend";
    let mut table = Table::new(name, columns);
    for (gateways, backends) in FLEETS {
        let seen = Seen::new(gateways, backends, 2, seed);
        let (look, wire) = (seen.cost(), seen.wire());
        let kb = |bytes: f64| format!("{:.1}", bytes / 1e3);
        // Each goes down and comes back.
        let daily = wire.tells * 2.0 * backends as f64 / 86_400.0;
        table.row([
            gateways.to_string(),
            backends.to_string(),
            look.votes.to_string(),
            (gateways * backends).to_string(),
            look.allocations.to_string(),
            kb(look.memory as f64),
            kb(wire.ballot as f64),
            kb(wire.all as f64),
            kb(wire.told),
            kb(wire.tells),
            kb(daily),
        ]);
    }
    table
}

/// How long a look takes on this machine, which is not the same twice.
pub fn clock(seed: u64) -> Table {
    let mut table =
        Table::new("One look, on this machine, in milliseconds: the best of five", ["gateways", "backends", "ms"]);
    for (gateways, backends) in FLEETS {
        let seen = Seen::new(gateways, backends, 2, seed);
        let once = |_| {
            let begun = tokio::time::Instant::now();
            std::hint::black_box(seen.look());
            begun.elapsed().as_secs_f64() * 1e3
        };
        let best = (0..5).map(once).fold(f64::INFINITY, f64::min);
        table.row([gateways.to_string(), backends.to_string(), format!("{best:.2}")]);
    }
    table
}
