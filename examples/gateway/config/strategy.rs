//! `strategy`: a name, or a table with its settings.

use super::{
    shapes::Short,
    value::{Fault, Value, only_if},
};
use serde::{Deserialize, Deserializer};
use std::{num::NonZero, time::Duration};
use tower_balancer::{
    http::RequestKey,
    strategy::{
        AnyStrategy, ClientWeighted, ConsistentHash, Hashing, LeastLatency, LeastRequest, Maglev, Memento, Rendezvous,
        Ring,
    },
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Strategy {
    pub name: Value<String>,
    /// Of `consistent_hash`.
    pub algorithm: Option<Value<String>>,
    /// Of those that go by key.
    pub key: Option<Value<RequestKey>>,
    pub bounded_load: Option<Value<f64>>,
    /// Of `maglev`.
    pub slots: Option<Value<NonZero<u32>>>,
    /// Of `ring`.
    pub points: Option<Value<NonZero<u32>>>,
    /// Of `least_request`.
    pub choices: Option<Value<NonZero<u32>>>,
    /// Of `client_weighted`.
    pub blackout: Option<Value<Duration>>,
    pub expiry: Option<Value<Duration>>,
    pub update_period: Option<Value<Duration>>,
    pub error_penalty: Option<Value<f64>>,
}

/// The algorithms of `consistent_hash`, each of which is also a strategy by its own name.
const HASHES: [&str; 4] = ["ring", "maglev", "rendezvous", "memento"];

/// What is a good choice where nobody chooses.
const AUTO: &str = "least_latency";

impl Strategy {
    pub fn named(name: Value<String>) -> Self {
        Self { name, ..Self::default() }
    }

    /// The name under which the library knows it.
    pub fn known_as(&self) -> &str {
        match self.name.as_str() {
            "auto" => AUTO,
            "consistent_hash" => self.algorithm.as_ref().map_or("maglev", |algorithm| algorithm.as_str()),
            name => name,
        }
    }

    pub fn goes_by_key(&self) -> bool {
        HASHES.contains(&self.known_as())
    }

    pub fn minds_weights(&self) -> bool {
        !["round_robin", "memento"].contains(&self.known_as())
    }

    pub fn validate(&self) -> Result<(), Fault> {
        let known = self.known_as();
        let of = |of: &'static str| move || format!("this is of {of}, and the strategy is {known}");
        let hash = "ring, maglev, rendezvous and memento";
        only_if(self.name.as_str() == "consistent_hash", self.algorithm.as_ref(), of("consistent_hash"))?;
        if let Some(algorithm) = self.algorithm.as_ref().filter(|algorithm| !HASHES.contains(&algorithm.as_str())) {
            let words = format!("unknown algorithm {:?}: expected one of {}", **algorithm, HASHES.join(", "));
            return Err(algorithm.fault(words));
        }
        if let Err(unknown) = known.parse::<AnyStrategy>() {
            return Err(self.name.fault(format!("{unknown}, consistent_hash, auto")));
        }
        only_if(self.goes_by_key(), self.key.as_ref(), of(hash))?;
        only_if(self.goes_by_key(), self.bounded_load.as_ref(), of(hash))?;
        only_if(known == "maglev", self.slots.as_ref(), of("maglev"))?;
        only_if(known == "ring", self.points.as_ref(), of("ring"))?;
        only_if(known == "least_request", self.choices.as_ref(), of("least_request"))?;
        let weighted = known == "client_weighted";
        only_if(weighted, self.blackout.as_ref(), of("client_weighted"))?;
        only_if(weighted, self.expiry.as_ref(), of("client_weighted"))?;
        only_if(weighted, self.update_period.as_ref(), of("client_weighted"))?;
        only_if(weighted, self.error_penalty.as_ref(), of("client_weighted"))?;
        match self.bounded_load.as_ref().filter(|bound| ***bound != 0.0 && ***bound < 1.0) {
            Some(bound) => Err(bound.fault("expected a factor from 1.0, typically 1.25; or 0 for no bound")),
            None => Ok(()),
        }
    }

    /// A new one, that shares nothing with others.
    pub fn build(&self) -> AnyStrategy {
        let name = self.name.as_str();
        match self.known_as() {
            "ring" => {
                let points = self.points.as_ref().map_or(Ring::new(), |points| Ring::with_points(points.get()));
                self.hash(points)
            }
            "maglev" => {
                let slots = self.slots.as_ref();
                self.hash(slots.map_or(Maglev::new(), |slots| Maglev::with_slots(slots.get() as usize)))
            }
            "rendezvous" => self.hash(Rendezvous),
            "memento" => self.hash(Memento::new()),
            "least_request" => {
                let choices = self.choices.as_ref().map(|choices| choices.get() as usize);
                let strategy = LeastRequest::new();
                AnyStrategy::new(name, choices.map_or(strategy, |choices| strategy.choices(choices)))
            }
            "client_weighted" => AnyStrategy::new(name, self.client_weighted()),
            // Its name has been validated.
            known => known.parse().unwrap_or_else(|_| AnyStrategy::new(AUTO, LeastLatency::new())),
        }
    }

    fn hash(&self, hashing: impl Hashing) -> AnyStrategy {
        let hash = ConsistentHash::new(hashing);
        let bound = self.bounded_load.as_ref().map_or(BOUND, |bound| **bound);
        AnyStrategy::new(self.name.as_str(), if bound > 0.0 { hash.bounded(bound) } else { hash })
    }

    fn client_weighted(&self) -> ClientWeighted {
        let mut strategy = ClientWeighted::new();
        if let Some(time) = self.blackout.as_deref() {
            strategy = strategy.blackout(*time);
        }
        if let Some(time) = self.expiry.as_deref() {
            strategy = strategy.expiry(*time);
        }
        if let Some(time) = self.update_period.as_deref() {
            strategy = strategy.update_period(*time);
        }
        if let Some(penalty) = self.error_penalty.as_deref() {
            strategy = strategy.error_penalty(*penalty);
        }
        strategy
    }
}

/// A hot key must not drown its owner.
pub const BOUND: f64 = 1.25;

impl Default for Strategy {
    fn default() -> Self {
        Self {
            name: "round_robin".to_owned().into(),
            algorithm: None,
            key: None,
            bounded_load: None,
            slots: None,
            points: None,
            choices: None,
            blackout: None,
            expiry: None,
            update_period: None,
            error_penalty: None,
        }
    }
}

impl Short for Strategy {
    type Scalar = String;

    fn short(name: Value<String>) -> Self {
        Self::named(name)
    }

    fn full<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Self as Short>::read(deserializer)
    }
}
