use crate::backend::Window;

/// How a backend that fails more than its peers is told from one that has bad luck, and from a fleet that fails together.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Detector {
    /// No comparison with peers.
    Off,
    /// A one-sided binomial test against the peers' lower quartile: the default. It works with two backends, is not
    /// blinded where several are bad, and says nothing where all fail alike.
    ///
    /// The share of failures that is forgiven has three times the odds of the lower quartile, and is 5 % at least; a
    /// backend is out where what it shows would come, of luck, once in 10 000 looks at the whole pool.
    Binomial,
    /// gRFC A50 and Envoy: a success rate so many standard deviations below the mean. Among `hosts` backends with `requests`
    /// in the window each. Where k of n are bad alike they are at most √((n−k)/k) deviations off: with 1.9, nobody is
    /// found where more than 21.7 % are bad, and nobody in a pool of four.
    SuccessRate {
        /// 1.9 there.
        deviations: f64,
        /// 5 there.
        hosts: usize,
        /// 100 there.
        requests: u32,
    },
    /// gRFC A50 and Envoy: a share of failures above `percent`, whatever the peers do.
    FailurePercentage {
        /// 85 there.
        percent: f64,
        /// 5 there.
        hosts: usize,
        /// 50 there.
        requests: u32,
    },
}

/// Requests that a backend must have had in the window before the binomial test says anything.
const FEW: u32 = 8;

/// The chance that a pool of good backends loses one to bad luck, at each look.
const LUCK: f64 = 1e-4;

/// What is forgiven in any case.
const FORGIVEN: f64 = 0.05;

/// What a backend is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Peers {
    /// In the pool.
    backends: usize,
    /// With enough requests to be compared with.
    busy: usize,
    /// What all of them had together.
    all: Window,
    lower_quartile: f64,
    mean_success: f64,
    deviation: f64,
}

impl Detector {
    fn requests(self) -> u32 {
        match self {
            Self::Off | Self::Binomial => FEW,
            Self::SuccessRate { requests, .. } | Self::FailurePercentage { requests, .. } => requests.max(1),
        }
    }

    /// Sums up how a whole pool does.
    pub(super) fn survey(self, windows: impl Iterator<Item = Window>) -> Peers {
        let (mut backends, mut rates, mut success) = (0, Vec::new(), Vec::new());
        let mut all = Window::default();
        for Window { requests, faults } in windows {
            backends += 1;
            all.requests = all.requests.saturating_add(requests);
            all.faults = all.faults.saturating_add(faults);
            if requests >= self.requests() {
                // Laplace's smoothing: no failure in ten is no proof that there will never be one.
                rates.push((f64::from(faults) + 0.5) / (f64::from(requests) + 1.0));
                success.push(1.0 - f64::from(faults) / f64::from(requests));
            }
        }
        let busy = rates.len();
        if busy == 0 {
            return Peers { backends, all, ..Peers::default() };
        }
        rates.sort_by(f64::total_cmp);
        let mean_success = success.iter().sum::<f64>() / busy as f64;
        let variance = success.iter().map(|rate| (rate - mean_success).powi(2)).sum::<f64>() / busy as f64;
        Peers { backends, busy, all, lower_quartile: rates[(busy - 1) / 4], mean_success, deviation: variance.sqrt() }
    }

    /// Whether so many faults in a row are no luck among peers that do as they do. What fails everywhere alike, a route that
    /// is broken say, fails in rows too, and is nobody's fault: the more the peers fail, the longer a row has to be.
    /// While they have had too few requests to be compared one by one, what counts is how all of them do beside its `own`; and
    /// where they had none, the number alone.
    pub(super) fn is_row(streak: u32, least: u32, own: Window, peers: &Peers) -> bool {
        let others = peers.all.requests.saturating_sub(own.requests);
        let faults = peers.all.faults.saturating_sub(own.faults);
        let usual = match () {
            () if peers.busy > 1 => peers.lower_quartile,
            () if others > 0 => ((f64::from(faults) + 0.5) / (f64::from(others) + 1.0)).min(1.0),
            () => 0.0,
        };
        streak >= least && f64::from(streak) * usual.ln() < peers.luck().ln()
    }

    /// Whether a backend that did as in `window` is to go, and why.
    pub(super) fn judge(self, window: Window, peers: &Peers) -> Option<String> {
        let Window { requests, faults } = window;
        if requests < self.requests() {
            return None;
        }
        let share = f64::from(faults) / f64::from(requests);
        match self {
            Self::Off => None,
            Self::Binomial => {
                let is_bad = peers.busy > 0 && is_no_luck(window, peers.lower_quartile, peers.luck());
                is_bad.then(|| format!("{faults} of {requests} failed, and few of its peers'"))
            }
            Self::SuccessRate { deviations, hosts, .. } => {
                let least = peers.mean_success - deviations * peers.deviation;
                let is_bad = peers.busy >= hosts && 1.0 - share < least;
                is_bad.then(|| format!("{faults} of {requests} failed, {deviations} deviations from its peers"))
            }
            Self::FailurePercentage { percent, hosts, .. } => {
                let is_bad = peers.busy >= hosts && share * 100.0 > percent;
                is_bad.then(|| format!("{faults} of {requests} failed, more than {percent} %"))
            }
        }
    }
}

impl Peers {
    /// Whether there is little to compare with yet, so that what was seen a second ago is too old.
    pub(super) fn is_young(&self) -> bool {
        self.busy < 2
    }

    /// What is luck for one backend of so many.
    fn luck(&self) -> f64 {
        LUCK / self.backends.max(1) as f64
    }
}

/// Whether so many faults among so many requests say that a backend is worse than a pool whose lower quartile fails at the
/// rate `p0`.
fn is_no_luck(Window { requests, faults }: Window, p0: f64, luck: f64) -> bool {
    let odds = 3.0 * p0 / (1.0 - p0).max(f64::MIN_POSITIVE);
    let forgiven = (odds / (1.0 + odds)).max(FORGIVEN);
    f64::from(faults) > forgiven * f64::from(requests) && binomial_tail(requests, faults, forgiven) < luck
}

/// The chance of `k` or more successes in `n` trials of `p` each, for `k > np`.
fn binomial_tail(n: u32, k: u32, p: f64) -> f64 {
    if p >= 1.0 {
        return 1.0;
    }
    let (n, mut k) = (f64::from(n), f64::from(k));
    let log = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) + k * p.ln() + (n - k) * (-p).ln_1p();
    // Above the mean each term is a smaller part of the one before: the sum ends itself.
    let (mut term, mut sum) = (1.0, 0.0);
    while k <= n && term > 1e-12 * sum {
        sum += term;
        term *= (n - k) / (k + 1.0) * p / (1.0 - p);
        k += 1.0;
    }
    log.exp() * sum
}

/// ln n!, by Stirling's series where that is exact to ten digits, and by its definition below.
fn ln_factorial(n: f64) -> f64 {
    if n < 16.0 {
        return (2..=n as u32).map(|i| f64::from(i).ln()).sum();
    }
    let (half_ln_tau, inverse) = (0.918_938_533_204_672_8, 1.0 / n);
    (n + 0.5) * n.ln() - n + half_ln_tau + inverse / 12.0 - inverse.powi(3) / 360.0 + inverse.powi(5) / 1260.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(requests: u32, faults: u32) -> Window {
        Window { requests, faults }
    }

    /// The least number of failures among `n` requests that puts one of three backends out.
    fn least(n: u32, p0: f64) -> Option<u32> {
        (0..=n).find(|&faults| is_no_luck(window(n, faults), p0, LUCK / 3.0))
    }

    #[test]
    fn thresholds_in_a_pool_of_three() {
        for (p0, thresholds) in [
            (0.0, [Some(5), Some(6), Some(8), Some(11), Some(17), Some(47)]),
            (0.01, [Some(5), Some(6), Some(8), Some(11), Some(17), Some(47)]),
            (0.05, [Some(7), Some(8), Some(11), Some(19), Some(30), Some(101)]),
            (0.10, [Some(8), Some(9), Some(14), Some(27), Some(44), Some(166)]),
            (0.30, [None, None, Some(20), Some(42), Some(76), Some(326)]),
        ] {
            let found = [8, 10, 20, 50, 100, 500].map(|n| least(n, p0));
            assert_eq!(found, thresholds, "{p0}");
        }
    }

    #[test]
    fn small_pools_have_thresholds_of_their_own() {
        for (backends, thresholds) in [(2, [5, 7, 16]), (3, [5, 8, 17]), (5, [5, 8, 17])] {
            let least =
                |n| (0..=n).find(|&faults| is_no_luck(window(n, faults), 0.0, LUCK / f64::from(backends))).unwrap();
            assert_eq!([8, 20, 100].map(least), thresholds, "{backends}");
        }
    }

    #[test]
    fn the_tail_is_that_of_the_binomial_distribution() {
        // Summed up term by term.
        for (n, k, p) in [(8_u32, 5_u32, 0.05_f64), (20, 14, 0.25), (100, 17, 0.05), (500, 166, 0.25)] {
            let mut term = (1.0 - p).powi(n as i32);
            let mut sum = 0.0;
            for i in 0..=n {
                if i >= k {
                    sum += term;
                }
                term *= f64::from(n - i) / f64::from(i + 1) * p / (1.0 - p);
            }
            let tail = binomial_tail(n, k, p);
            assert!((tail / sum - 1.0).abs() < 1e-6, "{n} {k} {p}: {tail} {sum}");
        }
        assert!(binomial_tail(1_000_000, 60_000, 0.05) < 1e-100);
    }

    #[test]
    fn a_fleet_in_which_everyone_fails_loses_nobody() {
        for backends in [2, 3, 5, 100] {
            for faults in [10, 50, 90, 100] {
                let all = vec![window(100, faults); backends];
                let peers = Detector::Binomial.survey(all.iter().copied());
                assert_eq!(Detector::Binomial.judge(all[0], &peers), None, "{backends} {faults}");
            }
        }
    }

    #[test]
    fn a_row_is_the_longer_the_more_the_peers_fail() {
        let least = |faults| {
            let peers = Detector::Binomial.survey(vec![window(999, faults); 3].into_iter());
            (0..2_000).find(|&streak| Detector::is_row(streak, 5, window(999, faults), &peers)).unwrap()
        };
        assert_eq!([0, 10, 100, 300, 500, 900].map(least), [5, 5, 5, 9, 15, 99]);
        // Who has no peers with traffic is judged by himself.
        let alone = Detector::Binomial.survey([window(999, 500), window(0, 0)].into_iter());
        assert!(Detector::is_row(5, 5, window(999, 500), &alone) && !Detector::is_row(4, 5, window(999, 500), &alone));
    }

    #[test]
    fn while_there_is_little_to_compare_all_together_are_what_one_is_compared_with() {
        let row = |own: Window, others: Window, streak| {
            let peers = Detector::Binomial.survey([own, others].into_iter());
            Detector::is_row(streak, 5, own, &peers)
        };
        assert!(row(window(5, 5), window(5, 0), 5));
        assert!(!row(window(5, 5), window(5, 5), 5) && !row(window(7, 7), window(2, 2), 7));
        assert!(!row(window(5, 5), window(1, 0), 5) && row(window(9, 9), window(1, 0), 9));
    }

    #[test]
    fn several_bad_ones_do_not_hide_each_other() {
        for (good, bad) in [(1, 1), (2, 1), (1, 2), (3, 2), (6, 4), (30, 69)] {
            let all = [vec![window(100, 1); good], vec![window(100, 60); bad]].concat();
            let peers = Detector::Binomial.survey(all.into_iter());
            assert!(Detector::Binomial.judge(window(100, 60), &peers).is_some(), "{good} {bad}");
            assert_eq!(Detector::Binomial.judge(window(100, 1), &peers), None, "{good} {bad}");
        }
    }

    #[test]
    fn the_compatible_modes_find_what_they_find_elsewhere() {
        let by_rate = Detector::SuccessRate { deviations: 1.9, hosts: 5, requests: 100 };
        let by_percent = Detector::FailurePercentage { percent: 85.0, hosts: 5, requests: 50 };
        for (good, bad, found) in
            [(4, 1, true), (9, 1, true), (4, 0, false), (3, 1, false), (3, 2, false), (75, 25, false)]
        {
            let all = [vec![window(100, 0); good], vec![window(100, 50); bad]].concat();
            let peers = by_rate.survey(all.into_iter());
            assert_eq!(by_rate.judge(window(100, 50), &peers).is_some(), found, "{good} {bad}");
        }
        let peers = by_percent.survey(vec![window(50, 43); 5].into_iter());
        assert!(by_percent.judge(window(50, 43), &peers).is_some());
        assert_eq!(by_percent.judge(window(50, 42), &peers), None);
        assert_eq!(by_percent.judge(window(49, 49), &peers), None);
    }
}
