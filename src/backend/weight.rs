use std::{error::Error, fmt};

/// A backend's share of the traffic, relative to the others: finite and not negative; 1 unless said otherwise.
///
/// Weight is not part of a backend's identity: it changes without losing counters or health. What weight 0 means is the
/// strategy's to say.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Weight(f64);

impl Weight {
    /// The weight of a backend about which nothing was said.
    pub const ONE: Self = Self(1.0);

    /// A weight.
    ///
    /// # Errors
    ///
    /// [`InvalidWeight`] where `weight` is negative, infinite or not a number.
    pub fn new(weight: f64) -> Result<Self, InvalidWeight> {
        if weight.is_finite() && weight >= 0.0 {
            // `+ 0.0` makes -0.0 an ordinary zero.
            Ok(Self(weight + 0.0))
        } else {
            Err(InvalidWeight(weight))
        }
    }

    /// The weight as a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

/// The error for a number that is not a [`Weight`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidWeight(f64);

impl fmt::Display for InvalidWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid weight {}: expected a finite number that is not negative", self.0)
    }
}

impl Error for InvalidWeight {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_numbers_that_are_not_negative_are_weights() {
        for good in [0.0, 0.5, 1.0, 1e300] {
            assert_eq!(Weight::new(good).map(Weight::get), Ok(good));
        }
        assert!(Weight::new(-0.0).is_ok_and(|weight| weight.get().is_sign_positive()));
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Weight::new(bad).unwrap_err().to_string();
            assert!(error.contains(&bad.to_string()), "{error}");
        }
    }
}
