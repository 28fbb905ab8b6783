//! Load reports: only numbers come of them, none stays in the head, and what is written is read.

use super::headers;
use tower_balancer::http::orca;

/// Lines of headers.
pub fn check(data: &[u8]) {
    let mut headers = headers(data);
    let report = orca::take(&mut headers);
    assert!(!headers.contains_key(orca::HEADER) && !headers.contains_key(orca::BINARY), "it stays in the head");
    let Some(report) = report else { return };
    let values = [Some(report.utilization), Some(report.qps), Some(report.eps), report.in_flight, report.latency];
    assert!(values.into_iter().flatten().all(|value| value.is_finite() && value >= 0.0), "{report:?}");
    // Written with the digits that are kept, it is read as that.
    let written = orca::text(&report);
    headers.insert(orca::HEADER, written.clone());
    if let Some(again) = orca::take(&mut headers) {
        assert_eq!(orca::text(&again), written);
    }
}
