//! Bytes to requests: what the service under `Strict` and a server of hyper's gets is what the bytes say, and no more.

use super::{now, strict::Pieces};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, sync::Mutex};
use tower::{Layer, ServiceExt, service_fn};
use tower_balancer::http::{ForwardBody, ForwardLayer, Refused, Strict};

pub fn check(data: &[u8]) {
    if data.starts_with(b"PRI") {
        return;
    }
    // The targets of the requests, and whether the body of each was whole.
    let seen = Mutex::new(Vec::new());
    let forward = ForwardLayer::new().layer(service_fn(async |request: Request<ForwardBody<Incoming>>| {
        assert!(
            request.headers().iter().all(|(_, value)| !value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)))
        );
        let target = request.uri().path_and_query().map_or(String::new(), |target| target.to_string());
        let (method, version) = (request.method().to_string(), request.version());
        let whole = request.into_body().collect().await.is_ok();
        seen.lock().expect("nobody panicked").push((method, target, version, whole));
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    }));
    let service = hyper::service::service_fn(|request| {
        let forwarding = forward.clone().oneshot(request);
        async move {
            forwarding.await.map(|response| response.map(Either::Left)).or_else(|error| {
                assert!(error.is::<Refused>(), "{error}");
                Ok::<_, Infallible>(
                    Response::builder().status(400).body(Either::Right(Empty::new())).expect("a status"),
                )
            })
        }
    });
    let stream = TokioIo::new(Strict::new(Pieces(data, usize::MAX)));
    _ = now(hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(stream, service));

    let mut rest = data;
    for (method, target, version, whole) in seen.into_inner().expect("nobody panicked") {
        // Each request is one that the bytes have, at a line of its own and in their order.
        let version = if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let at = rest.windows(method.len() + 1).position(|part| part == format!("{method} ").as_bytes());
        let line = &rest[at.expect("a method that nobody sent")..];
        let end = line.windows(2).position(|end| end == b"\r\n").expect("a line without an end");
        if let Ok(said) = std::str::from_utf8(&line[..end])
            && said.starts_with(&format!("{method} /"))
        {
            assert_eq!(said, format!("{method} {target} {version}"), "it was rewritten");
        }
        rest = &line[end..];
        if !whole {
            break;
        }
    }
}
