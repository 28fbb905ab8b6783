//! `GET /metrics`: all numbers of the gateway and its pools, as text for Prometheus.
//!
//! Those of the pools are the library's: see `tower_balancer::metrics`. Beside them:
//!
//! | name | type | unit | labels | meaning |
//! |---|---|---|---|---|
//! | `gateway_build_info` | gauge | | `version` | 1, with the version of the gateway |
//! | `gateway_pool_info` | gauge | | `pool`, `strategy` | 1, with the strategy of the pool |
//! | `gateway_responses_total` | counter | | `pool`, `code` | Requests that clients were answered, by the status, when its head was there |
//! | `gateway_own_responses_total` | counter | | `pool`, `reason` | Those of them that the gateway answered itself because no backend did, by the reason |
//! | `gateway_response_seconds` | histogram | seconds | `pool` | Time from the head of a client's request to that of its answer, with all waiting and all attempts |
//! | `gateway_waiting` | gauge | | `pool` | Requests that wait for a place under max_in_flight |
//! | `gateway_unrouted_total` | counter | | | Requests that no route was for, answered 404 |
//! | `gateway_connections` | gauge | | | Connections of clients that are open |
//! | `gateway_connections_total` | counter | | | Connections of clients that there was a place for |
//! | `gateway_limits_total` | counter | | `limit` | Times that a client met a limit, by the limit |
//! | `gateway_malformed_total` | counter | | | Connections that were closed on a client that spoke no HTTP |
//! | `gateway_tls_failures_total` | counter | | | Handshakes of TLS with clients that came to nothing |
//! | `gateway_log_lines_dropped_total` | counter | | | Lines of the log that were dropped because whoever reads it did not keep up |
//! | `gateway_reloads_total` | counter | | `result` | Times that the configuration was read again, by whether it was taken up or refused |
//! | `gateway_config_last_reload_successful` | gauge | | | 1 unless the configuration was refused when it was last read again, else 0 |
//! | `gateway_spans_total` | counter | | `result` | Spans of traces, by whether the collector has taken them or they were dropped |
//! | `process_start_time_seconds` | gauge | seconds | | When the process started, in seconds since 1970 |
//! | `process_cpu_seconds_total` | counter | seconds | | Time of the processors that the process has used |
//! | `process_resident_memory_bytes` | gauge | bytes | | Memory of the process that is in RAM |
//! | `process_open_fds` | gauge | | | File descriptors that are open |
//! | `process_max_fds` | gauge | | | File descriptors that may be open |
//!
//! The values of `reason` are the words of `tower_balancer::http::OwnAnswer`; those of `limit` stand in `serving/fired.rs`; those
//! of `result` are `taken_up` and `refused`, `sent` and `dropped`. What workers count by themselves is added up here.
//!
//! `stall` is for clients that take or send nothing, or less than `min_rate`; `flood` for those that go on with resets or frames.
//! The server of HTTP/2 refuses streams above `max_streams` and header lists above `max_header_bytes` by itself, and tells
//! nobody: these two are counted over HTTP/1.1 only, or not at all.

mod families;
mod process;
mod text;

use self::text::Text;
use crate::{
    lifecycle::reload::Reloads,
    log::Lost,
    otlp,
    serving::{Connections, Plan, fired::Limit},
};
use axum::{Router, http::header, routing::get};
use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};
use tokio::{sync::watch, time::Instant};
use tower_balancer::{
    http::OwnAnswer,
    metrics::{Observed, Sink},
};

/// Where the numbers are.
#[derive(Clone)]
pub struct Metrics {
    pub watched: Watched,
    pub plans: watch::Receiver<Arc<Plan>>,
    pub connections: Arc<Connections>,
    pub reloads: Arc<Reloads>,
}

/// What is there before anything is served.
#[derive(Clone)]
pub struct Watched {
    pub started: SystemTime,
    pub lost_lines: Lost,
    pub spans: Arc<otlp::Counts>,
}

impl Metrics {
    pub fn router(self) -> Router {
        const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
        let answer = move || async move { ([(header::CONTENT_TYPE, TEXT)], self.text()) };
        Router::new().route("/metrics", get(answer))
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        text.sample(families::BUILD, &[env!("CARGO_PKG_VERSION")], 1);
        let plan = Arc::clone(&self.plans.borrow());
        let now = Instant::now().into_std();
        for pool in &plan.pools {
            Observed::new(Arc::clone(&pool.name), &pool.backends).budget(&pool.budget).tell(now, &mut text);
            text.sample(families::POOL, &[&pool.name, &pool.strategy], 1);
            for (status, count) in pool.responses.statuses() {
                text.counter(families::RESPONSES, &[&pool.name, &status.to_string()], count);
            }
            for reason in OwnAnswer::ALL {
                text.counter(families::OWN, &[&pool.name, reason.as_str()], pool.responses.own(reason));
            }
            text.histogram(families::TIMES, &[&pool.name], &pool.responses.times());
            text.sample(families::WAITING, &[&pool.name], pool.limit.as_ref().map_or(0, |limit| limit.waiting()));
        }
        text.counter(families::UNROUTED, &[], plan.unrouted.load(Ordering::Relaxed));
        text.sample(families::CONNECTIONS, &[], self.connections.open());
        text.counter(families::ACCEPTED, &[], self.connections.accepted());
        let fired = self.connections.fired();
        for limit in Limit::ALL {
            text.counter(families::LIMITS, &[limit.as_str()], fired.count(limit));
        }
        text.counter(families::MALFORMED, &[], fired.malformed());
        text.counter(families::HANDSHAKES, &[], fired.failed_handshakes());
        text.sample(families::LOST_LINES, &[], self.watched.lost_lines.lines());
        text.counter(families::RELOADS, &["taken_up"], self.reloads.taken_up.load(Ordering::Relaxed));
        text.counter(families::RELOADS, &["refused"], self.reloads.refused.load(Ordering::Relaxed));
        text.sample(families::LAST_RELOAD, &[], u8::from(!self.reloads.is_refused.load(Ordering::Relaxed)));
        let otlp::Counts { sent, dropped } = &*self.watched.spans;
        text.counter(families::SPANS, &["sent"], sent.load(Ordering::Relaxed));
        text.counter(families::SPANS, &["dropped"], dropped.load(Ordering::Relaxed));
        process::tell(self.watched.started, &mut text);
        text.to_string()
    }
}
