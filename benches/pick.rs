//! What a decision costs: nanoseconds a pick, by strategy and number of backends, and what the table costs to build.
//!
//! ```text
//! cargo bench --bench pick
//! ```
//!
//! Every backend has answered once, and none has a request in flight. All cells of a row are measured in turn, round by
//! round; the figure is the median round. Compare within a run, not between runs.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};
use tower_balancer::{
    Rng,
    backend::{Backend, Lease, Outcome},
    strategy::{AnyStrategy, Candidates, ConsistentHash, Eligible, Hint, Maglev, Picker, Rendezvous, Ring, Strategy},
};

const BACKENDS: [usize; 4] = [3, 100, 10_000, 100_000];
const ROUNDS: usize = 9;
/// A round of one cell takes about so long.
const ROUND: Duration = Duration::from_millis(10);

struct Cell {
    backends: Vec<Arc<Backend>>,
    eligible: Eligible,
    picker: Box<dyn Picker>,
    built: Duration,
    picks: u64,
    rounds: Vec<f64>,
}

fn main() {
    println!("ns a pick (ms to build)      {}", BACKENDS.map(|n| format!("{n:>20}")).concat());
    for name in AnyStrategy::NAMES {
        let strategy = || name.parse::<AnyStrategy>().expect("a known name");
        row(name, strategy());
    }
    row("ring, unbounded", AnyStrategy::new("", ConsistentHash::new(Ring::new())));
    row("maglev, unbounded", AnyStrategy::new("", ConsistentHash::new(Maglev::new())));
    row("rendezvous, unbounded", AnyStrategy::new("", ConsistentHash::new(Rendezvous)));
}

fn row(name: &str, strategy: AnyStrategy) {
    let start = now();
    let mut cells = BACKENDS.map(|n| Cell::new(&strategy, n, start));
    for _ in 0..ROUNDS {
        cells.iter_mut().for_each(|cell| cell.round(start));
    }
    let median = |cell: &mut Cell| {
        cell.rounds.sort_by(f64::total_cmp);
        format!("{:>11.1} ({:>6.1})", cell.rounds[ROUNDS / 2], cell.built.as_secs_f64() * 1e3)
    };
    println!("{name:<29}{}", cells.each_mut().map(median).concat());
}

impl Cell {
    fn new(strategy: &AnyStrategy, n: usize, start: Instant) -> Self {
        let backends: Vec<_> =
            (0..n).map(|number| Arc::new(Backend::new(format!("http://10.0.0.1:{number}")))).collect();
        for backend in &backends {
            Lease::take(Arc::clone(backend), start).complete(Outcome::Success, start + Duration::from_millis(10));
        }
        let building = now();
        let picker = strategy.build(&backends);
        let built = building.elapsed();
        let eligible = Eligible::new((0..n).map(|_| true));
        let mut cell = Self { backends, eligible, picker, built, picks: 10, rounds: Vec::new() };
        let once = cell.time(start) / 10.0;
        cell.picks = (ROUND.as_nanos() as f64 / once.max(1.0)) as u64 + 1;
        cell
    }

    fn round(&mut self, start: Instant) {
        let took = self.time(start);
        self.rounds.push(took / self.picks as f64);
    }

    /// Nanoseconds for all picks of a round.
    fn time(&self, start: Instant) -> f64 {
        let mut rng = Rng::new(7);
        let candidates = Candidates::new(&self.backends, &self.eligible);
        let began = now();
        for _ in 0..self.picks {
            let hint = Hint::new(start + Duration::from_millis(20), rng.next_u64()).key(rng.next_u64());
            black_box(self.picker.pick(black_box(&candidates), &hint));
        }
        began.elapsed().as_nanos() as f64
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench has no other clock")]
fn now() -> Instant {
    Instant::now()
}
