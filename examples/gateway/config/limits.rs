//! `limits`: how much a pool and its backends have at once, and who waits.

use super::{
    scalars::UpTo,
    value::{Fault, Value},
};
use serde::Deserialize;
use std::{num::NonZero, time::Duration};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub max_in_flight: Value<UpTo<NonZero<u32>>>,
    pub max_in_flight_per_backend: Value<UpTo<NonZero<u32>>>,
    pub max_waiting: Value<UpTo<NonZero<u32>>>,
    pub wait: Value<UpTo<Duration>>,
    pub adaptive: Option<Adaptive>,
}

/// The limit of each backend is found out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adaptive {
    pub least: Value<NonZero<u32>>,
    pub most: Value<NonZero<u32>>,
    pub initial: Value<NonZero<u32>>,
    pub weigh: Value<bool>,
}

impl Default for Adaptive {
    fn default() -> Self {
        let number = |number| NonZero::new(number).unwrap_or(NonZero::<u32>::MIN).into();
        Self { least: number(4), most: number(1_000), initial: number(20), weigh: false.into() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_in_flight: UpTo(None).into(),
            max_in_flight_per_backend: UpTo(None).into(),
            max_waiting: UpTo(None).into(),
            wait: UpTo(None).into(),
            adaptive: None,
        }
    }
}

impl Limits {
    /// How long requests wait, and how many at once, where they do.
    pub fn waiting(&self) -> Option<(Duration, usize)> {
        Some((self.wait.0?, self.max_waiting.0?.get() as usize))
    }

    pub fn validate(&self) -> Result<(), Fault> {
        let Some(adaptive) = &self.adaptive else { return Ok(()) };
        if self.max_in_flight_per_backend.is_some() {
            return Err(self.max_in_flight_per_backend.fault("limits.adaptive moves this: expected one of the two"));
        }
        if *adaptive.least > *adaptive.most {
            return Err(adaptive.least.fault(format!("expected no more than most, {}", *adaptive.most)));
        }
        Ok(())
    }
}
