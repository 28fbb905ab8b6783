//! Spans as OTLP has them in JSON: ids in hexadecimal, numbers of 64 bits as text, kinds by their numbers.

use super::spans::{Span, Value};
use serde_json::json;
use std::time::SystemTime;

const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// The body of a request to `/v1/traces`.
pub fn message(spans: &[Span]) -> serde_json::Value {
    let version = env!("CARGO_PKG_VERSION");
    let text = |text: &str| Value::Text(text.to_owned());
    let service = [attribute("service.name", &text("gateway")), attribute("service.version", &text(version))];
    let scope = json!({ "name": "tower-balancer", "version": version });
    let spans: Vec<_> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": service },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] })
}

fn span(span: &Span) -> serde_json::Value {
    let attributes: Vec<_> = span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    json!({
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_span_id,
        "name": span.name,
        "kind": if span.is_client { CLIENT } else { SERVER },
        "startTimeUnixNano": nanos(span.started),
        "endTimeUnixNano": nanos(span.ended.unwrap_or(span.started)),
        "attributes": attributes,
        "status": if span.failed { json!({ "code": ERROR }) } else { json!({}) },
    })
}

fn attribute(name: &str, value: &Value) -> serde_json::Value {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": name, "value": value })
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
