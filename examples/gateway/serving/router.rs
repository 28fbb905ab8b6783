//! One worker's way from a request to the proxy of its pool.

use super::{
    body::Body,
    plan::{Plan, Pool},
    pressing::Upload,
    responses::Part,
};
use arc_swap::ArcSwap;
use http::{Request, Response};
use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;
use tower::Service;
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

    /// Has `request` answered by its pool.
    pub async fn answer(&self, request: Request<Upload>) -> Response<Body> {
        let routed = {
            let table = self.table.load();
            let routed = table.plan.route(&request).map(|place| {
                let Proxy { service, responses, .. } = &table.proxies[place];
                (service.clone(), Arc::clone(responses), table.plan.pools[place].limit.clone())
            });
            if routed.is_none() {
                table.plan.unrouted.fetch_add(1, Ordering::Relaxed);
            }
            routed
        };
        let Some((mut proxy, responses, limit)) = routed else {
            debug!("no route for {} {}", request.method(), request.uri().path());
            return Body::not_found();
        };
        let place = match limit {
            Some(limit) => match limit.enter().await {
                Some(place) => Some(place),
                None => {
                    let response = Body::overloaded();
                    responses.count(&response);
                    return response;
                }
            },
            None => None,
        };
        let Ok(()) = poll_fn(|cx| proxy.poll_ready(cx)).await;
        let Ok(response) = proxy.call(request).await;
        responses.count(&response);
        response.map(|body| Body::of(body, place))
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
        let responses = before.map_or_else(|| pool.responses.part(), |(_, proxy)| Arc::clone(&proxy.responses));
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
