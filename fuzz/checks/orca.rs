//! Load reports: only numbers come of them, nothing of them stays in the head and all else does, and what is written is read.

use super::headers;
use http::HeaderMap;
use tower_balancer::{backend::Report, http::orca};

/// What is read of a value, in bytes.
const LONGEST: usize = 4_096;

fn values(report: &Report) -> [Option<f64>; 5] {
    [Some(report.utilization), Some(report.qps), Some(report.eps), report.in_flight, report.latency]
}

/// Lines of headers.
pub fn check(data: &[u8]) {
    let before = headers(data);
    let mut after = before.clone();
    let report = orca::take(&mut after);
    let is_ours = |name: &http::HeaderName| *name == orca::HEADER || *name == orca::BINARY;
    let others: HeaderMap =
        before.iter().filter(|(name, _)| !is_ours(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    assert_eq!(after.len(), others.len(), "what is not ours is gone, or what is ours has stayed");
    assert!(others.keys().all(|name| after.get_all(name).iter().eq(others.get_all(name))));

    // The first of each name, and none that is too long.
    let read: Vec<_> = [orca::BINARY, orca::HEADER].iter().filter_map(|name| before.get(name)).collect();
    let Some(report) = report else { return };
    assert!(read.iter().any(|value| value.len() <= LONGEST), "it is of nothing, or of too much");
    assert!(values(&report).into_iter().flatten().all(|value| value.is_finite() && value >= 0.0), "{report:?}");
    assert_ne!(report, Report::default(), "it says nothing");

    // Alone in a head it says the same.
    let alone = |name: &http::HeaderName| {
        let mut head = HeaderMap::new();
        head.insert(name, before.get(name)?.clone());
        orca::take(&mut head)
    };
    assert_eq!(alone(&orca::BINARY).or_else(|| alone(&orca::HEADER)), Some(report));

    written_and_read(&report);
}

/// With the digits that are kept: those of 32 bits.
fn written_and_read(report: &Report) {
    let kept = |value: f64| Some(f64::from(value as f32)).filter(|value| value.is_finite());
    let expected = Report {
        utilization: kept(report.utilization).unwrap_or_default(),
        qps: kept(report.qps).unwrap_or_default(),
        eps: kept(report.eps).unwrap_or_default(),
        in_flight: report.in_flight.and_then(kept),
        latency: report.latency.and_then(kept),
    };
    let written = orca::text(report);
    assert!(written.len() <= LONGEST, "nobody would read it");
    let mut head = HeaderMap::new();
    head.insert(orca::HEADER, written.clone());
    let again = orca::take(&mut head).unwrap_or_default();
    for (again, expected) in values(&again).into_iter().zip(values(&expected)) {
        assert_eq!(again.map(|value| value as f32), expected.map(|value| value as f32), "{written:?} of {report:?}");
    }
    assert_eq!(orca::text(&again), written);
}
