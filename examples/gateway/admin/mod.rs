//! The operator's server: what is, why, and how to change it.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /` | a page that shows all of this, live |
//! | `GET /healthz` | 200: this process is up |
//! | `GET /readyz` | 200 while some pool could serve and the gateway is not stopping, else 503 |
//! | `GET /pools` | the pools, their backends and the state of each |
//! | `GET /pools/{pool}/explain?key=…` | who would be picked, why, and who could not be |
//! | `POST /pools/{pool}/backends/{id}/drain?deadline=30s&force=true` | no new requests; those that it has go on |
//! | `POST /pools/{pool}/backends/{id}/disable?force=true` | out, as broken or wrong |
//! | `POST /pools/{pool}/backends/{id}/enable` | takes back either, and ends an ejection |
//! | `PUT /pools/{pool}/backends/{id}/weight` | `{"weight": 2}` |
//! | `POST /pools/{pool}/backends` | `{"url": "http://…", "weight": 1, "zone": …, "priority": …}`: one more |
//! | `DELETE /pools/{pool}/backends/{id}?deadline=30s&force=true` | drained, and then gone |
//! | `GET /events` | what happens, as server-sent events |
//! | `GET /metrics` | numbers for Prometheus: see [`Metrics`] |
//! | `GET /openapi.json` | all of this for programs |
//!
//! An id in a path is a backend's URL, percent-encoded: `http%3A%2F%2F10.0.0.1%3A8080`. An error is `{"error": "…"}`.
//!
//! # What lasts
//!
//! What is changed here holds until somebody says something else about the same thing, here or in the file, or until the
//! process ends. A reload takes up what is new in the file: an entry that is as it was changes nothing, so a backend stays
//! drained or disabled, keeps the weight that it was given, and stays away where it was removed; one that is being removed
//! while its entry changes stays, and is as it was before when its drain has ended. A backend that was added
//! here stays, unless the file had it and has it no longer. Where a source says who is in a pool (`discover`), nobody is added
//! or removed here, and a weight holds until the source has news.
//!
//! # Who may
//!
//! Without a token everyone on this machine, on loopback only. With one, who shows it, everywhere but at the page itself,
//! `/healthz` and `/readyz`. Pages of other origins may change nothing, and nobody may call us by a strange name: see
//! [`access`]. Each change is told as an event of the `tracing` target [`AUDIT_TARGET`], and in `/events`.

mod access;
mod audit;
mod change;
mod clock;
mod describe;
mod drains;
mod explain;
mod input;
mod page;
mod problem;

pub use self::audit::AUDIT_TARGET;

use self::{clock::Clock, drains::Drains, problem::Problem};
use crate::{
    metrics::Metrics,
    serving::{Connections, Plan, Pool, limits::Limits, turns::Turns},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use futures_util::{StreamExt, stream};
use hyper_util::service::TowerToHyperService;
use std::{convert::Infallible, future::pending, io, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch};
use tracing::{debug, warn};

/// What all requests share.
#[derive(Clone)]
struct Admin {
    plans: watch::Receiver<Arc<Plan>>,
    stopping: watch::Receiver<bool>,
    access: Arc<access::Rules>,
    drains: Drains,
    clock: Clock,
}

impl Admin {
    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plans.borrow())
    }

    fn pool(&self, name: &str) -> Result<Arc<Pool>, Problem> {
        let plan = self.plan();
        let found = plan.pools.iter().find(|pool| *pool.name == *name);
        let names = || plan.pools.iter().map(|pool| &*pool.name).collect::<Vec<_>>().join(", ");
        found
            .cloned()
            .ok_or_else(|| Problem::not_found(format!("there is no pool {name:?}: expected one of {}", names())))
    }

    fn is_ready(&self) -> bool {
        !*self.stopping.borrow() && self.plans.borrow().is_ready()
    }
}

/// More than any of the bodies here needs.
const LONGEST_BODY: usize = 16 * 1024;

/// What operators and their machines may take: they are few, and whoever reads nothing of what is sent to him is let go.
fn limits() -> Limits {
    Limits { connections: 256, stall: Duration::from_secs(20), head_time: Duration::from_secs(10), ..Limits::default() }
}

/// Serves whoever asks, for as long as it is polled.
pub async fn serve(
    listener: TcpListener,
    plans: watch::Receiver<Arc<Plan>>,
    stopping: watch::Receiver<bool>,
    metrics: Metrics,
) -> io::Result<()> {
    let access = Arc::new(access::Rules::new(&plans.borrow().config.server));
    let drains = Drains::new(plans.borrow().journal.clone());
    let router = router(Admin { plans, stopping, access, drains, clock: Clock::new() }, metrics);
    let (service, connections) = (TowerToHyperService::new(router), Connections::new(limits(), None));
    let (turns, taken) = Turns::new();
    tokio::spawn(taken);
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let Some(client) = connections.admit(stream, &turns) else { continue };
                let connection = connections.serve(client, address, service.clone(), pending());
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        debug!("connection of operator {address}: {error}");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: connections that end free some.
                warn!("cannot accept operators: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn router(admin: Admin, metrics: Metrics) -> Router {
    Router::new()
        .route("/pools", get(describe::pools))
        .route("/pools/{pool}/explain", get(explain::explain))
        .route("/pools/{pool}/backends", post(change::add))
        .route("/pools/{pool}/backends/{id}", delete(change::remove))
        .route("/pools/{pool}/backends/{id}/drain", post(change::drain))
        .route("/pools/{pool}/backends/{id}/disable", post(change::disable))
        .route("/pools/{pool}/backends/{id}/enable", post(change::enable))
        .route("/pools/{pool}/backends/{id}/weight", put(change::weigh))
        .route("/events", get(events))
        .route("/openapi.json", get(|| async { ([JSON], include_str!("openapi.json")) }))
        .merge(metrics.router().with_state(()))
        .fallback(|| async { Problem::not_found("there is nothing here: /openapi.json says what there is") })
        .method_not_allowed_fallback(wrong_method)
        // What is above needs the token; what is below says nothing, or only yes or no.
        .layer(from_fn_with_state(admin.clone(), access::token))
        .route("/", get(page::page))
        .layer(from_fn_with_state(admin.clone(), access::same_site))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(map_response(guarded))
        .with_state(admin)
}

const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method: /openapi.json says which")
}

async fn ready(State(admin): State<Admin>) -> StatusCode {
    if admin.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// What happens, from now on or after the id of the last one that was seen.
async fn events(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let reader = admin.plan().journal.read(last);
    let frames = stream::unfold(reader, |mut reader| async {
        let frame = reader.next().await;
        Some((Ok::<_, Infallible>(frame), reader))
    });
    // The first bytes at once: who asks knows that he is heard.
    let hello = stream::once(async { Ok("retry: 1000\n\n".into()) });
    let body = Body::from_stream(hello.chain(frames));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// No browser keeps an answer, takes it for something else, or shows it within another page.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

type Answer<T> = Result<Json<T>, Problem>;
