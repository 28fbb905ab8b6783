//! How a configuration becomes pools at work, and how one follows another.

use super::{checks::Task, limit::Limit, responses::Responses, stack::Stack};
use crate::config::{self, Config, pool::FailOpen, route::Route};
use http::uri::Authority;
use std::sync::{Arc, atomic::AtomicU64};
use tokio::time::Instant;
use tower_balancer::{BackendPool, backend::Origin, http::RetryBudget, pool, proxy::Builder, strategy::AnyStrategy};
use tracing::info;

/// A configuration at work. Each worker makes its own [proxies](super::router::Router) by it.
#[derive(Debug)]
pub struct Plan {
    pub config: Config,
    pub pools: Vec<Arc<Pool>>,
    /// The most specific first, each with the place of its pool.
    pub routes: Vec<(Route, usize)>,
    /// How many requests no route was for.
    pub unrouted: Arc<AtomicU64>,
}

/// A pool at work.
#[derive(Debug)]
pub struct Pool {
    pub name: Arc<str>,
    pub strategy: Arc<str>,
    pub backends: BackendPool<Origin>,
    /// The same for as long as the stack is.
    pub proxy: Arc<Builder<AnyStrategy>>,
    pub stack: Stack,
    pub limit: Option<Arc<Limit>>,
    /// What its clients were answered.
    pub responses: Arc<Responses>,
    /// What its retries and hedges are paid from; the same for as long as the stack is.
    pub budget: RetryBudget,
    config: config::pool::Pool,
    checks: Arc<Option<Task>>,
    adapting: Arc<Option<Task>>,
}

impl Plan {
    /// The plan for `config`; what is the same in `before` goes on as it is. It cannot fail: `config` has been validated.
    ///
    /// Must be called on a runtime, on which the health checks run.
    pub fn new(config: Config, before: Option<&Self>) -> Self {
        let at_work = |name: &String| before.and_then(|plan| plan.pools.iter().find(|pool| *pool.name == **name));
        let pools = config.pools.iter().map(|(name, pool)| {
            let before = at_work(name).map(|pool| &**pool);
            Arc::new(Pool::new(name, &config, pool, before))
        });
        let pools: Vec<_> = pools.collect();
        let place = |route: Route| {
            let place = pools.iter().position(|pool| *pool.name == *route.pool.as_str());
            place.map(|place| (route, place))
        };
        let routes = config.routes().into_iter().filter_map(place).collect();
        let unrouted = before.map(|plan| Arc::clone(&plan.unrouted)).unwrap_or_default();
        Self { config, pools, routes, unrouted }
    }

    /// Where a request goes: the place of its pool.
    pub fn route<B>(&self, request: &http::Request<B>) -> Option<usize> {
        let (host, path) = (host(request), request.uri().path());
        self.routes.iter().find(|(route, _)| route.matches(host, path)).map(|(_, pool)| *pool)
    }

    /// Whether some pool could serve.
    pub fn is_ready(&self) -> bool {
        self.pools.iter().any(|pool| !pool.backends.healthy().is_empty())
    }
}

/// The host that a request is for, without its port; of the target, where that has one (RFC 9112 §3.2.2), or of the header.
fn host<B>(request: &http::Request<B>) -> &str {
    let header = || request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    let asked = request.uri().authority().map(Authority::as_str).or_else(header).unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match asked.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => asked,
    };
    host.strip_suffix('.').unwrap_or(host)
}

impl Pool {
    /// What is as it was `before` goes on: the backends with their counters and their health, the proxy with its
    /// connections, the checks.
    fn new(name: &str, config: &Config, pool: &config::pool::Pool, before: Option<&Self>) -> Self {
        let empty = || BackendPool::from_members([]).expect("no backend is there twice");
        let backends = before.map_or_else(empty, |before| before.backends.clone());
        settle(&backends, pool, before.map(|before| &before.config));
        let stack = Stack::of(name, config, pool);
        let (proxy, budget) = match before.filter(|before| before.stack == stack) {
            Some(before) => (Arc::clone(&before.proxy), before.budget.clone()),
            None => {
                let budget = stack.budget();
                (Arc::new(stack.proxy(&backends, budget.clone())), budget)
            }
        };
        let asks_as =
            |before: &&Self| (&before.config.health, &before.config.upstream.tls) == (&pool.health, &pool.upstream.tls);
        let checks = match before.filter(asks_as) {
            Some(before) => Arc::clone(&before.checks),
            None => Arc::new(checks(name, pool, &backends)),
        };
        let adaptive = &pool.limits.adaptive;
        let adapting = match before.filter(|before| before.config.limits.adaptive == *adaptive) {
            Some(before) => Arc::clone(&before.adapting),
            None => Arc::new(adaptive.as_ref().map(|adaptive| Task::limits(adaptive, &backends))),
        };
        let limit = match before.filter(|before| before.config.limits == pool.limits) {
            Some(before) => before.limit.clone(),
            None => Limit::of(&pool.limits),
        };
        let strategy = pool.strategy.known_as().into();
        let responses = before.map(|before| Arc::clone(&before.responses)).unwrap_or_default();
        let config = pool.clone();
        let name = name.into();
        Self { name, strategy, backends, proxy, stack, limit, responses, budget, config, checks, adapting }
    }
}

/// Makes `pool` what `config` says, where that is not what it said `before`: what an operator has done since is left alone
/// as long as it is not the file that changes.
fn settle(pool: &BackendPool<Origin>, config: &config::pool::Pool, before: Option<&config::pool::Pool>) {
    if before.is_none_or(|before| before.backends != config.backends) {
        // No backend is there twice: that has been validated.
        _ = pool.replace(config.members());
    }
    if before.is_none_or(|before| before.outlier != config.outlier) {
        pool.set_ejection(config.outlier.ejection());
    }
    pool.set_fail_open(match config.fail_open() {
        FailOpen::Reject | FailOpen::Wait => pool::FailOpen::Reject,
        FailOpen::AllBackends => pool::FailOpen::AllBackends,
        FailOpen::LeastBad => pool::FailOpen::LeastBad,
    });
    let limit = config.limits.max_in_flight_per_backend.map(|limit| limit.get());
    let changed = before.is_none_or(|before| before.limits != config.limits || before.backends != config.backends);
    if changed && config.limits.adaptive.is_none() {
        pool.backends().iter().for_each(|backend| backend.set_limit(limit));
    }
}

/// Begins the checks of `pool`, where there are to be some.
fn checks(name: &str, config: &config::pool::Pool, pool: &BackendPool<Origin>) -> Option<Task> {
    let of = if name == config::DEFAULT_POOL { String::new() } else { format!(" of {name}") };
    let task = Task::checks(&config.health, &config.upstream, pool);
    match &task {
        Some(_) => {
            let interval = humantime::format_duration(*config.health.interval);
            info!("Health checker{of} started (checking every {interval})");
        }
        None => {
            // What earlier checks have taken out nobody would ever put in.
            let now = Instant::now().into_std();
            let out = pool.backends().into_iter().filter(|backend| !backend.is_eligible());
            out.for_each(|backend| _ = backend.mark_healthy("not checked", now));
            info!("No health checks{of}");
        }
    }
    task
}
