//! One worker's way from a request to the proxy of its pool.

use super::{
    answering::Answering,
    body::Body,
    plan::{Plan, Pool},
    pressing::Upload,
    responses::Part,
};
use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::service::Service;
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;
use tower_balancer::{
    ReverseProxy,
    proxy::{Builder, ProxyClient},
    strategy::AnyStrategy,
};
use tracing::debug;

/// The proxies of a worker, by the plan of the moment. A clone is the same.
#[derive(Clone)]
pub struct Router {
    table: Arc<ArcSwap<Table>>,
}

struct Table {
    plan: Arc<Plan>,
    /// In the order of the plan's pools.
    proxies: Vec<Proxy>,
}

/// A pool's proxy, with connections to the backends that are this worker's own.
struct Proxy {
    made_by: Arc<Builder<AnyStrategy>>,
    client: ProxyClient<Upload>,
    service: ReverseProxy<AnyStrategy, Upload>,
    responses: Arc<Part>,
}

impl Router {
    pub fn new(plan: Arc<Plan>) -> Self {
        Self { table: Arc::new(ArcSwap::from_pointee(Table::new(plan, None))) }
    }

    /// Takes up each new plan, for the requests that come from then on.
    pub async fn follow(self, mut plans: watch::Receiver<Arc<Plan>>) {
        while plans.changed().await.is_ok() {
            let plan = Arc::clone(&plans.borrow_and_update());
            let before = self.table.load_full();
            self.table.store(Arc::new(Table::new(plan, Some(&before))));
        }
    }

    /// How long what is in flight has at a stop.
    pub fn shutdown_grace(&self) -> Duration {
        *self.table.load().plan.config.server.shutdown_grace
    }
}

/// Has a request answered by its pool.
impl Service<Request<Upload>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Upload>) -> Answering {
        let table = self.table.load();
        let Some(place) = table.plan.route(&request) else {
            table.plan.unrouted.fetch_add(1, Ordering::Relaxed);
            debug!("no route for {} {}", request.method(), request.uri().path());
            return Answering::told(Body::not_found());
        };
        let Proxy { service, responses, .. } = &table.proxies[place];
        let limit = table.plan.pools[place].limit.as_ref();
        Answering::by(service.clone(), limit, request, responses)
    }
}

impl Table {
    fn new(plan: Arc<Plan>, before: Option<&Self>) -> Self {
        let proxy = |pool: &Arc<Pool>| {
            let same = |(at_work, _): &(&Arc<Pool>, &Proxy)| at_work.name == pool.name;
            let before = before.and_then(|table| table.plan.pools.iter().zip(&table.proxies).find(same));
            Proxy::new(pool, before)
        };
        let proxies = plan.pools.iter().map(proxy).collect();
        Self { plan, proxies }
    }
}

impl Proxy {
    fn new(pool: &Pool, before: Option<(&Arc<Pool>, &Self)>) -> Self {
        let made_by = Arc::clone(&pool.proxy);
        // One of the same name may have gone and come back between two looks at the plan: its counts are others.
        let counted = before.filter(|(before, _)| Arc::ptr_eq(&before.responses, &pool.responses));
        let responses = counted.map_or_else(|| pool.responses.part(), |(_, proxy)| Arc::clone(&proxy.responses));
        let client = match before {
            Some((_, proxy)) if Arc::ptr_eq(&proxy.made_by, &made_by) => {
                let (client, service) = (proxy.client.clone(), proxy.service.clone());
                return Self { made_by, client, service, responses };
            }
            Some((before, proxy)) if before.stack.upstream.connects_as(&pool.stack.upstream) => proxy.client.clone(),
            _ => pool.stack.upstream.client().build(),
        };
        let service = Builder::clone(&made_by).build_over(client.clone());
        Self { made_by, client, service, responses }
    }
}
