//! Spans to a collector, by OTLP over HTTP as JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! ```text
//!  the library's spans ── spans.rs ──▶ a queue of 4096 ── mod.rs ──▶ POST /v1/traces, up to 512 at once
//!                         a Layer      what does not fit            json.rs
//!                                      is dropped, and counted
//! ```
//!
//! No request waits for the collector: a span that ends is put into the queue or dropped. Where a collector is slow, away, or
//! says no, what it was to have is dropped as well. Nothing is sent twice.

mod json;
mod spans;

pub use self::spans::Spans;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Uri, header};
use http_body_util::Full;
use spans::Span;
use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tower::ServiceExt;
use tower_balancer::http::{Client, ClientConfig};

/// Spans that may wait to be sent: some megabytes.
const QUEUE: usize = 4096;

/// Spans in one message.
const BATCH: usize = 512;

/// How long the first of a message waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of the spans.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub dropped: AtomicU64,
}

/// Sends spans to a collector, for as long as it is polled.
pub struct Exporter {
    traces: Uri,
    queue: mpsc::Receiver<Span>,
    counts: Arc<Counts>,
}

/// What takes the spans in, and what sends them to the collector at `endpoint`.
pub fn export_to(endpoint: &Uri, counts: Arc<Counts>) -> (Spans, Exporter) {
    let base = endpoint.to_string();
    // Its parts are those of a URI.
    let traces = format!("{}/v1/traces", base.trim_end_matches('/')).parse().unwrap_or_else(|_| endpoint.clone());
    let (send, queue) = mpsc::channel(QUEUE);
    (Spans::new(send, Arc::clone(&counts)), Exporter { traces, queue, counts })
}

impl Exporter {
    /// Sends what comes until `stop` ends, and then what is there.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let client: Client<Full<Bytes>> = ClientConfig::new().build();
        let mut stop = pin!(stop.fuse());
        while let Some(first) = self.next(stop.as_mut()).await {
            let (mut spans, until) = (vec![first], Instant::now() + LINGER);
            while spans.len() < BATCH
                && let Ok(Some(span)) = timeout_at(until, self.next(stop.as_mut())).await
            {
                spans.push(span);
            }
            let is_sent = timeout(PATIENCE, send(&client, &self.traces, &spans)).await == Ok(true);
            let count = if is_sent { &self.counts.sent } else { &self.counts.dropped };
            count.fetch_add(spans.len() as u64, Ordering::Relaxed);
        }
    }

    /// The next span; after `stop` of those that are there.
    async fn next(&mut self, stop: Pin<&mut impl Future<Output = ()>>) -> Option<Span> {
        tokio::select! {
            span = self.queue.recv() => return span,
            () = stop => self.queue.close(),
        }
        self.queue.recv().await
    }
}

/// Whether the collector has taken them.
async fn send(client: &Client<Full<Bytes>>, traces: &Uri, spans: &[Span]) -> bool {
    let body = Full::from(json::message(spans).to_string());
    let request = Request::post(traces.clone()).header(header::CONTENT_TYPE, "application/json").body(body);
    let Ok(request) = request else { return false };
    client.clone().oneshot(request).await.is_ok_and(|response| response.status().is_success())
}
