//! Moving averages over uneven times.

/// What is left of something after `elapsed` where a `tau`-th of it goes at any time: `e^(-elapsed/tau)`. Both in the
/// same unit; a `tau` of zero leaves nothing.
pub(crate) fn decay(elapsed: f64, tau: f64) -> f64 {
    if tau <= 0.0 {
        return 0.0;
    }
    let x = elapsed / tau;
    // Between two requests of a busy backend next to nothing goes: off by less than 5e-7, at a tenth of the cost.
    if x < 1e-3 { 1.0 - x } else { (-x).exp() }
}

/// Nearly the same for a fraction of the cost, where a decision looks at many: never off by more than 0.03.
pub(crate) fn fade(elapsed: f64, tau: f64) -> f64 {
    let x = elapsed * (1.0 / tau);
    // As above.
    if x < 1e-3 { 1.0 - x } else { 1.0 / (1.0 + x * (1.0 + x * (1.0 / 2.0 + x * (1.0 / 6.0)))) }
}

/// The point at `weight` on the way from `old` to `new`.
pub(crate) fn blend(old: f64, new: f64, weight: f64) -> f64 {
    old + (new - old) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_decays_as_finagle_has_it() {
        for (seconds, left) in [(1.0, 0.905), (5.0, 0.607), (10.0, 0.368), (23.0, 0.100)] {
            assert!((decay(seconds, 10.0) - left).abs() < 5e-4, "{seconds}");
        }
        assert_eq!(decay(1.0, 0.0), 0.0);
        assert!((0..1_000).all(|x| (fade(f64::from(x) / 10.0, 10.0) - decay(f64::from(x) / 10.0, 10.0)).abs() < 0.03));
    }
}
