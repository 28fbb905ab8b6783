//! From what a pool is to be to its proxy: which strategy in which stages, and every layer's settings.

use crate::config::{
    Config, limits::Limits, pool::Pool, retry, session::Session, strategy::Strategy, upstream::Upstream,
};
use std::{num::NonZero, time::Duration};
use tower_balancer::{
    BackendPool, ReverseProxy,
    backend::Origin,
    http::{AccessLogLayer, ForwardLayer, Network, RetryBudget, TraceLayer},
    proxy::Builder,
    strategy::{AnyStrategy, Grouped, SlowStart, Tiers, Zones},
};

/// All that makes up the proxy of a pool. While it is the same, so is the proxy, whatever else of the configuration changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    picks: Picks,
    session: Option<Session>,
    retry: retry::Retry,
    hedge: retry::Hedge,
    waiting: Option<(Duration, NonZero<u32>)>,
    request_timeout: Option<Duration>,
    trusted_proxies: Vec<Network>,
    log_sample: f64,
    /// The name of the pool in traces, and how many of those that begin here are recorded; `None` where none is.
    traces: Option<(String, f64)>,
    pub upstream: Upstream,
}

/// The strategy, and what stands before it.
#[derive(Clone, Debug, PartialEq)]
struct Picks {
    strategy: Strategy,
    slow_start: Option<Duration>,
    tiers: bool,
    zone: Option<String>,
}

impl Stack {
    pub fn of(name: &str, config: &Config, pool: &Pool) -> Self {
        let Limits { wait, max_waiting, .. } = &pool.limits;
        let told = pool.discover.as_ref();
        let zoned = pool.backends.iter().any(|backend| backend.zone.is_some())
            || told.is_some_and(|discover| discover.brings_zones());
        let picks = Picks {
            strategy: pool.strategy.clone(),
            slow_start: pool.slow_start(),
            // A stage that has nothing to do costs a lot for each request all the same.
            tiers: pool.backends.iter().any(|backend| backend.priority() != pool.backends[0].priority())
                || told.is_some_and(|discover| discover.brings_tiers()),
            zone: config.server.zone.as_deref().filter(|_| zoned).cloned(),
        };
        Self {
            picks,
            session: pool.session.clone(),
            retry: pool.retry.clone(),
            hedge: pool.hedge.clone(),
            waiting: wait.0.zip(max_waiting.0),
            request_timeout: config.server.limits.request_timeout.0,
            trusted_proxies: config.server.trusted_proxies.iter().map(|network| **network).collect(),
            log_sample: config.server.log_sample.0,
            traces: config.server.otlp.as_ref().map(|_| (name.to_owned(), config.server.trace_sample.0)),
            upstream: pool.upstream.clone(),
        }
    }

    /// What retries and hedges are paid from.
    pub fn budget(&self) -> RetryBudget {
        self.retry.budget()
    }

    /// The proxy over `pool` by `picks`, for each worker to build its own of.
    pub fn proxy(&self, pool: &BackendPool<Origin>, picks: AnyStrategy, budget: RetryBudget) -> Builder<AnyStrategy> {
        let mut proxy = ReverseProxy::builder(pool)
            .strategy(picks)
            .access_log(AccessLogLayer::new().sample(self.log_sample))
            .forward(ForwardLayer::new().trusted_proxies(self.trusted_proxies.iter().copied()))
            .retry(self.retry.layer(budget.clone()))
            .hedge(self.hedge.layer(&self.retry, budget))
            .client(self.upstream.client())
            .response_timeout(*self.upstream.response_timeout)
            .body_timeout(self.upstream.body_timeout.0);
        if let Some(key) = self.picks.strategy.key.as_deref() {
            proxy = proxy.key(key.clone());
        }
        // Its name has been validated.
        if let Some(cookie) = self.session.as_ref().and_then(|session| session.cookie().ok()) {
            proxy = proxy.session(cookie);
        }
        if let Some((time, most)) = self.waiting {
            proxy = proxy.wait(time, most.get() as usize);
        }
        if let Some((pool, share)) = &self.traces {
            proxy = proxy.trace(TraceLayer::new().pool(&**pool).sample(*share));
        }
        if let Some(time) = self.request_timeout {
            proxy = proxy.deadline(time);
        }
        if *self.upstream.keep_host { proxy.keep_host() } else { proxy }
    }

    /// Whether a backend's tier counts.
    pub fn has_tiers(&self) -> bool {
        self.picks.tiers
    }

    /// Whether its zone does.
    pub fn has_zones(&self) -> bool {
        self.picks.zone.is_some()
    }

    /// Sessions first; then the first tier that is healthy enough, in it the own zone as far as it suffices, in that those
    /// that are warm.
    pub fn strategy(&self) -> AnyStrategy {
        let strategy = self.picks.in_tiers();
        match &self.session {
            Some(session) => self.picks.named(session.around(strategy)),
            None => strategy,
        }
    }
}

// Each group has a strategy of its own, so a stage makes what is inside of it anew.
impl Picks {
    fn in_tiers(&self) -> AnyStrategy {
        let picks = self.clone();
        if self.tiers { self.named(Grouped::new(Tiers, move || picks.in_zones())) } else { picks.in_zones() }
    }

    fn in_zones(&self) -> AnyStrategy {
        let picks = self.clone();
        match &self.zone {
            Some(zone) => self.named(Grouped::new(Zones::new(zone), move || picks.warm())),
            None => picks.warm(),
        }
    }

    fn warm(&self) -> AnyStrategy {
        let strategy = self.strategy.build();
        match self.slow_start {
            Some(window) => self.named(SlowStart::new(strategy).window(window)),
            None => strategy,
        }
    }

    fn named(&self, strategy: impl tower_balancer::strategy::Strategy) -> AnyStrategy {
        AnyStrategy::new(self.strategy.name.as_str(), strategy)
    }
}
