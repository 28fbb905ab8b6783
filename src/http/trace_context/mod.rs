//! Traces: which span of which trace a request is in, told on, and recorded.
//!
//! Where a request went through several services, somebody wants to see all of it in one picture. Each service says to the
//! next in which trace and span the request is, by the headers `traceparent` and `tracestate`
//! ([W3C Trace Context](https://www.w3.org/TR/trace-context-1/), level 1), and records its own spans. Here these are one for
//! the request, by [`Trace`], and one below it for each attempt, by [`TraceAttempt`]: a retry or a hedge is a span of its own,
//! and each backend is told its own.
//!
//! What a client says is continued; where it says nothing, or something malformed, a trace begins. Whether it is recorded is
//! the word of whoever began it; of those that begin here a [share](TraceLayer::sample) is. Both are told on in any case.
//!
//! The spans are `tracing` spans of the target [`TRACE_TARGET`], level INFO, made only where the trace is recorded and somebody
//! listens. Their fields have the names of
//! [OpenTelemetry's conventions](https://opentelemetry.io/docs/specs/semconv/http/http-spans/):
//!
//! | span | fields |
//! |---|---|
//! | `request` | `trace_id`, `span_id`, `parent_span_id`, `otel.name`, `otel.kind` = `server`, `http.request.method`, `url.path`, `client.address`, `pool`; then `http.response.status_code`, `error.type` |
//! | `attempt` | `trace_id`, `span_id`, `parent_span_id`, `otel.name`, `otel.kind` = `client`, `http.request.method`, `url.path`, `server.address`, `server.port`, `backend`, `pool`, `http.request.resend_count`; then `http.response.status_code`, `outcome`, `error.type` |
//!
//! The later ones are there with the head of the answer, which ends the span; a request that is given up has none of them.
//! `error.type` is there where it failed: the status, or the word of an [`OwnAnswer`](super::OwnAnswer) or of an
//! [`Outcome`](crate::backend::Outcome).
//!
//! ```
//! use tower_balancer::{BackendPool, ReverseProxy, http::TraceLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let proxy: ReverseProxy<_, String> =
//!     ReverseProxy::builder(&pool).trace(TraceLayer::new().pool("web").sample(0.01)).build();
//! # let _ = proxy;
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! Without a [`TraceLayer`] both headers pass as they are, malformed or not: who takes no part in a trace does not touch it. A
//! client may want each of its requests recorded. The query is left out of the spans: it is where secrets travel. What a body
//! takes after the head, and a status of gRPC that comes in trailers, are not in them.

mod attempt;
mod context;
mod layer;
mod service;
mod state;

pub use self::{
    attempt::{AttemptFuture, TraceAttempt},
    context::TraceContext,
    layer::{TraceAttemptLayer, TraceLayer},
    service::{ResponseFuture, Trace},
};

use self::layer::Rule;
use http::{HeaderName, HeaderValue};

/// The `tracing` target of the spans.
pub const TRACE_TARGET: &str = "tower_balancer::trace";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What the attempts of a request are told, in its extensions.
#[derive(Clone, Debug)]
struct Traced {
    context: TraceContext,
    state: Option<HeaderValue>,
}

/// An id as the specifications write it; nothing where there is none.
fn span_id(id: Option<u64>) -> String {
    id.map(|id| format!("{id:016x}")).unwrap_or_default()
}
