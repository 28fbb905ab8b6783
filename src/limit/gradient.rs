/// One backend's limit, moved by how long its answers take: Netflix's `Gradient2`. Pure.
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    limit: f64,
    /// The latency over many windows, in seconds; `None` before the first.
    long: Option<f64>,
}

/// So much longer than usual may answers take before the limit falls.
const TOLERANCE: f64 = 1.5;

/// Room to try whether more can be borne.
const QUEUE: f64 = 4.0;

/// The part of each step that is taken.
const SMOOTHING: f64 = 0.2;

/// Windows that the usual latency remembers.
const MEMORY: f64 = 100.0;

impl Gradient {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit: f64::from(limit), long: None }
    }

    /// The limit after a window in which answers took `short` seconds and `in_flight` requests were in flight at most.
    pub(super) fn update(&mut self, short: f64, in_flight: u32, (least, most): (u32, u32)) -> u32 {
        let long = self.long.map_or(short, |long| long + (short - long) / MEMORY);
        // After an overload the usual latency is too long: it recovers faster than it was spoilt.
        self.long = Some(if long > 2.0 * short { long * 0.95 } else { long });
        // Who is not near his limit says nothing about it.
        if f64::from(in_flight) >= self.limit / 2.0 {
            let gradient = (TOLERANCE * long / short.max(f64::MIN_POSITIVE)).clamp(0.5, 1.0);
            let next = self.limit * gradient + QUEUE;
            self.limit = (self.limit + (next - self.limit) * SMOOTHING).clamp(f64::from(least), f64::from(most));
        }
        self.limit as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with eight workers and answers of 10 ms, which has as many requests as it may.
    fn latency(in_flight: u32) -> f64 {
        0.010 * (f64::from(in_flight) / 8.0).max(1.0)
    }

    #[test]
    fn it_finds_what_a_server_can_bear_and_follows_it() {
        // A day of quiet, in which its usual latency became known.
        let mut gradient = Gradient::new(20);
        for _ in 0..1_000 {
            assert_eq!(gradient.update(latency(2), 2, (1, 1_000)), 20);
        }
        // Then more than it can bear.
        let mut limit = 20;
        let limits: Vec<_> = (0..100)
            .map(|_| {
                limit = gradient.update(latency(limit), limit, (1, 1_000));
                limit
            })
            .collect();
        assert!(limits.iter().all(|limit| (8..=40).contains(limit)), "{limits:?}");
        // Half of it fails.
        for _ in 0..20 {
            limit = gradient.update(4.0 * latency(limit), limit, (1, 1_000));
        }
        assert!(limit < limits[99], "{limit} after {limits:?}");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut gradient = Gradient::new(20);
        for _ in 0..1_000 {
            assert!(gradient.update(0.01, u32::MAX, (5, 50)) <= 50);
        }
        assert_eq!(gradient.update(0.01, u32::MAX, (5, 50)), 50);
        for _ in 0..50 {
            assert!(gradient.update(10.0, u32::MAX, (5, 50)) >= 5);
        }
        assert!(gradient.update(0.0, u32::MAX, (5, 50)) >= 5);
    }
}
