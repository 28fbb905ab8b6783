//! Events on standard output: as lines for people, or as JSON.

mod backlog;

pub use self::backlog::Lost;

use self::backlog::Backlog;
use crate::{admin::AUDIT_TARGET, config::server::LogFormat, otlp::Spans};
use std::{
    env,
    fmt::{self, Write as _},
};
use tower_balancer::{
    backend::HEALTH_TARGET,
    http::{ACCESS_TARGET, RESPOND_TARGET, trace_context::TRACE_TARGET},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::{
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Starts the log. Lines are written by a thread of their own until what is returned is dropped.
///
/// Whoever reads them may stop reading, or go away: no request waits for that. Beyond the backlog lines are dropped.
///
/// Beside them `spans` gets the spans of traces.
///
/// # Errors
///
/// Where `RUST_LOG` is not understood: in words.
pub fn init(format: LogFormat, spans: Option<Spans>) -> Result<(Option<WorkerGuard>, Lost), String> {
    let mut told = told()?;
    if spans.is_some() {
        told = told.with_target(TRACE_TARGET, LevelFilter::INFO);
    }
    let most = told.iter().map(|(_, level)| level).chain(told.default_level()).max().unwrap_or(LevelFilter::OFF);
    let (writer, guard) = Backlog::to(std::io::stdout());
    let lost = writer.lost();
    let events = tracing_subscriber::fmt()
        // No more than that: whoever asks for the level of what nobody wants is told no by a comparison.
        .with_max_level(most)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => listen(events.event_format(Lines).finish().with(told), spans),
        LogFormat::Json => listen(events.json().flatten_event(true).finish().with(told), spans),
        LogFormat::Off => {
            if spans.is_some() {
                let only = Targets::new().with_target(TRACE_TARGET, LevelFilter::INFO);
                listen(tracing_subscriber::registry().with(only), spans);
            }
            return Ok((None, lost));
        }
    }
    Ok((Some(guard), lost))
}

/// From INFO up, and what the variable `RUST_LOG` says beside that: a level for all, and targets with levels of their own.
fn told() -> Result<Targets, String> {
    let usual = Targets::new().with_default(LevelFilter::INFO);
    let Some(said) = env::var("RUST_LOG").ok().filter(|said| !said.is_empty()) else { return Ok(usual) };
    let wrong =
        |_| format!("invalid RUST_LOG {said:?}: expected a level, or targets such as tower_balancer::pick=trace");
    let said = said.parse::<Targets>().map_err(wrong)?;
    let usual = said.default_level().map_or(usual, |level| Targets::new().with_default(level));
    Ok(usual.with_targets(said))
}

fn listen<S>(subscriber: S, spans: Option<Spans>)
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    match spans {
        Some(spans) => subscriber.with(spans).init(),
        None => subscriber.init(),
    }
}

/// One line an event: `REQUEST:`, `RESPONSE:`, `HEALTH:`, `ADMIN:`, `ERROR:` or `INFO:`.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, method, path, backend, status, elapsed_ms, error, state, cause, rest } = fields;
        match (event.metadata().target(), message.as_str()) {
            (ACCESS_TARGET, "request") => writeln!(out, "REQUEST: {method} {path} -> {backend}"),
            (ACCESS_TARGET, "response") => {
                writeln!(out, "RESPONSE: {method} {path} <- {backend} [{status}] {elapsed_ms}ms")
            }
            (ACCESS_TARGET, "failed") => {
                writeln!(out, "ERROR: Backend failed after {elapsed_ms}ms {backend} - {error} ({method} {path})")
            }
            (HEALTH_TARGET, _) => writeln!(out, "HEALTH: {} {backend} - {cause}", state.to_uppercase()),
            (ACCESS_TARGET, "cancelled") => {
                writeln!(out, "INFO: Cancelled after {elapsed_ms}ms {method} {path} -> {backend}")
            }
            (AUDIT_TARGET, _) => writeln!(out, "ADMIN: {message}"),
            (RESPOND_TARGET, _) => writeln!(out, "ERROR: {message} - {cause}"),
            _ => {
                let kind = if *event.metadata().level() <= Level::WARN { "ERROR" } else { "INFO" };
                let of = if backend.is_empty() { backend } else { format!(" {backend}") };
                let why = if cause.is_empty() { cause } else { format!(" - {cause}") };
                writeln!(out, "{kind}: {message}{of}{rest}{why}")
            }
        }
    }
}

/// The fields of an event that the lines are made of.
#[derive(Default)]
struct Fields {
    message: String,
    method: String,
    path: String,
    backend: String,
    status: String,
    elapsed_ms: String,
    error: String,
    state: String,
    cause: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let slot = match field.name() {
            "message" => &mut self.message,
            "method" => &mut self.method,
            "path" => &mut self.path,
            "backend" => &mut self.backend,
            "status" => &mut self.status,
            "elapsed_ms" => &mut self.elapsed_ms,
            "error" => &mut self.error,
            "state" => &mut self.state,
            "cause" => &mut self.cause,
            name => {
                _ = write!(self.rest, " {name}={value:?}");
                return;
            }
        };
        _ = write!(slot, "{value:?}");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
