//! Deadlines that requests say themselves: never more time than either of them says, and what is malformed says nothing.

use super::{headers, now};
use http::{Request, Response};
use std::{convert::Infallible, time::Duration};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_balancer::http::DeadlineLayer;

/// What gRPC and milliseconds in digits mean, as plainly as can be.
fn said(headers: &http::HeaderMap) -> Option<Duration> {
    let digits = |text: &str| {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<u64>().ok())?
    };
    let first = |name: &str| headers.get(name)?.to_str().ok();
    let grpc = first("grpc-timeout").and_then(|text| {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let number = digits(number).filter(|_| number.len() <= 8)?;
        match unit {
            "H" => Some(Duration::from_secs(number * 3600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    });
    let plain = first("x-request-timeout-ms").and_then(digits).map(Duration::from_millis);
    grpc.into_iter().chain(plain).min()
}

/// Lines of headers.
pub fn check(data: &[u8]) {
    let mut request = Request::new(());
    *request.headers_mut() = headers(data);
    let expected = said(request.headers()).filter(|time| *time < Duration::from_secs(3600));
    now(async {
        let began = Instant::now();
        let service = DeadlineLayer::new(Duration::from_secs(3600)).layer(service_fn(async |_: Request<()>| {
            tokio::time::sleep(Duration::from_secs(7200)).await;
            Ok::<_, Infallible>(Response::new(()))
        }));
        assert!(service.oneshot(request).await.is_err(), "nothing takes more than an hour");
        let waited = began.elapsed();
        let expected = expected.unwrap_or(Duration::from_secs(3600));
        // A timer rings at the next millisecond.
        assert!(waited + Duration::from_millis(2) >= expected, "{waited:?} of {expected:?}");
        assert!(waited <= expected + Duration::from_millis(2), "{waited:?} of {expected:?}");
    });
}
