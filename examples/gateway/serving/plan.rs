//! How a configuration becomes pools at work, and how one follows another.

use super::{checks::Task, limit::Limit, responses::Responses, stack::Stack};
use crate::{
    config::{
        self, Config,
        backend::{Backend, members},
        pool::FailOpen,
        route::Route,
    },
    events::Journal,
};
use http::uri::Authority;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::AtomicU64},
};
use tokio::time::Instant;
use tower_balancer::{
    BackendPool,
    backend::{BackendId, Origin},
    http::RetryBudget,
    pool::{self, InvalidMember, Member},
    proxy::Builder,
    strategy::AnyStrategy,
};
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
    /// What happens, under this plan and those before and after.
    pub journal: Journal,
}

/// A pool at work.
#[derive(Debug)]
pub struct Pool {
    pub name: Arc<str>,
    pub strategy: Arc<str>,
    pub backends: BackendPool<Origin>,
    /// The same for as long as the stack is.
    pub proxy: Arc<Builder<AnyStrategy>>,
    /// What the proxies share of the decision, to explain it.
    pub picks: AnyStrategy,
    pub stack: Stack,
    pub limit: Option<Arc<Limit>>,
    /// What its clients were answered.
    pub responses: Arc<Responses>,
    /// What its retries and hedges are paid from; the same for as long as the stack is.
    pub budget: RetryBudget,
    pub config: config::pool::Pool,
    checks: Arc<Option<Task>>,
    adapting: Arc<Option<Task>>,
    telling: Arc<Task>,
}

impl Plan {
    /// The plan for `config`; what is the same in `before` goes on as it is. It cannot fail: `config` has been validated.
    ///
    /// Must be called on a runtime, on which the health checks run.
    pub fn new(config: Config, before: Option<&Self>) -> Self {
        let journal = before.map_or_else(Journal::new, |plan| plan.journal.clone());
        let at_work = |name: &String| before.and_then(|plan| plan.pools.iter().find(|pool| *pool.name == **name));
        let pools = config.pools.iter().map(|(name, pool)| {
            let before = at_work(name).map(|pool| &**pool);
            Arc::new(Pool::new(name, &config, pool, before, &journal))
        });
        let pools: Vec<_> = pools.collect();
        let place = |route: Route| {
            let place = pools.iter().position(|pool| *pool.name == *route.pool.as_str());
            place.map(|place| (route, place))
        };
        let routes = config.routes().into_iter().filter_map(place).collect();
        let unrouted = before.map(|plan| Arc::clone(&plan.unrouted)).unwrap_or_default();
        Self { config, pools, routes, unrouted, journal }
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
    fn new(name: &str, config: &Config, pool: &config::pool::Pool, before: Option<&Self>, journal: &Journal) -> Self {
        let empty = || BackendPool::from_members([]).expect("no backend is there twice");
        let backends = before.map_or_else(empty, |before| before.backends.clone());
        let telling = match before {
            Some(before) => Arc::clone(&before.telling),
            None => Arc::new(Task::tell(name, &backends, journal)),
        };
        settle(&backends, pool, before.map(|before| &before.config));
        let stack = Stack::of(config, pool);
        let (proxy, picks, budget) = match before.filter(|before| before.stack == stack) {
            Some(before) => (Arc::clone(&before.proxy), before.picks.clone(), before.budget.clone()),
            None => {
                let (picks, budget) = (stack.strategy(), stack.budget());
                (Arc::new(stack.proxy(&backends, picks.clone(), budget.clone())), picks, budget)
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
        let (name, config) = (name.into(), pool.clone());
        Self {
            name,
            strategy,
            backends,
            proxy,
            picks,
            stack,
            limit,
            responses,
            budget,
            config,
            checks,
            adapting,
            telling,
        }
    }

    /// Puts in one more backend, under the limits of those that are there.
    ///
    /// # Errors
    ///
    /// Where it is there.
    pub fn add(&self, member: Member<Origin>) -> Result<(), InvalidMember> {
        let id = member.id().clone();
        self.backends.insert(member)?;
        if self.config.limits.adaptive.is_none() {
            self.backends.set_limit(id.as_str(), limit(&self.config));
        }
        Ok(())
    }
}

fn limit(config: &config::pool::Pool) -> Option<u32> {
    config.limits.max_in_flight_per_backend.map(|limit| limit.get())
}

/// Makes `pool` what `config` says, where that is not what it said `before`: what an operator has done since is left alone
/// until the file says something else about the same thing.
fn settle(pool: &BackendPool<Origin>, config: &config::pool::Pool, before: Option<&config::pool::Pool>) {
    let were = before.map_or(&[][..], |before| &before.backends);
    let (news, gone) = (news(&config.backends, were), gone(&config.backends, were));
    if !news.is_empty() || !gone.is_empty() {
        // No backend is there twice: that has been validated.
        _ = pool.update(members(&news), gone);
    }
    if before.is_none_or(|before| before.outlier != config.outlier) {
        pool.set_ejection(config.outlier.ejection());
    }
    pool.set_fail_open(match config.fail_open() {
        FailOpen::Reject | FailOpen::Wait => pool::FailOpen::Reject,
        FailOpen::AllBackends => pool::FailOpen::AllBackends,
        FailOpen::LeastBad => pool::FailOpen::LeastBad,
    });
    let limit = limit(config);
    let changed = before.is_none_or(|before| before.limits != config.limits || before.backends != config.backends);
    if changed && config.limits.adaptive.is_none() {
        pool.backends().iter().for_each(|backend| backend.set_limit(limit));
    }
}

/// The entries that are new, or say something new.
fn news(backends: &[Backend], before: &[Backend]) -> Vec<Backend> {
    let before: HashMap<_, _> = before.iter().map(|backend| (backend.url.id(), backend)).collect();
    backends.iter().filter(|backend| before.get(backend.url.id()) != Some(backend)).cloned().collect()
}

/// Those that are not listed any more.
fn gone(backends: &[Backend], before: &[Backend]) -> Vec<BackendId> {
    let listed: HashSet<_> = backends.iter().map(|backend| backend.url.id()).collect();
    before.iter().map(|backend| backend.url.id()).filter(|id| !listed.contains(id)).cloned().collect()
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
