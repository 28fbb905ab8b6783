//! What users notice when backends fail, behind this gateway and behind others, with the same script.
//!
//! ```text
//! cargo bench --bench chaos -- [--seconds N] [--scenario NAME]... [--proxy NAME]...
//! ```
//!
//! Three backends, 200 requests a second over 8 connections for N seconds (16). After a second, for half of the time,
//! something is wrong. HAProxy and nginx run where they are installed.

#[path = "../../tests/common/chaos/mod.rs"]
mod chaos;
mod proxy;

use chaos::{Report, Scenario, Trial, be_a_backend_if_told};
use clap::Parser;
use proxy::Proxy;
use std::{process::Command, time::Duration};

#[derive(Debug, Parser)]
struct Options {
    /// The length of each scenario
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(4..))]
    seconds: u64,

    /// Only this one
    #[arg(long = "scenario", value_name = "NAME", value_parser = scenario)]
    scenarios: Vec<Scenario>,

    /// Only this one
    #[arg(long = "proxy", value_name = "NAME")]
    proxies: Vec<Proxy>,

    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn scenario(text: &str) -> Result<Scenario, String> {
    let all = Scenario::ALL.map(Scenario::name);
    let found = Scenario::ALL.into_iter().find(|scenario| scenario.name() == text);
    found.ok_or_else(|| format!("expected one of {}", all.join(", ")))
}

/// All of `known`, where nothing was named.
fn or_all<T: Copy>(named: Vec<T>, known: &[T]) -> Vec<T> {
    if named.is_empty() { known.into() } else { named }
}

/// One from before the last change would be measured otherwise, and nobody the wiser.
fn build_the_gateway() {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--example", "gateway"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success(), "{cargo:?} failed");
}

fn main() {
    be_a_backend_if_told();
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seconds = Duration::from_secs(1);
    let during = seconds * options.seconds as u32 / 2;
    let after = seconds * options.seconds as u32 - during - seconds;
    let (mut proxies, mut missing) = (or_all(options.proxies, &Proxy::ALL), Vec::new());
    proxies.retain(|proxy| {
        proxy.is_installed() || {
            missing.push(*proxy);
            false
        }
    });
    if proxies.contains(&Proxy::Gateway) {
        build_the_gateway();
    }
    println!("{:<8} {}", "proxy", Report::TITLES);
    for scenario in or_all(options.scenarios, &Scenario::ALL) {
        for proxy in &proxies {
            let trial = Trial { scenario, entry: &[], before: seconds, during, after };
            let start = |address, backends: &_| proxy.start(address, backends, scenario);
            let report = runtime.block_on(async { trial.offer(start).await.report().await });
            println!("{:<8} {report}", proxy.name());
        }
    }
    for proxy in missing {
        println!("{} IS NOT INSTALLED: SKIPPED", proxy.name());
    }
}
