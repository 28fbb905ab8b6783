//! `[pools.NAME]`: backends, who is next among them, and what is done where one fails.

use super::{
    backend::Backend,
    discover::Discover,
    health::Health,
    limits::Limits,
    outlier::Outlier,
    retry::{Hedge, Retry},
    scalars::{UpTo, words},
    session::Session,
    strategy::Strategy,
    upstream::Upstream,
    value::{Fault, Value},
};
use serde::Deserialize;
use std::{collections::HashSet, time::Duration};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    pub backends: Vec<Backend>,
    /// Who tells of the backends; until then there are those of `backends`.
    pub discover: Option<Discover>,
    pub strategy: Strategy,
    pub slow_start: Option<Value<UpTo<Duration>>>,
    pub session: Option<Session>,
    pub health: Health,
    pub outlier: Outlier,
    pub retry: Retry,
    pub hedge: Hedge,
    pub limits: Limits,
    pub fail_open: Option<Value<FailOpen>>,
    pub upstream: Upstream,
}

words! {
    /// Who is picked where too few backends are well.
    FailOpen {
        Reject = "reject",
        AllBackends = "all_backends",
        LeastBad = "least_bad",
        Wait = "wait",
    }
}

impl Pool {
    pub fn slow_start(&self) -> Option<Duration> {
        self.slow_start.as_ref().and_then(|window| ***window)
    }

    pub fn fail_open(&self) -> FailOpen {
        self.fail_open.as_ref().map_or(FailOpen::Reject, |fail_open| **fail_open)
    }

    /// What one key alone does not show.
    pub fn validate(&self) -> Result<(), Fault> {
        let mut seen = HashSet::new();
        if let Some(again) = self.backends.iter().find(|backend| !seen.insert(backend.url.id())) {
            let words = format!("duplicate backend {}: expected each backend once", *again.url);
            return Err(again.url.fault(words));
        }
        if let Some(fail_open) = self.fail_open.as_ref().filter(|fail_open| ***fail_open == FailOpen::Wait)
            && self.limits.waiting().is_none()
        {
            return Err(
                fail_open.fault("nobody could wait: expected limits.max_waiting and limits.wait above 0 as well")
            );
        }
        self.upstream.validate()?;
        if let Some(backend) = self.backends.iter().find(|backend| backend.is_encrypted()) {
            // Without an authority of its own, it is the system that has to have some.
            let loaded = self.upstream.tls().load_roots();
            loaded.map_err(|error| backend.url.fault(format!("{error}: expected upstream.tls.ca")))?;
        }
        self.discover.iter().try_for_each(Discover::validate)?;
        self.strategy.validate()?;
        self.health.validate()?;
        self.outlier.validate()?;
        self.hedge.validate()?;
        self.limits.validate()?;
        self.session.iter().try_for_each(Session::validate)
    }
}
