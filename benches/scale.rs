//! What changes cost in large pools, and what a backend weighs.
//!
//! ```text
//! cargo bench --bench scale
//! ```
//!
//! A flip is one backend that goes out of rotation or comes back. An update is the whole list anew, of which one backend in a
//! hundred is another. Both with a balancer's view on the pool, which has its tables built anew where it needs them. The
//! bytes are all that the pool and the view hold, without the text of the backends' names.

use allocation_counter::measure;
use std::time::Instant;
use tower_balancer::{BackendPool, pool::Member, strategy::AnyStrategy};

const FLIPS: usize = 201;
const UPDATES: usize = 11;

fn main() {
    println!("medians (least to most)");
    println!("{:>8} {:<14} {:>26} {:>26} {:>7}", "backends", "strategy", "flip, us", "update, ms", "bytes");
    for backends in [100, 10_000, 100_000] {
        for name in ["round_robin", "least_latency", "ring", "maglev"] {
            row(backends, name);
        }
    }
}

fn row(backends: usize, name: &str) {
    let strategy: AnyStrategy = name.parse().unwrap();
    let (mut held, mut names) = (None, 0);
    let weight = measure(|| {
        let list = members(backends, 0);
        names = list.iter().map(|member| member.id().as_str().len()).sum();
        let pool = BackendPool::from_members(list).unwrap();
        let view = pool.view(strategy);
        held = Some((pool, view));
    });
    let (pool, _view) = held.unwrap();

    let ids: Vec<_> = pool.backends().iter().map(|backend| backend.id().clone()).collect();
    let flips = (0..FLIPS).map(|flip| {
        let id = ids[flip / 2 * 7919 % ids.len()].as_str();
        let well = flip % 2 == 1;
        1e6 * timed(|| assert!(if well { pool.mark_healthy(id) } else { pool.mark_unhealthy(id) }))
    });
    let flips = median(flips.collect());
    let updates = (1..=UPDATES).map(|round| {
        let list = members(backends, round);
        1e3 * timed(|| pool.replace(list).unwrap())
    });
    let updates = median(updates.collect());
    let bytes = (weight.bytes_current - names as i64) / backends as i64;
    println!("{backends:>8} {name:<14} {flips:>26} {updates:>26} {bytes:>7}");
}

/// A list of which in each round one in a hundred is another.
fn members(backends: usize, round: usize) -> Vec<Member<()>> {
    let id = |number: usize| if number % 100 == round { format!("{number}-{round}") } else { number.to_string() };
    (0..backends).map(|number| Member::new(id(number), ())).collect()
}

fn median(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1} to {:.1})", times[times.len() / 2], times[0], times[times.len() - 1])
}

/// Seconds.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}
