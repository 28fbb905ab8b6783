//! What is allowed, and probably not meant.

use super::{
    Config,
    check::percent,
    discover::Discover,
    health::Kind,
    pool::{FailOpen, Pool},
    retry,
    server::Server,
    upstream::Protocol,
};
use std::collections::{BTreeMap, BTreeSet};

impl Config {
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.server.warnings();
        warnings.extend(self.fleet.iter().filter_map(|fleet| fleet.etcd.warning()));
        for (name, pool) in &self.pools {
            if !self.routes.is_empty() && !self.routes.iter().any(|route| *route.pool == *name) {
                warnings.push(format!("no route leads to pool {name}"));
            }
            if self.fleet.is_some() && *pool.health.kind == Kind::Off {
                let words =
                    "without health checks it is not shared: what is said here of its backends the others do not hear";
                warnings.push(format!("{words} (pool {name})"));
            }
            let local = pool.warnings(&self.server);
            warnings.extend(local.into_iter().map(|warning| format!("{warning} (pool {name})")));
        }
        warnings
    }
}

impl Server {
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.trusted_proxies.iter().any(|network| network.to_string().ends_with("/0")) {
            warnings.push("trusted_proxies has everyone: any client may say that it is another".to_owned());
        }
        if self.admin.address().is_some_and(|admin| !admin.ip().is_loopback()) {
            let words = "the admin server is reached from other machines without TLS: whoever listens learns the token";
            warnings.push(words.to_owned());
        }
        warnings
    }
}

impl Pool {
    fn warnings(&self, server: &Server) -> Vec<String> {
        let mut warnings = self.of_backends(server);
        warnings.extend(self.discover.iter().flat_map(Discover::warnings));
        warnings.extend(self.of_health());
        warnings.extend(self.of_attempts(server));
        warnings
    }

    fn of_backends(&self, server: &Server) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is_so: bool, words: String| {
            if is_so {
                warnings.push(words);
            }
        };
        let name = self.strategy.known_as();
        let weights: Vec<f64> = self.backends.iter().map(|backend| backend.weight()).collect();
        let differ = weights.iter().any(|weight| *weight != weights[0]);
        let nobody = self.backends.is_empty() && self.discover.is_none();
        warn(nobody, "there are no backends: every request is answered 503".to_owned());
        warn(differ && !self.strategy.minds_weights(), format!("weights do nothing under {name}"));
        warn(
            !weights.is_empty() && weights.iter().all(|weight| *weight == 0.0),
            "all weights are 0: all are alike".to_owned(),
        );
        let no_key = self.strategy.goes_by_key() && self.strategy.key.is_none();
        warn(no_key, format!("{name} goes by key, and there is no strategy.key: requests go anywhere"));
        let mut zones = self.backends.iter().filter_map(|backend| backend.zone.as_deref()).peekable();
        match server.zone.as_deref() {
            None => warn(zones.peek().is_some(), "zones do nothing: server.zone is not set".to_owned()),
            Some(own) => {
                let foreign = zones.peek().is_some() && !zones.any(|zone| zone == own);
                warn(foreign, format!("no backend is in zone {own}, where the gateway is"));
            }
        }
        let tiers = self.backends.iter().map(|backend| backend.priority());
        let first = tiers.clone().min().unwrap_or_default();
        let encrypted = self.backends.iter().any(|backend| backend.is_encrypted());
        let idle = !self.backends.is_empty() && self.discover.is_none() && !encrypted;
        warn(idle && self.upstream.tls.is_some(), "upstream.tls does nothing: no backend is https://".to_owned());
        let auto = *self.upstream.protocol == Protocol::Auto;
        warn(idle && auto, "upstream.protocol auto is http1: no backend is https://".to_owned());
        warn(first > 0, format!("no backend has priority 0: those of priority {first} come first"));
        warnings
    }

    /// How many backends the tiers and zones have: where one is alone, it stays in any case.
    fn groups(&self) -> BTreeSet<usize> {
        let mut groups = BTreeMap::new();
        for backend in &self.backends {
            *groups.entry((backend.priority(), backend.zone.as_deref())).or_insert(0) += 1;
        }
        groups.into_values().filter(|backends| *backends > 1).collect()
    }

    fn of_health(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let health = &self.health;
        if *health.kind != Kind::Off && *health.timeout > *health.interval {
            let words = "the health timeout is longer than the interval: a silent backend delays its next check";
            warnings.push(words.to_owned());
        }
        let share = self.outlier.max_ejected();
        for backends in self.groups() {
            let of = format!("max_ejected {} of {backends} backends = 0", percent(share));
            match self.outlier.ejection().most_of(backends) {
                _ if (backends as f64 * share) as usize > 0 => {}
                0 => warnings.push(format!("{of}: nobody is taken out for its answers")),
                most => warnings.push(format!("{of}: {most} may be out all the same")),
            }
        }
        warnings
    }

    fn of_attempts(&self, server: &Server) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |is_so: bool, words: String| {
            if is_so {
                warnings.push(words);
            }
        };
        let (attempts, backends) = (self.retry.attempts.get(), self.backends.len());
        let hedges = self.hedge.kind(&self.retry) == retry::Kind::Late;
        warn(hedges && attempts > 1, format!("retries x hedges = up to {} attempts", attempts.saturating_mul(2)));
        let is_said = self.retry.attempts.place.is_some();
        let many = is_said && backends > 0 && self.discover.is_none() && attempts as usize > backends;
        warn(many, format!("retry.attempts is {attempts}, and the backends are {backends}: some are asked twice"));
        let paid = self.retry.budget.0 > 0.0 || *self.retry.min_per_second > 0;
        warn(attempts > 1 && !paid, "the budget of the retries is nothing: there are none".to_owned());
        let limits = &self.limits;
        let half = limits.wait.is_some() != limits.max_waiting.is_some();
        warn(half, "limits.wait and limits.max_waiting do nothing without each other".to_owned());
        let waits = limits.waiting().is_some() && self.fail_open() != FailOpen::Wait;
        warn(waits, "requests wait also while no backend is well, as with fail_open = \"wait\"".to_owned());
        let late = server.limits.request_timeout.is_some_and(|time| time <= *self.upstream.response_timeout);
        warn(late, "server.limits.request_timeout is over before upstream.response_timeout".to_owned());
        let idle = *self.upstream.protocol == Protocol::H2 && self.upstream.max_idle.is_some();
        warn(idle, "upstream.max_idle does nothing over h2".to_owned());
        warn(
            *server.shutdown_grace < *self.upstream.response_timeout,
            "server.shutdown_grace is over before upstream.response_timeout: a slow answer is broken off at a stop"
                .to_owned(),
        );
        warnings
    }
}
