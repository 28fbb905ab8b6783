/// How fast the backends of a pool are, as one distribution: by the logarithm of their mean latencies, since what is slow is
/// so by a factor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Speeds {
    backends: usize,
    median: f64,
    /// The median of the absolute deviations from the median: half of the backends may be anything without moving it.
    deviation: f64,
}

/// With fewer to compare nobody is slow.
const FEW: usize = 3;

/// So many deviations, made comparable to those of a normal distribution, are no luck.
const DEVIATIONS: f64 = 5.0 * 1.4826;

impl Speeds {
    /// Sums up the mean latencies, in seconds, of those that have one.
    pub(super) fn survey(latencies: impl Iterator<Item = f64>) -> Self {
        let mut logs: Vec<_> = latencies.filter(|latency| *latency > 0.0).map(f64::ln).collect();
        let median = middle(&mut logs);
        let mut deviations: Vec<_> = logs.iter().map(|log| (log - median).abs()).collect();
        Self { backends: logs.len(), median, deviation: middle(&mut deviations) }
    }

    /// Whether a backend with that mean latency is slower than its peers can explain, and `factor` times slower than the one
    /// in the middle; then in words.
    pub(super) fn judge(&self, latency: f64, factor: f64) -> Option<String> {
        let beyond = latency.ln() - self.median;
        let is_slow = self.backends >= FEW && beyond > DEVIATIONS * self.deviation && beyond > factor.ln();
        let (own, usual) = (latency * 1_000.0, self.median.exp() * 1_000.0);
        is_slow.then(|| format!("answers take {own:.1} ms, its peers' {usual:.1} ms"))
    }
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_who_is_slow_beside_his_peers() {
        for (latencies, slow) in [
            (vec![0.010, 0.011, 0.009, 0.100], vec![0.100]),
            (vec![0.010, 0.010, 0.010, 0.010, 0.031], vec![0.031]),
            (vec![0.010, 0.011, 0.012, 0.025], vec![]),
            // Where all differ, that is how they are.
            (vec![0.001, 0.004, 0.016, 0.064], vec![]),
            // Two cannot tell which of them is slow.
            (vec![0.010, 1.000], vec![]),
            (vec![0.010, 0.010, 0.010, 0.100, 0.100], vec![0.100, 0.100]),
            (vec![], vec![]),
        ] {
            let speeds = Speeds::survey(latencies.iter().copied());
            let found: Vec<_> = latencies.iter().copied().filter(|&it| speeds.judge(it, 3.0).is_some()).collect();
            assert_eq!(found, slow, "{latencies:?}");
        }
        let speeds = Speeds::survey([0.010, 0.010, 0.010].into_iter());
        assert_eq!(speeds.judge(0.0312, 3.0).unwrap(), "answers take 31.2 ms, its peers' 10.0 ms");
    }
}
