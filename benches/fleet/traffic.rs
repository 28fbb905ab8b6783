//! From the moment that a backend fails until the traffic of each gateway has taken it out: the real pool and its ejection, at
//! gateways that tell each other nothing.

use super::{balancer::Balancer, draw::Stream, world::EPOCH};
use std::time::{Duration, Instant};
use tower_balancer::backend::{HealthState, Outcome};

/// What is simulated: so many gateways have the same traffic, and the first backend begins to fail.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub gateways: usize,
    pub backends: usize,
    /// Requests a second that one backend gets of all gateways together.
    pub rate: f64,
    /// What becomes of each request to it.
    pub outcome: Outcome,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejected {
    /// Seconds until the first gateway, half of them, and the last one had it out.
    pub first: f64,
    pub half: f64,
    pub last: f64,
    /// Requests that failed until then, of all gateways.
    pub failed: u64,
}

/// Requests that each backend has answered to each gateway before.
const BEFORE: f64 = 100.0;
const TAKES: Duration = Duration::from_millis(5);
/// Who has not noticed within an hour never does, here.
const HOUR: f64 = 3_600.0;

pub fn run(traffic: &Traffic, seed: u64) -> Ejected {
    let one = |gateway| alone(traffic, Stream::new(seed, 10_000 + gateway as u64));
    let (mut times, failed): (Vec<f64>, Vec<u64>) = (0..traffic.gateways).map(one).unzip();
    times.sort_by(f64::total_cmp);
    let (half, last) = (times[(times.len() - 1) / 2], times[times.len() - 1]);
    Ejected { first: times[0], half, last, failed: failed.iter().sum() }
}

/// What one gateway finds out: when, and at the price of how many requests.
fn alone(traffic: &Traffic, mut draw: Stream) -> (f64, u64) {
    let balancer = Balancer::new(traffic.backends, "round_robin", 0.0);
    // Requests that come between two of one backend.
    let gap = traffic.gateways as f64 / traffic.rate / traffic.backends as f64;
    let (mut now, mut failed) = (0.0, 0);
    let fails_from = BEFORE * gap * traffic.backends as f64;
    let at = |seconds: f64| -> Instant { *EPOCH + Duration::from_secs_f64(seconds) };
    while now < fails_from + HOUR {
        now += draw.exponential(gap);
        let Some((replica, lease)) = balancer.pick(&[], at(now), draw.bits()) else { continue };
        if replica != 0 || now < fails_from {
            lease.complete(Outcome::Success, at(now) + TAKES);
            continue;
        }
        lease.fail(traffic.outcome, "it is dead", at(now) + TAKES);
        failed += 1;
        if balancer.backends[0].health().state() == HealthState::Ejected {
            return (now - fails_from, failed);
        }
    }
    (f64::INFINITY, failed)
}
