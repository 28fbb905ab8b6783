//! The operator's server.
//!
//! `GET /healthz`: this process is up. `GET /readyz`: 200 while some pool could serve and the gateway is not stopping, else
//! 503. `GET /pools`: the pools, their backends and the state of each as JSON. `GET /metrics`: see
//! [`Metrics`].

use crate::{
    metrics::Metrics,
    serving::{Plan, Pool},
};
use axum::{Json, Router, http::StatusCode, routing::get};
use serde_json::{Value, json};
use std::{io, sync::Arc};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tower_balancer::backend::Backend;

pub async fn serve(
    listener: TcpListener,
    plans: watch::Receiver<Arc<Plan>>,
    stopping: watch::Receiver<bool>,
    metrics: Metrics,
) -> io::Result<()> {
    let ready = {
        let plans = plans.clone();
        move || async move {
            let ready = !*stopping.borrow() && plans.borrow().is_ready();
            if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/pools", get(move || async move { Json(pools(&plans.borrow())) }))
        .merge(metrics.router());
    axum::serve(listener, router).await
}

fn pools(plan: &Plan) -> Value {
    let pools: Vec<_> = plan.pools.iter().map(|pool| describe_pool(pool)).collect();
    json!({ "pools": pools })
}

fn describe_pool(pool: &Pool) -> Value {
    let backends: Vec<_> = pool.backends.backends().iter().map(|backend| describe(backend)).collect();
    json!({
        "name": &*pool.name,
        "strategy": &*pool.strategy,
        "available": pool.backends.healthy().len(),
        "discover": pool.discovery.as_ref().map(|discovery| discovery.describe()),
        "fleet": pool.describe_fleet(),
        "backends": backends,
    })
}

fn describe(backend: &Backend) -> Value {
    let health = backend.health();
    let since = health.since().map(|since| Instant::now().into_std().duration_since(since).as_secs());
    let until = health.until().map(|until| until.saturating_duration_since(Instant::now().into_std()).as_secs());
    json!({
        "id": backend.id().as_str(),
        "url": backend.id().as_str(),
        "state": health.state().as_str(),
        "reason": health.cause(),
        "since_seconds": since,
        "tried_again_in_seconds": until,
        "in_flight": backend.load().in_flight(),
        "completed": backend.load().completed(),
        "weight": backend.weight(),
        "zone": backend.locality().zone.as_deref(),
        "priority": backend.locality().priority,
    })
}
