//! What is asked, and in which worlds.

mod balance;
mod checks;
mod work;

pub use self::work::clock;

use super::table::Table;

/// What answers a question, with a seed.
pub type Answer = fn(u64) -> Vec<Table>;

/// The questions by their names.
pub const TABLES: [(&str, Answer); 7] = [
    ("probes", |seed| vec![work::probes(seed)]),
    ("detection", |seed| vec![checks::detection(seed), checks::wrong(seed), checks::broken(seed)]),
    ("traffic", |seed| vec![checks::traffic(seed)]),
    ("spread", |seed| vec![balance::spreads(seed)]),
    ("return", |seed| vec![balance::returns(seed)]),
    ("subsets", |seed| vec![balance::subsets(seed)]),
    ("cost", |seed| vec![work::cost(seed)]),
];

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
