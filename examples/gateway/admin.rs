//! The operator's server.
//!
//! `GET /healthz`: this process is up. `GET /readyz`: 200 while some backend is healthy and the gateway is not stopping,
//! else 503. `GET /pools`: the backends and their state as JSON.

use axum::{Json, Router, http::StatusCode, routing::get};
use serde_json::{Value, json};
use std::{io, sync::Arc};
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tower_balancer::{
    BackendPool,
    backend::{Backend, Origin},
};

pub async fn serve(
    listener: TcpListener,
    pool: BackendPool<Origin>,
    strategy: Arc<str>,
    stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let ready = {
        let pool = pool.clone();
        move || async move {
            let ready = !*stopping.borrow() && !pool.healthy().is_empty();
            if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/pools", get(move || async move { Json(pools(&pool, &strategy)) }));
    axum::serve(listener, router).await
}

fn pools(pool: &BackendPool<Origin>, strategy: &str) -> Value {
    let backends: Vec<_> = pool.backends().iter().map(|backend| describe(backend)).collect();
    json!({ "pools": [{
        "name": "default",
        "strategy": strategy,
        "available": pool.healthy().len(),
        "backends": backends,
    }]})
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
    })
}
