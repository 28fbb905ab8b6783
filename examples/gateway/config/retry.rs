//! `retry` and `hedge`: asking another backend, after and meanwhile.

use super::{
    scalars::{Share, words},
    shapes::Short,
    value::{Fault, Value, only_if},
};
use serde::{Deserialize, Deserializer};
use std::{num::NonZero, time::Duration};
use tower_balancer::http::{HedgeLayer, RetryBudget, RetryLayer};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// All together, the first one included.
    pub attempts: Value<NonZero<u32>>,
    pub budget: Value<Share>,
    pub min_per_second: Value<u32>,
    pub any_method: Value<bool>,
    pub body_limit: Option<Value<u32>>,
    pub backoff: Value<Duration>,
    pub max_backoff: Value<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: NonZero::<u32>::MIN.saturating_add(1).into(),
            budget: Share(0.2).into(),
            min_per_second: 10.into(),
            any_method: false.into(),
            body_limit: None,
            backoff: Duration::from_millis(25).into(),
            max_backoff: Duration::from_millis(250).into(),
        }
    }
}

impl Retry {
    pub fn budget(&self) -> RetryBudget {
        RetryBudget::new(self.budget.0, *self.min_per_second)
    }

    pub fn layer(&self, budget: RetryBudget) -> RetryLayer {
        let layer = RetryLayer::new(budget).retries(self.attempts.get() - 1).backoff(*self.backoff, *self.max_backoff);
        let layer = if *self.any_method { layer.any_method() } else { layer };
        match self.body_limit.as_deref() {
            Some(bytes) => layer.body_limit(*bytes as usize),
            None => layer,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Hedge {
    /// `None` is what the retry allows: `silent`, where that has a second attempt.
    pub kind: Option<Value<Kind>>,
    pub quantile: Option<Value<Share>>,
    pub share: Option<Value<Share>>,
}

words! {
    /// When a second backend is asked while the first has not answered.
    Kind {
        /// Where the first has stopped answering.
        Silent = "silent",
        /// Also where it takes longer than most.
        Late = "late",
        Off = "off",
    }
}

impl Hedge {
    pub fn kind(&self, retry: &Retry) -> Kind {
        let usual = if retry.attempts.get() > 1 { Kind::Silent } else { Kind::Off };
        self.kind.as_deref().copied().unwrap_or(usual)
    }

    pub fn validate(&self) -> Result<(), Fault> {
        let is_late = self.kind.as_deref() == Some(&Kind::Late);
        only_if(is_late, self.quantile.as_ref(), || "this is of kind = \"late\"".to_owned())?;
        only_if(is_late, self.share.as_ref(), || "this is of kind = \"late\"".to_owned())
    }

    pub fn layer(&self, retry: &Retry, budget: RetryBudget) -> HedgeLayer {
        let share = |set: &Option<Value<Share>>, usual| set.as_deref().map_or(usual, |share| share.0);
        match self.kind(retry) {
            Kind::Silent => HedgeLayer::silent(budget),
            Kind::Late => HedgeLayer::with(share(&self.quantile, 0.95), share(&self.share, 0.05), budget),
            Kind::Off => HedgeLayer::none(),
        }
    }
}

impl Short for Hedge {
    type Scalar = Kind;

    fn short(kind: Value<Kind>) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    fn full<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Hedge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Self as Short>::read(deserializer)
    }
}
