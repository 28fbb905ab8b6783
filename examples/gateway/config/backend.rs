//! One of `backends`: a URL, or a table with more than that.

use super::{shapes::Short, value::Value};
use http::uri::Scheme;
use serde::{Deserialize, Deserializer};
use tower_balancer::{
    backend::{Origin, Weight},
    pool::Member,
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Backend {
    pub url: Value<Origin>,
    #[serde(default)]
    pub weight: Option<Value<Weight>>,
    #[serde(default)]
    pub zone: Option<Value<String>>,
    #[serde(default)]
    pub priority: Option<Value<u32>>,
}

impl Backend {
    pub fn new(url: Value<Origin>) -> Self {
        Self { url, weight: None, zone: None, priority: None }
    }

    pub fn is_encrypted(&self) -> bool {
        *self.url.scheme() == Scheme::HTTPS
    }

    pub fn priority(&self) -> u32 {
        self.priority.as_deref().copied().unwrap_or_default()
    }

    pub fn weight(&self) -> f64 {
        self.weight.as_deref().map_or(1.0, |weight| weight.get())
    }
}

/// The backends as the pool takes them.
pub fn members(backends: &[Backend]) -> Vec<Member<Origin>> {
    let member = |backend: &Backend| {
        let member = Member::from(Origin::clone(&backend.url)).priority(backend.priority());
        let member = match backend.weight.as_deref() {
            Some(weight) => member.weight(*weight),
            None => member,
        };
        match backend.zone.as_deref() {
            Some(zone) => member.zone(zone.as_str()),
            None => member,
        }
    };
    backends.iter().map(member).collect()
}

impl Short for Backend {
    type Scalar = Origin;

    fn short(url: Value<Origin>) -> Self {
        Self::new(url)
    }

    fn full<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Self as Short>::read(deserializer)
    }
}
