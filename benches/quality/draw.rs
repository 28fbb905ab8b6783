//! Random numbers of the shapes that a world is made of.

use super::scenario::{Antagonist, Service};
use tower_balancer::Rng;

/// A stream of random numbers of its own purpose: the same world whatever the strategy asks for.
pub struct Stream(Rng);

impl Stream {
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = Rng::new(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.next_u64();
        Self(rng)
    }

    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    pub fn unit(&mut self) -> f64 {
        self.0.unit()
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.0.unit()).ln()
    }

    /// Box and Muller.
    pub fn normal(&mut self, mean: f64, sd: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.unit()).ln()).sqrt();
        mean + sd * radius * (std::f64::consts::TAU * self.0.unit()).cos()
    }

    /// The work of one request, in milliseconds.
    pub fn work_ms(&mut self, service: &Service) -> f64 {
        match *service {
            Service::Constant { mean_ms } => mean_ms,
            Service::Exponential { mean_ms } => self.exponential(mean_ms),
            Service::TruncatedNormal { mean_ms, sd_ms } => loop {
                let work = self.normal(mean_ms, sd_ms);
                if work > 0.0 {
                    break work;
                }
            },
            Service::BoundedPareto { alpha, min, max, mean_ms } => {
                // The inverse of the distribution function; scaled so that the mean is as said.
                let ratio = (min / max).powf(alpha);
                let drawn = min / (1.0 - self.0.unit() * (1.0 - ratio)).powf(1.0 / alpha);
                let mean = min.powf(alpha) / (1.0 - ratio) * alpha / (alpha - 1.0)
                    * (min.powf(1.0 - alpha) - max.powf(1.0 - alpha));
                drawn / mean * mean_ms
            }
        }
    }

    /// What neighbours leave of a replica's capacity.
    pub fn left_by(&mut self, antagonist: &Antagonist) -> f64 {
        self.normal(antagonist.mean, antagonist.sd).max(antagonist.min).min(antagonist.cap)
    }
}
