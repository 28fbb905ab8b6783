//! Load reports as they travel: Open Request Cost Aggregation, which gRPC, Envoy and others speak.
//!
//! A server tells its load in the head of an answer, in `endpoint-load-metrics`, or, with gRPC, in the trailers, in
//! `endpoint-load-metrics-bin`. [`AtEndOfBody`](super::AtEndOfBody) takes both out, so that no client sees them, and
//! gives what they say to the backend. [`ReportLoadLayer`](super::ReportLoadLayer) is the other end.
//!
//! | form | example | what is malformed |
//! |---|---|---|
//! | `TEXT` | `cpu_utilization=0.3, rps_fractional=10, named_metrics.in_flight=3`; `:` will do for `=` | goes by itself |
//! | `JSON` | `{"cpu_utilization": 0.3, "named_metrics": {"in_flight": 3}}` | goes with all the rest |
//! | `BIN` | the `OrcaLoadReport` of Protocol Buffers in base64, padded or not; the `-bin` field has nothing else | goes with all the rest |
//!
//! `application_utilization`, or else `cpu_utilization`, `rps_fractional`, `eps` and, of the `named_metrics`, `in_flight`
//! and `latency_seconds` are read, in JSON also in its own spelling, `cpuUtilization`. All else is passed over, and so is
//! a value that is no finite number from zero up. Of a name that occurs twice the last one counts. Nothing is read that
//! is longer than 4 KiB.
//!
//! ```
//! use http::{HeaderMap, HeaderValue};
//! use tower_balancer::{backend::Report, http::orca};
//!
//! let mut headers = HeaderMap::new();
//! let told = r#"JSON {"cpu_utilization": 0.25, "rps_fractional": 100, "named_metrics": {"in_flight": 3}}"#;
//! headers.insert(orca::HEADER, HeaderValue::from_static(told));
//!
//! let report = orca::take(&mut headers).unwrap();
//! assert_eq!(report, Report { utilization: 0.25, qps: 100.0, in_flight: Some(3.0), ..Report::default() });
//! assert!(headers.is_empty());
//! ```

mod base64;
mod json;
mod protobuf;

use super::seldom;
use crate::backend::Report;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write;

/// The field in the head of an answer, in any of the three forms.
pub const HEADER: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// The field in gRPC's trailers, or in the head of an answer that is all trailers.
pub const BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// The longest value that is read, in bytes.
const LONGEST: usize = 4_096;

/// Takes what the server says about its load out of the head, or out of the trailers, of an answer.
///
/// The fields are gone in any case; `None` where there were none, or nothing was in them.
pub fn take(headers: &mut HeaderMap) -> Option<Report> {
    if !seldom::any(headers, [&BINARY, &HEADER]) {
        return None;
    }
    let (binary, header) = (seldom::take(headers, &BINARY), seldom::take(headers, &HEADER));
    binary.and_then(|value| read_binary(bounded(&value)?)).or_else(|| header.and_then(|value| read(&value)))
}

/// What a server says about its load, for [`HEADER`], in the form `TEXT`. Values that it does not tell are left out.
///
/// ```
/// use tower_balancer::{backend::Report, http::orca};
///
/// let report = Report { utilization: 0.5, qps: 100.0, latency: Some(0.02), ..Report::default() };
/// let told = "TEXT application_utilization=0.5, rps_fractional=100, named_metrics.latency_seconds=0.02";
/// assert_eq!(orca::text(&report), told);
/// ```
pub fn text(report: &Report) -> HeaderValue {
    let told = |value: f64| Some(value).filter(|&value| value as f32 > 0.0);
    // No digits beyond what the other end keeps.
    let values = [
        ("application_utilization", told(report.utilization)),
        ("rps_fractional", told(report.qps)),
        ("eps", told(report.eps)),
        ("named_metrics.in_flight", report.in_flight),
        ("named_metrics.latency_seconds", report.latency),
    ];
    let mut text = String::with_capacity(128);
    for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value? as f32))) {
        if !is_value(value.into()) {
            continue;
        }
        let before = if text.is_empty() { "TEXT " } else { ", " };
        // Writing to a string does not fail.
        _ = write!(text, "{before}{name}={value}");
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn bounded(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().filter(|value| value.len() <= LONGEST)
}

fn read(value: &HeaderValue) -> Option<Report> {
    match bounded(value)?.split_once(' ')? {
        ("TEXT", text) => read_text(text),
        ("JSON", json) => json::read(json)?.report(),
        ("BIN", binary) => read_binary(binary),
        _ => None,
    }
}

fn read_text(text: &str) -> Option<Report> {
    let mut metrics = Metrics::default();
    for (name, value) in text.split(',').filter_map(|pair| pair.split_once(['=', ':'])) {
        let Ok(value) = value.trim().parse() else { continue };
        match name.trim().strip_prefix("named_metrics.") {
            Some(name) => metrics.set_named(name, value),
            None => metrics.set(name.trim(), value),
        }
    }
    metrics.report()
}

fn read_binary(text: &str) -> Option<Report> {
    // gRPC joins fields of one name with commas.
    let first = text.split(',').next()?;
    protobuf::read(&base64::decode(first.trim())?)?.report()
}

/// What is read, in whichever form it came.
#[derive(Debug, Default)]
struct Metrics {
    application: f64,
    cpu: f64,
    qps: f64,
    eps: f64,
    in_flight: Option<f64>,
    latency: Option<f64>,
}

impl Metrics {
    fn set(&mut self, name: &str, value: f64) {
        let metric = match name {
            "application_utilization" | "applicationUtilization" => &mut self.application,
            "cpu_utilization" | "cpuUtilization" => &mut self.cpu,
            "rps_fractional" | "rpsFractional" => &mut self.qps,
            "eps" => &mut self.eps,
            _ => return,
        };
        if is_value(value) {
            *metric = value;
        }
    }

    fn set_named(&mut self, name: &str, value: f64) {
        let metric = match name {
            "in_flight" => &mut self.in_flight,
            "latency_seconds" => &mut self.latency,
            _ => return,
        };
        if is_value(value) {
            *metric = Some(value);
        }
    }

    fn report(self) -> Option<Report> {
        let Self { application, cpu, qps, eps, in_flight, latency } = self;
        let utilization = if application > 0.0 { application } else { cpu };
        Some(Report { utilization, qps, eps, in_flight, latency }).filter(|report| *report != Report::default())
    }
}

fn is_value(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from(name: HeaderName, value: &[u8]) -> Option<Report> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        let report = take(&mut headers);
        assert!(headers.is_empty());
        report
    }

    fn header(value: &str) -> Option<Report> {
        from(HEADER, value.as_bytes())
    }

    const FULL: Report = Report { utilization: 0.5, qps: 10.0, eps: 1.0, in_flight: Some(3.0), latency: Some(0.25) };

    #[test]
    fn every_form_says_the_same() {
        for (value, is) in [
            (
                "TEXT cpu_utilization=0.9, application_utilization=0.5,mem_utilization=0.8 , rps_fractional=10.0, eps=1, \
                 named_metrics.in_flight=3,named_metrics.latency_seconds = .25, named_metrics.other=7",
                FULL,
            ),
            (
                "TEXT cpu_utilization:0.5,rps_fractional:10,eps:1,named_metrics.in_flight:3,\
                 named_metrics.latency_seconds:2.5e-1",
                FULL,
            ),
            (
                r#"JSON {"cpu_utilization":0.5,"mem_utilization":0.8,"request_cost":{"db":[1,{"a":null}]},"eps":1.0,
                "rps_fractional":1e1,"named_metrics":{"in_flight":3,"latency_seconds":0.25,"q\"}":"\\"}, "x":true}"#,
                FULL,
            ),
            (
                r#"JSON { "namedMetrics" : { "latency_seconds" : "0.25" , "in_flight" : 3 } , "cpuUtilization" : 0.9 ,
                "applicationUtilization" : 0.5, "rpsFractional" : 10, "eps" : 1 }"#,
                FULL,
            ),
        ] {
            // A header has one line.
            assert_eq!(header(&value.replace('\n', " ")), Some(is), "{value}");
        }
        // All fields, in the order of their numbers: cpu 0.9, memory 0.8, rps 500, a cost, a utilization, and so on.
        let binary = "Cc3MzMzMzOw/EZqZmZmZmek/GPQDIg0KAmRiEQAAAAAAAPA/Kg4KA2dwdREAAAAAAADgPzEAAAAAAAAkQDkAAAAAAADwP0IUCglp\
                      bl9mbGlnaHQRAAAAAAAACEBCGgoPbGF0ZW5jeV9zZWNvbmRzEQAAAAAAANA/SQAAAAAAAOA/";
        assert_eq!(from(BINARY, binary.as_bytes()), Some(FULL));
        assert_eq!(from(BINARY, binary.trim_end_matches('=').as_bytes()), Some(FULL));
        assert_eq!(header(&format!("BIN {binary}")), Some(FULL));
        assert_eq!(from(BINARY, format!("{binary}, AAAA").as_bytes()), Some(FULL));
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(from(HEADER, text(&FULL).as_bytes()), Some(FULL));
        let idle = Report { in_flight: Some(0.0), ..Report::default() };
        assert_eq!(from(HEADER, text(&idle).as_bytes()), Some(idle));
        assert_eq!(from(HEADER, text(&Report::default()).as_bytes()), None);
    }

    #[test]
    fn a_malformed_value_goes_by_itself_in_text_and_with_the_rest_elsewhere() {
        let cpu = Some(Report { utilization: 0.5, ..Report::default() });
        for odd in ["nan", "inf", "-1", "", "x", "1 2", "1e999", "0x1"] {
            assert_eq!(header(&format!("TEXT eps={odd}, cpu_utilization=0.5, , rps_fractional")), cpu, "{odd}");
        }
        // A number that is no value goes by itself everywhere.
        assert_eq!(header(r#"JSON {"eps":-1,"rps_fractional":"NaN","cpu_utilization":0.5}"#), cpu);
        assert_eq!(header("TEXT application_utilization=inf, cpu_utilization=0.5"), cpu);
        for odd in [
            r#"{"cpu_utilization":0.5"#,
            r#"{"cpu_utilization":0.5,}"#,
            r#"{"cpu_utilization":0.5} x"#,
            r#"{"cpu_utilization":0.5 "eps":1}"#,
            r#"{"cpu_utilization":0.5,"eps":inf}"#,
            r#"{"cpu_utilization":0.5,"eps":}"#,
            r#"{"cpu_utilization":0.5,"eps":tru}"#,
            r#"{"cpu_utilization":0.5,"eps":"1\"}"#,
            r#"{"cpu_utilization":0.5,"x":[[[[[[[[[[1]]]]]]]]]]}"#,
            r#"[{"cpu_utilization":0.5}]"#,
            "0.5",
            "",
        ] {
            assert_eq!(header(&format!("JSON {odd}")), None, "{odd}");
        }
        // A cut, a group, the field number 0 before a good one, what is no base64.
        for odd in ["CZqZmZmZmek", "CwwM", "AQAAAAAAAOA/CQAAAAAAAOA/", "CQAAAAAAAOA/C", "CQAAAAAA*OA/", "=", ""] {
            assert_eq!((header(&format!("BIN {odd}")), from(BINARY, odd.as_bytes())), (None, None), "{odd}");
        }
        for odd in ["", "TEXT", "text eps=1", "eps=1", "XML eps=1", "TEXT "] {
            assert_eq!(header(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_read() {
        let long = |length: usize| format!("TEXT eps=1,{}", "x".repeat(length - 11));
        assert!(header(&long(4_096)).is_some() && header(&long(4_097)).is_none());
    }

    #[test]
    fn the_binary_field_goes_first_and_both_go() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static("TEXT eps=1"));
        headers.append(HEADER, HeaderValue::from_static("TEXT eps=2"));
        headers.insert(BINARY, HeaderValue::from_static("CQAAAAAAAOA/"));
        assert_eq!(take(&mut headers), Some(Report { utilization: 0.5, ..Report::default() }));
        assert!(headers.is_empty());
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let string = r#"[a-z"\\{}\[\], ü]{0,6}"#;
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            string.prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 16, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map(string, inner, 0..4)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn garbage_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            _ = protobuf::read(&bytes);
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                _ = read(&value);
            }
        }

        #[test]
        fn what_is_nearly_right_is_read_without_a_panic(
            text in "(cpu_utilization|eps|named_metrics[.]in_flight|[a-z.]{0,9})[=:, ](-?[0-9.eE]{0,20}|nan|inf)",
            binary in "[A-Za-z0-9+/]{0,80}={0,3}",
        ) {
            _ = (read_text(&text), read_binary(&binary));
        }

        #[test]
        fn whatever_else_json_holds_is_passed_over(value in any_json(), cut in 0_usize..60) {
            let json = format!(r#"{{"x":{value}, "eps":1}}"#);
            prop_assert_eq!(json::read(&json).and_then(Metrics::report), Some(Report { eps: 1.0, ..Report::default() }));
            // And cut off anywhere, it is nothing.
            let cut = json.chars().take(cut.min(json.chars().count() - 1)).collect::<String>();
            prop_assert!(json::read(&cut).is_none());
        }
    }
}
