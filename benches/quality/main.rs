//! How good the strategies are: tails in simulated worlds, as ratios to an oracle on the same arrivals.
//!
//! ```text
//! cargo bench --bench quality -- [--scenario ID|FILE.toml] [--strategy NAME] [--seed N] [--seconds N] [--json]
//! ```
//!
//! It drives the real pickers, leases and latency estimates in virtual time, with discrete events: no clock, no threads.
//! Same seed, same bytes. The oracle is the better of one central line and of the replica that would be done first, both
//! with full knowledge at once.

#![expect(unreachable_pub, reason = "a program: its modules are its own")]

mod affinity;
mod balancer;
mod catalogue;
mod draw;
mod replica;
mod scenario;
mod world;

use affinity::Affinity;
use scenario::Scenario;
use serde_json::{Value, json};
use std::process::ExitCode;
use world::{Chooser, Measured, quantile};

/// Those that answer to load. The ones that go by key are another matter: see [`affinity`].
const COMPARED: [&str; 8] = [
    "round_robin",
    "weighted_round_robin",
    "random",
    "least_request",
    "peak_ewma",
    "least_latency",
    "client_weighted+reports",
    "prequal+reports",
];

/// The scenario of the strategies that go by key.
const BY_KEY: &str = "S12";
/// The requests of it.
const REQUESTS: usize = 400_000;

struct Options {
    scenarios: Vec<Scenario>,
    by_key: bool,
    strategies: Vec<&'static str>,
    seed: u64,
    seconds: f64,
    json: bool,
}

/// One strategy in one scenario.
struct Cell {
    scenario: String,
    strategy: &'static str,
    p: [f64; 3],
    oracle: [f64; 3],
    excess_p99: f64,
    errors: f64,
    max_mean: f64,
    amplification: f64,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("quality: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut cells = Vec::new();
    for scenario in &options.scenarios {
        let measure = |chooser: &Chooser| world::run(scenario, chooser, options.seed, options.seconds);
        let oracle = better(&measure(&Chooser::CentralQueue), &measure(&Chooser::ShortestDelay));
        for &strategy in &options.strategies {
            let measured = measure(&Chooser::named(strategy));
            let cell = Cell {
                scenario: scenario.name.clone(),
                strategy,
                p: tail(&measured),
                oracle,
                excess_p99: quantile(&measured.excess, 0.99),
                errors: measured.errors,
                max_mean: measured.max_mean,
                amplification: measured.amplification,
            };
            if !options.json {
                print(&cell);
            }
            cells.push(cell);
        }
    }
    let composite = composite(&cells);
    let by_key = if options.by_key { affinity::all(options.seed, REQUESTS) } else { Vec::new() };
    if options.json {
        let cells: Vec<_> = cells.iter().map(Cell::json).collect();
        let by_key: Vec<_> = by_key.iter().map(affinity_json).collect();
        let all = json!({ "seed": options.seed, "cells": cells, "composite": composite, "affinity": by_key });
        println!("{all}");
    } else {
        for row in &by_key {
            let Affinity { strategy, affinity, max_mean, worst } = row;
            let affinity = affinity * 100.0;
            println!(
                "{BY_KEY}      {strategy:<24} affinity {affinity:5.1} %  max/mean {max_mean:.2}, at worst {worst:.2}"
            );
        }
        println!("\ncomposite: strategy, p99, p99.9, worst p99, worst p99.9");
        for row in composite {
            let ratio = |key: &str| row[key].as_f64().unwrap_or_default();
            let name = row["strategy"].as_str().unwrap_or_default();
            let [p99, p999, worst, worst999] = ["p99", "p999", "worst_p99", "worst_p999"].map(ratio);
            println!("  {name:<22} {p99:6.3} {p999:6.3} {worst:7.3} {worst999:7.3}");
        }
    }
    ExitCode::SUCCESS
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        scenarios: Vec::new(),
        by_key: true,
        strategies: COMPARED.to_vec(),
        seed: 1,
        seconds: 40.0,
        json: false,
    };
    let mut all = true;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--scenario" => {
                let name = value()?;
                options.by_key = name == BY_KEY;
                options.scenarios = if options.by_key { Vec::new() } else { named(&name)? };
                all = false;
            }
            "--strategy" => {
                let name = value()?;
                let known = COMPARED.into_iter().find(|known| *known == name);
                options.strategies = vec![known.ok_or(format!("unknown strategy {name:?}"))?];
            }
            "--seed" => options.seed = value()?.parse().map_err(|_| "--seed wants a whole number")?,
            "--seconds" => options.seconds = value()?.parse().map_err(|_| "--seconds wants a number")?,
            "--json" => options.json = true,
            // What cargo adds.
            "--bench" => {}
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    if all {
        options.scenarios = catalogue::scenarios(None);
    }
    Ok(options)
}

fn named(name: &str) -> Result<Vec<Scenario>, String> {
    if name.ends_with(".toml") {
        let text = std::fs::read_to_string(name).map_err(|error| format!("{name}: {error}"))?;
        return Ok(vec![Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))?]);
    }
    let found = catalogue::scenarios(Some(name));
    if found.is_empty() {
        Err(format!("unknown scenario {name:?}: expected an id such as S1a, or a file"))
    } else {
        Ok(found)
    }
}

/// p50, p99 and p99.9.
fn tail(measured: &Measured) -> [f64; 3] {
    [0.5, 0.99, 0.999].map(|part| quantile(&measured.latency, part))
}

/// The one with the better p99.
fn better(one: &Measured, other: &Measured) -> [f64; 3] {
    let (one, other) = (tail(one), tail(other));
    if one[1] <= other[1] { one } else { other }
}

impl Cell {
    fn ratio(&self, which: usize) -> f64 {
        self.p[which] / self.oracle[which]
    }

    fn json(&self) -> Value {
        let (p, oracle) = (self.p, self.oracle);
        json!({
            "scenario": self.scenario, "strategy": self.strategy, "p50": p[0], "p99": p[1], "p999": p[2],
            "oracle_p99": oracle[1], "oracle_p999": oracle[2], "excess_p99": self.excess_p99,
            "errors": self.errors, "max_mean": self.max_mean,
            "amplification": self.amplification,
        })
    }
}

fn affinity_json(row: &Affinity) -> Value {
    let Affinity { strategy, affinity, max_mean, worst } = row;
    json!({ "scenario": BY_KEY, "strategy": strategy, "affinity": affinity, "max_mean": max_mean, "worst": worst })
}

fn print(cell: &Cell) {
    let [p50, p99, p999] = cell.p;
    println!(
        "{:<8} {:<22} p50 {p50:6.1}  p99 {p99:7.1} ({:.3})  p99.9 {p999:7.1} ({:.3})  excess p99 {:7.1}  errors {:.4} %  max/mean {:.2}  attempts {:.3}",
        cell.scenario,
        cell.strategy,
        cell.ratio(1),
        cell.ratio(2),
        cell.excess_p99,
        cell.errors * 100.0,
        cell.max_mean,
        cell.amplification,
    );
}

/// Geometric means of the ratios over the cells that count.
fn composite(cells: &[Cell]) -> Vec<Value> {
    let mut rows = Vec::new();
    for strategy in COMPARED {
        let counted: Vec<_> = cells
            .iter()
            .filter(|cell| cell.strategy == strategy && catalogue::COMPOSITE.contains(&cell.scenario.as_str()))
            .collect();
        if counted.is_empty() {
            continue;
        }
        let mean =
            |which| (counted.iter().map(|cell| cell.ratio(which).ln()).sum::<f64>() / counted.len() as f64).exp();
        let worst = |which| counted.iter().map(|cell| cell.ratio(which)).fold(0.0, f64::max);
        rows.push(json!({
            "strategy": strategy, "p99": mean(1), "p999": mean(2), "worst_p99": worst(1), "worst_p999": worst(2),
        }));
    }
    rows
}
