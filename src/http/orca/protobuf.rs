use super::Metrics;
use crate::http::protobuf::{Fields, Value};

/// The numbers of the fields of `xds.data.orca.v3.OrcaLoadReport` that are read.
const CPU_UTILIZATION: u64 = 1;
const RPS_FRACTIONAL: u64 = 6;
const EPS: u64 = 7;
const NAMED_METRICS: u64 = 8;
const APPLICATION_UTILIZATION: u64 = 9;

/// Reads an `OrcaLoadReport`; `None` where the bytes are none.
pub(super) fn read(bytes: &[u8]) -> Option<Metrics> {
    let mut metrics = Metrics::default();
    let mut fields = Fields::of(bytes);
    while !fields.is_empty() {
        match fields.next()? {
            (CPU_UTILIZATION, Value::Double(value)) => metrics.set("cpu_utilization", value),
            (RPS_FRACTIONAL, Value::Double(value)) => metrics.set("rps_fractional", value),
            (EPS, Value::Double(value)) => metrics.set("eps", value),
            (APPLICATION_UTILIZATION, Value::Double(value)) => metrics.set("application_utilization", value),
            (NAMED_METRICS, Value::Bytes(entry)) => {
                let (name, value) = read_entry(entry)?;
                metrics.set_named(name, value);
            }
            _ => {}
        }
    }
    Some(metrics)
}

/// An entry of a map from names to numbers. What is left out is empty, or zero.
fn read_entry(bytes: &[u8]) -> Option<(&str, f64)> {
    let (mut name, mut number) = ("", 0.0);
    let mut fields = Fields::of(bytes);
    while !fields.is_empty() {
        match fields.next()? {
            (1, Value::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
            (2, Value::Double(value)) => number = value,
            _ => {}
        }
    }
    Some((name, number))
}
