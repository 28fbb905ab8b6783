//! Takes in the spans that the library makes.

use super::Counts;
use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};
use tokio::sync::mpsc;
use tower_balancer::http::trace_context::TRACE_TARGET;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

/// One span, with what its fields said.
#[derive(Debug)]
pub struct Span {
    pub started: SystemTime,
    /// With the last thing that was found out about it. Others below it may keep it open for longer.
    pub ended: Option<SystemTime>,
    pub trace_id: String,
    pub span_id: String,
    pub parent_span_id: String,
    pub name: String,
    pub is_client: bool,
    pub failed: bool,
    pub attributes: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// A layer of the subscriber, which queues each span of a request when it ends.
pub struct Spans {
    queue: mpsc::Sender<Span>,
    counts: Arc<Counts>,
}

impl Spans {
    pub(super) fn new(queue: mpsc::Sender<Span>, counts: Arc<Counts>) -> Self {
        Self { queue, counts }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let (TRACE_TARGET, Some(open)) = (attributes.metadata().target(), context.span(id)) else { return };
        let mut span = Span::begin();
        attributes.record(&mut span);
        open.extensions_mut().insert(span);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let Some(open) = context.span(id) else { return };
        if let Some(span) = open.extensions_mut().get_mut::<Span>() {
            record.record(span);
            span.ended = Some(SystemTime::now());
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(open) = context.span(&id) else { return };
        let Some(mut span) = open.extensions_mut().remove::<Span>() else { return };
        // One that was given up ends here.
        span.ended.get_or_insert_with(SystemTime::now);
        if self.queue.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Span {
    fn begin() -> Self {
        Self {
            started: SystemTime::now(),
            ended: None,
            trace_id: String::new(),
            span_id: String::new(),
            parent_span_id: String::new(),
            name: String::new(),
            is_client: false,
            failed: false,
            attributes: Vec::with_capacity(12),
        }
    }

    fn number(&mut self, field: &Field, value: i64) {
        self.attributes.push((field.name(), Value::Number(value)));
    }
}

/// The longest text that is kept: clients choose how long a path is, and the queue has room for thousands of spans.
const LONGEST: usize = 1024;

impl Visit for Span {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = match value.len() {
            ..=LONGEST => value,
            _ => &value[..(0..=LONGEST).rfind(|end| value.is_char_boundary(*end)).unwrap_or_default()],
        };
        let slot = match field.name() {
            "trace_id" => &mut self.trace_id,
            "span_id" => &mut self.span_id,
            "parent_span_id" => &mut self.parent_span_id,
            "otel.name" => &mut self.name,
            "otel.kind" => return self.is_client = value == "client",
            name => {
                self.failed |= name == "error.type";
                self.attributes.push((name, Value::Text(value.to_owned())));
                return;
            }
        };
        value.clone_into(slot);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value as i64);
    }
}
