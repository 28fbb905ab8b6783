use super::{
    Admission, Candidates, ClientWeighted, ConsistentHash, Hint, Index, LeastLatency, LeastRequest, Maglev, Memento,
    PeakEwma, Picker, Prequal, Random, Rendezvous, Ring, RoundRobin, Score, Strategy, WeightedRoundRobin,
};
use crate::backend::Backend;
use std::{error::Error, fmt, sync::Arc};

/// A strategy chosen at run time. Costs one virtual call a decision; a strategy named in code costs none.
///
/// ```
/// use tower_balancer::strategy::AnyStrategy;
///
/// let strategy: AnyStrategy = "round_robin".parse()?;
/// assert_eq!(strategy.name(), "round_robin");
///
/// let error = "fastest".parse::<AnyStrategy>().unwrap_err();
/// assert!(error.to_string().starts_with(r#"unknown strategy "fastest": expected one of round_robin, "#));
/// # Ok::<_, tower_balancer::strategy::UnknownStrategy>(())
/// ```
#[derive(Clone)]
pub struct AnyStrategy {
    name: Arc<str>,
    build: Arc<Build>,
}

/// The bound that the paper and the field use.
const BOUND: f64 = 1.25;

type Build = dyn Fn(&[Arc<Backend>]) -> Box<dyn Picker> + Send + Sync;

impl AnyStrategy {
    /// The names that `parse` knows.
    pub const NAMES: [&'static str; 12] = [
        "round_robin",
        "weighted_round_robin",
        "client_weighted",
        "random",
        "least_request",
        "peak_ewma",
        "least_latency",
        "prequal",
        "ring",
        "maglev",
        "rendezvous",
        "memento",
    ];

    /// Any strategy, under the name by which it is to be shown.
    pub fn new(name: impl Into<Arc<str>>, strategy: impl Strategy) -> Self {
        Self { name: name.into(), build: Arc::new(move |members| Box::new(strategy.build(members))) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::str::FromStr for AnyStrategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        match name {
            "round_robin" => Ok(Self::new(name, RoundRobin::new())),
            "weighted_round_robin" => Ok(Self::new(name, WeightedRoundRobin::new())),
            "client_weighted" => Ok(Self::new(name, ClientWeighted::new())),
            "random" => Ok(Self::new(name, Random)),
            "least_request" => Ok(Self::new(name, LeastRequest::new())),
            "peak_ewma" => Ok(Self::new(name, PeakEwma)),
            "least_latency" => Ok(Self::new(name, LeastLatency::new())),
            // Nobody asks for it what the answers do not carry.
            "prequal" => Ok(Self::new(name, Prequal::new().probes(0))),
            // By key, with a bound on the load: a hot key must not drown its owner.
            "ring" => Ok(Self::new(name, ConsistentHash::new(Ring::new()).bounded(BOUND))),
            "maglev" => Ok(Self::new(name, ConsistentHash::new(Maglev::new()).bounded(BOUND))),
            "rendezvous" => Ok(Self::new(name, ConsistentHash::new(Rendezvous).bounded(BOUND))),
            "memento" => Ok(Self::new(name, ConsistentHash::new(Memento::new()).bounded(BOUND))),
            _ => Err(UnknownStrategy(name.to_owned())),
        }
    }
}

impl Strategy for AnyStrategy {
    type Picker = Box<dyn Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Box<dyn Picker> {
        (self.build)(members)
    }
}

impl Picker for Box<dyn Picker> {
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        (**self).admit(candidates)
    }

    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        (**self).pick(candidates, hint)
    }

    fn binds(&self, index: Index, hint: &Hint<'_>) -> bool {
        (**self).binds(index, hint)
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        (**self).score(candidates, index, hint)
    }
}

impl fmt::Debug for AnyStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyStrategy").field(&self.name).finish()
    }
}

/// The error for a name that no strategy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStrategy(String);

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown strategy {:?}: expected one of {}", self.0, AnyStrategy::NAMES.join(", "))
    }
}

impl Error for UnknownStrategy {}
