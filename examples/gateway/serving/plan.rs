//! How a configuration becomes pools at work, and how one follows another.

use super::{
    checks::{Checked, Checks, Task},
    discovery::Discovery,
    limit::Limit,
    responses::Responses,
    stack::Stack,
};
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
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};
use tower_balancer::{
    BackendPool,
    backend::{BackendId, Origin, Weight},
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
    fleet: Option<config::fleet::Fleet>,
    /// Who tells of the backends, where that is not the file.
    pub discovery: Option<Arc<Discovery>>,
    checks: Arc<Option<Checks>>,
    adapting: Arc<Option<Task>>,
    telling: Arc<Task>,
    _limiting: Option<Task>,
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

    /// Tells the other gateways that this one ends, for so long at the most.
    #[cfg(feature = "etcd")]
    pub async fn leave(&self, most: Duration) {
        let leaving = self.pools.iter().filter_map(|pool| match pool.checks.as_ref() {
            Some(Checks::Shared(share)) => Some(share.leave()),
            _ => None,
        });
        _ = timeout(most, futures_util::future::join_all(leaving)).await;
    }

    /// Whether some pool could serve, and no empty one is about to be told of its backends: a gateway that takes over from
    /// another should know whom that one knows. A source that fails keeps nobody waiting.
    pub fn is_ready(&self) -> bool {
        !self.awaited().any(|pool| pool.backends.backends().is_empty())
            && self.pools.iter().any(|pool| !pool.backends.healthy().is_empty())
    }

    /// The pools whose sources have said nothing yet.
    fn awaited(&self) -> impl Iterator<Item = &Pool> {
        let is_awaited = |pool: &&Pool| pool.discovery.as_ref().is_some_and(|discovery| discovery.is_awaited());
        self.pools.iter().map(|pool| &**pool).filter(is_awaited)
    }

    /// Waits until the sources of empty pools have said who is there; each for so long at the most, and for no answer of one
    /// that fails.
    pub async fn first_words(&self, most: Duration) {
        let waiting = async {
            while self.awaited().any(|pool| pool.backends.backends().is_empty()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // Late ones are told of in `/pools`.
        _ = timeout(most, waiting).await;
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
    /// How the checks are shared, for the operator; nothing where they are not.
    pub fn describe_fleet(&self) -> Option<serde_json::Value> {
        match self.checks.as_ref().as_ref()? {
            #[cfg(feature = "etcd")]
            Checks::Shared(share) => Some(share.describe()),
            Checks::Alone { .. } => None,
        }
    }

    /// Whether what is done to its backends here is done at other gateways as well.
    pub fn is_in_fleet(&self) -> bool {
        !matches!(&*self.checks, None | Some(Checks::Alone { .. }))
    }

    /// What is as it was `before` goes on: the backends with their counters and their health, the proxy with its
    /// connections, the checks.
    fn new(name: &str, config: &Config, pool: &config::pool::Pool, before: Option<&Self>, journal: &Journal) -> Self {
        let empty = || BackendPool::from_members([]).expect("no backend is there twice");
        let backends = before.map_or_else(empty, |before| before.backends.clone());
        let telling = match before {
            Some(before) => Arc::clone(&before.telling),
            None => Arc::new(Task::tell(name, &backends, journal)),
        };
        let discovery = discovery(config, pool, &backends, before);
        settle(&backends, pool, before.map(|before| &before.config));
        let stack = Stack::of(name, config, pool);
        let (proxy, picks, budget) = match before.filter(|before| before.stack == stack) {
            Some(before) => (Arc::clone(&before.proxy), before.picks.clone(), before.budget.clone()),
            None => {
                let (picks, budget) = (stack.strategy(), stack.budget());
                (Arc::new(stack.proxy(&backends, picks.clone(), budget.clone())), picks, budget)
            }
        };
        let asks_as = |before: &&Self| {
            let asked = |pool: &config::pool::Pool| {
                let upstream = &pool.upstream;
                (pool.health.clone(), *upstream.protocol, upstream.tls.clone())
            };
            asked(&before.config) == asked(pool) && before.fleet == config.fleet
        };
        let checks = match before.filter(asks_as) {
            Some(before) => Arc::clone(&before.checks),
            None => Arc::new(checks(&Checked { name, pool: &backends, config: pool, fleet: config.fleet.as_ref() })),
        };
        let adaptive = &pool.limits.adaptive;
        let adapting = match before.filter(|before| before.config.limits.adaptive == *adaptive) {
            Some(before) => Arc::clone(&before.adapting),
            None => Arc::new(adaptive.as_ref().map(|adaptive| Task::limits(adaptive, &backends))),
        };
        // Who is brought by a source joins at any time.
        let each = pool.limits.max_in_flight_per_backend.filter(|_| discovery.is_some() && adaptive.is_none());
        let limiting = each.map(|limit| Task::limit_each(limit.get(), &backends));
        let limit = match before.filter(|before| before.config.limits == pool.limits) {
            Some(before) => before.limit.clone(),
            None => Limit::of(&pool.limits),
        };
        let strategy = pool.strategy.known_as().into();
        let responses = before.map(|before| Arc::clone(&before.responses)).unwrap_or_default();
        let (name, fleet, config) = (name.into(), config.fleet.clone(), pool.clone());
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
            fleet,
            discovery,
            checks,
            adapting,
            telling,
            _limiting: limiting,
        }
    }

    /// Changes the share of a backend in the traffic, at the other gateways as well where there are some.
    pub fn set_weight(&self, id: &str, weight: Weight) {
        match &*self.checks {
            #[cfg(feature = "etcd")]
            Some(Checks::Shared(share)) => share.set_weight(id, weight),
            _ => _ = self.backends.set_weight(id, weight),
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

/// Who tells of the backends of `pool`: the one `before` where that is the same, or one that goes on from it. Until it has
/// spoken there are the backends of the file, those it named before among them: a pool is never emptied to be filled again.
fn discovery(
    config: &Config,
    pool: &config::pool::Pool,
    backends: &BackendPool<Origin>,
    before: Option<&Pool>,
) -> Option<Arc<Discovery>> {
    let at_work = before.and_then(|before| before.discovery.as_ref());
    let Some(discover) = &pool.discover else {
        // From now on the file alone says who is there.
        at_work.inspect(|discovery| discovery.stop());
        return None;
    };
    let is_same = before.is_some_and(|before| {
        before.config.discover.as_ref() == Some(discover) && before.config.upstream.scheme() == pool.upstream.scheme()
    });
    if let Some(at_work) = at_work.filter(|_| is_same)
        && (at_work.has_spoken() || before.is_some_and(|before| before.config.backends == pool.backends))
    {
        return Some(Arc::clone(at_work));
    }
    let mut first = members(&pool.backends);
    // Whom another source has brought, that source's successor knows.
    let is_unknown = |at_work: &Arc<Discovery>| first.is_empty() && !at_work.has_spoken();
    if let Some(before) = before.filter(|before| before.discovery.as_ref().is_none_or(is_unknown)) {
        let is_new = |member: &Member<Origin>| !first.iter().any(|other| other.id() == member.id());
        let old: Vec<_> = members(&before.config.backends).into_iter().filter(is_new).collect();
        first.extend(old);
    }
    if !at_work.is_some_and(|at_work| at_work.has_spoken()) {
        // Before the first request, not when the source is first asked. No backend is there twice.
        _ = backends.update(first.clone(), []);
    }
    let at_work = at_work.map(|at_work| &**at_work);
    Some(Arc::new(Discovery::begin(discover, &pool.upstream, &config.server, first, backends, at_work)))
}

/// Makes `pool` what `config` says, where that is not what it said `before`: what an operator has done since is left alone
/// until the file says something else about the same thing.
fn settle(pool: &BackendPool<Origin>, config: &config::pool::Pool, before: Option<&config::pool::Pool>) {
    // Where there is a source, it says who is there.
    if config.discover.is_none() {
        list(pool, config, before);
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

/// Puts in and takes out whom the file lists now, and did not list `before`. No backend is there twice: that has been validated.
fn list(pool: &BackendPool<Origin>, config: &config::pool::Pool, before: Option<&config::pool::Pool>) {
    if before.is_some_and(|before| before.discover.is_some()) {
        // Whoever was brought by the source leaves.
        _ = pool.replace(members(&config.backends));
        return;
    }
    let were = before.map_or(&[][..], |before| &before.backends);
    let (news, gone) = (news(&config.backends, were), gone(&config.backends, were));
    if !news.is_empty() || !gone.is_empty() {
        _ = pool.update(members(&news), gone);
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
fn checks(checked: &Checked<'_>) -> Option<Checks> {
    let Checked { name, pool, config, .. } = *checked;
    let of = if name == config::DEFAULT_POOL { String::new() } else { format!(" of {name}") };
    let checks = Checks::begin(checked);
    match &checks {
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
    checks
}
