//! How a configuration becomes pools at work, and how one follows another.

use super::{checks::Task, limit::Limit, stack::Stack};
use crate::config::{self, Config, pool::FailOpen, route::Route};
use http::uri::Authority;
use std::sync::Arc;
use tokio::time::Instant;
use tower_balancer::{BackendPool, backend::Origin, pool, proxy::Builder, strategy::AnyStrategy};
use tracing::info;

/// A configuration at work. Each worker makes its own [proxies](super::router::Router) by it.
#[derive(Debug)]
pub struct Plan {
    pub config: Config,
    pub pools: Vec<Arc<Pool>>,
    /// The most specific first, each with the place of its pool.
    pub routes: Vec<(Route, usize)>,
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
    config: config::pool::Pool,
    checks: Arc<Option<Task>>,
    _limits: Arc<Option<Task>>,
}

impl Plan {
    /// The plan for `config`; what is the same in `before` goes on as it is. It cannot fail: `config` has been validated.
    ///
    /// Must be called on a runtime, on which the health checks run.
    pub fn new(config: Config, before: Option<&Self>) -> Self {
        let at_work = |name: &String| before.and_then(|plan| plan.pools.iter().find(|pool| *pool.name == **name));
        let pools = config.pools.iter().map(|(name, pool)| {
            let next = match at_work(name) {
                Some(before) => before.followed_by(&config, pool),
                None => Pool::new(name, &config, pool),
            };
            Arc::new(next)
        });
        let pools: Vec<_> = pools.collect();
        let place = |route: Route| {
            let place = pools.iter().position(|pool| *pool.name == *route.pool.as_str());
            place.map(|place| (route, place))
        };
        let routes = config.routes().into_iter().filter_map(place).collect();
        Self { config, pools, routes }
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
    fn new(name: &str, config: &Config, pool: &config::pool::Pool) -> Self {
        let backends = BackendPool::from_members([]).unwrap_or_else(|_| unreachable!("no backend is there twice"));
        let stack = Stack::of(config, pool);
        let proxy = Arc::new(stack.proxy(&backends));
        // Before anything is checked, the backends are there, and what traffic does to them is settled.
        settle(&backends, pool, None);
        let checks = Arc::new(Task::checks(&pool.health, &backends));
        tell_of_checks(name, pool);
        Self {
            name: name.into(),
            strategy: pool.strategy.known_as().into(),
            limit: Limit::of(&pool.limits),
            _limits: Arc::new(pool.limits.adaptive.as_ref().map(|adaptive| Task::limits(adaptive, &backends))),
            config: pool.clone(),
            backends,
            proxy,
            stack,
            checks,
        }
    }

    /// The same pool by another configuration: backends keep their counters and their health, and what has not changed goes
    /// on as it was.
    fn followed_by(&self, config: &Config, pool: &config::pool::Pool) -> Self {
        let before = &self.config;
        settle(&self.backends, pool, Some(before));
        let stack = Stack::of(config, pool);
        let proxy = match stack == self.stack {
            true => Arc::clone(&self.proxy),
            false => Arc::new(stack.proxy(&self.backends)),
        };
        let checks = match pool.health == before.health {
            true => Arc::clone(&self.checks),
            false => {
                tell_of_checks(&self.name, pool);
                if *pool.health.kind == config::health::Kind::Off {
                    // Nobody would ever say that they are back.
                    let now = Instant::now().into_std();
                    let out = self.backends.backends();
                    out.iter().for_each(|backend| _ = backend.mark_healthy("not checked any more", now));
                }
                Arc::new(Task::checks(&pool.health, &self.backends))
            }
        };
        let limits = match pool.limits.adaptive == before.limits.adaptive {
            true => Arc::clone(&self._limits),
            false => Arc::new(pool.limits.adaptive.as_ref().map(|adaptive| Task::limits(adaptive, &self.backends))),
        };
        let limit = if pool.limits == before.limits { self.limit.clone() } else { Limit::of(&pool.limits) };
        Self {
            name: Arc::clone(&self.name),
            strategy: pool.strategy.known_as().into(),
            backends: self.backends.clone(),
            proxy,
            stack,
            limit,
            config: pool.clone(),
            checks,
            _limits: limits,
        }
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
    let found_out = |limits: &config::limits::Limits| limits.adaptive.is_some();
    let changed = before.is_none_or(|before| before.limits != config.limits || before.backends != config.backends);
    if changed && !found_out(&config.limits) {
        pool.backends().iter().for_each(|backend| backend.set_limit(limit));
    }
}

fn tell_of_checks(name: &str, pool: &config::pool::Pool) {
    let of = if name == config::DEFAULT_POOL { String::new() } else { format!(" of {name}") };
    match *pool.health.kind {
        config::health::Kind::Off => info!("No health checks{of}"),
        _ => {
            let interval = humantime::format_duration(*pool.health.interval);
            info!("Health checker{of} started (checking every {interval})");
        }
    }
}
