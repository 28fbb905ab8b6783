//! How fleets of gateways behave, from 1 to 1000 of them before 10 to 10 000 backends: in virtual time, with the real parts.
//!
//! ```text
//! cargo bench --bench fleet -- [--table NAME] [--seed N] [--json]
//! ```
//!
//! Same seed, same bytes, but for the times that a look takes, which `--json` leaves out. The tables are Markdown. What is
//! simulated is the way between the gateways: where a fleet has an etcd, here is a delay. Who asks whom, what the votes come
//! to, the checkers, the ejection, the pickers and the stages are the crate's own.

#![expect(unreachable_pub, reason = "a program: its modules are its own")]

mod cost;
mod detection;
mod herd;
mod probes;
mod subsets;
mod table;
mod tables;
mod traffic;

/// The rule of the fleet is nobody's but the crate's, so its files are compiled here a second time.
#[allow(dead_code, reason = "a part is used")]
#[path = "../../src/fleet/ballot.rs"]
mod ballot;
#[allow(dead_code, reason = "a part is used")]
#[path = "../../src/fleet/council.rs"]
mod council;
#[allow(dead_code, unused_imports, reason = "a part is used")]
#[path = "../../src/hash.rs"]
mod hash;

mod backend {
    pub(crate) use tower_balancer::backend::BackendId;
}

#[allow(dead_code, reason = "a part is used")]
#[path = "../quality/balancer.rs"]
mod balancer;
#[allow(dead_code, reason = "a part is used")]
#[path = "../quality/draw.rs"]
mod draw;
#[path = "../quality/replica.rs"]
mod replica;
#[allow(dead_code, reason = "a part is used")]
#[path = "../quality/scenario.rs"]
mod scenario;
#[allow(dead_code, reason = "a part is used")]
#[path = "../quality/world.rs"]
mod world;

use serde_json::{Value, json};
use std::process::ExitCode;
use tables::TABLES;

struct Options {
    table: Option<String>,
    seed: u64,
    json: bool,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("fleet: {problem}");
            return ExitCode::from(2);
        }
    };
    // Before anything tells the time: see there.
    std::sync::LazyLock::force(&world::EPOCH);
    let mut all: Vec<Value> = Vec::new();
    for (name, answer) in TABLES {
        if options.table.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        for table in answer(options.seed) {
            if options.json {
                all.push(table.json());
            } else {
                println!("{table}");
            }
        }
        if name == "cost" && !options.json {
            println!("{}", tables::clock(options.seed));
        }
    }
    if options.json {
        println!("{}", json!({ "seed": options.seed, "tables": all }));
    }
    ExitCode::SUCCESS
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { table: None, seed: 1, json: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--table" => {
                let name = value()?;
                if TABLES.iter().all(|(known, _)| *known != name) {
                    let known: Vec<_> = TABLES.iter().map(|(known, _)| *known).collect();
                    return Err(format!("unknown table {name:?}: expected one of {}", known.join(", ")));
                }
                options.table = Some(name);
            }
            "--seed" => options.seed = value()?.parse().map_err(|_| "--seed wants a whole number")?,
            "--json" => options.json = true,
            // What cargo adds.
            "--bench" => {}
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    Ok(options)
}
