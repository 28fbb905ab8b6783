//! What the backend is told about the client and by whom it came, and who is believed.

#[path = "common/wire.rs"]
mod wire;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version, uri::Scheme};
use http_body::Frame;
use http_body_util::{BodyExt, Collected, Empty, StreamBody};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_balancer::http::{ForwardBody, ForwardLayer, Network, Peer, Refused};
use wire::{OK, Wire, header, limits::Limits};

async fn with(forward: ForwardLayer) -> Wire {
    Wire::with(OK, Limits::default(), |proxy| proxy.forward(forward)).await
}

fn loopback() -> [Network; 1] {
    ["127.0.0.0/8".parse().unwrap()]
}

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: shop.example:8080\r\nConnection: close\r\n{lines}\r\n\r\n")
}

const CLAIMS: &str = "X-Forwarded-For: 6.6.6.6, 7.7.7.7\r\nX-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Host: evil.example\r\n\
    X-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6";

#[tokio::test]
async fn a_stranger_is_not_believed() {
    let elsewhere = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
    for forward in [ForwardLayer::new(), ForwardLayer::new().trusted_proxies(elsewhere)] {
        let seen = with(forward).await.passes(get(CLAIMS)).await;
        assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(header(&seen, "x-forwarded-host"), ["shop.example:8080"]);
        assert_eq!(header(&seen, "x-forwarded-proto"), ["http"]);
        assert!(header(&seen, "forwarded").is_empty() && header(&seen, "x-real-ip").is_empty(), "{seen}");
    }
    let seen = with(ForwardLayer::new().forwarded().real_ip()).await.passes(get(CLAIMS)).await;
    assert_eq!(header(&seen, "forwarded"), [r#"for=127.0.0.1;host="shop.example:8080";proto=http"#]);
    assert_eq!(header(&seen, "x-real-ip"), ["127.0.0.1"]);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_named_after_what_it_said() {
    let wire = with(ForwardLayer::new().trusted_proxies(loopback()).forwarded().real_ip()).await;
    let seen = wire.passes(get(CLAIMS)).await;
    assert_eq!(header(&seen, "x-forwarded-for"), ["6.6.6.6, 7.7.7.7, 8.8.8.8, 127.0.0.1"]);
    assert_eq!(header(&seen, "x-forwarded-host"), ["evil.example"]);
    assert_eq!(header(&seen, "x-forwarded-proto"), ["https"]);
    assert_eq!(header(&seen, "forwarded"), [r#"for=6.6.6.6, for=127.0.0.1;host="shop.example:8080";proto=http"#]);
    assert_eq!(header(&seen, "x-real-ip"), ["6.6.6.6"]);
    // What it did not say is said as for anyone.
    let seen = wire.passes(get("X-End: 1")).await;
    assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&seen, "x-forwarded-host"), ["shop.example:8080"]);
    assert_eq!(header(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(header(&seen, "x-real-ip"), ["127.0.0.1"]);
}

#[tokio::test]
async fn twins_of_our_headers_are_dropped_and_other_underscores_are_not() {
    for forward in [ForwardLayer::new(), ForwardLayer::new().trusted_proxies(loopback())] {
        let twins = "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nX_REAL_IP: 6.6.6.6\r\nx_forwarded-host: evil\r\n\
            X_Forwarded_For: 7.7.7.7\r\nX_Request_Id: 1";
        let seen = with(forward).await.passes(get(twins)).await;
        assert!(!seen.contains("6.6.6.6") && !seen.contains("7.7.7.7") && !seen.contains("evil"), "{seen}");
        assert_eq!(header(&seen, "x_request_id"), ["1"]);
    }
}

#[tokio::test]
async fn nomination_takes_away_what_the_client_sent_and_not_what_we_add() {
    let wire = with(ForwardLayer::new().trusted_proxies(loopback()).forwarded().real_ip()).await;
    let nominated = "Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Real-IP, Forwarded, Via";
    let seen = wire.passes(get(&format!("{nominated}\r\n{CLAIMS}"))).await;
    assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&seen, "x-real-ip"), ["127.0.0.1"]);
    assert_eq!((header(&seen, "forwarded").len(), header(&seen, "via").len()), (1, 1));
}

#[tokio::test]
async fn via_grows_and_ends_a_loop() {
    let wire = with(ForwardLayer::new().via("edge-1")).await;
    let seen = wire.passes(get("Via: 1.0 fred, 1.1 edge-2 (edge-1)\r\nVia: HTTP/2 p.example")).await;
    assert_eq!(header(&seen, "via"), ["1.0 fred, 1.1 edge-2 (edge-1)", "HTTP/2 p.example", "1.1 edge-1"]);
    let seen = wire.passes("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(header(&seen, "via"), ["1.0 edge-1"]);
    for via in ["1.1 edge-1", "1.0 fred, HTTP/1.1  Edge-1 (comment), 2 x", "1.0 fred\r\nVia: 1.1 edge-1"] {
        wire.refuses(get(&format!("Via: {via}")), 508).await;
    }
    // Each has a name of its own, which says nothing.
    let [one, other] = [with(ForwardLayer::new()).await, with(ForwardLayer::new()).await];
    let [one, other] = [one.passes(get("X: 1")).await, other.passes(get("X: 1")).await];
    assert_ne!(header(&one, "via"), header(&other, "via"));
    assert!(header(&one, "via")[0].starts_with("1.1 proxy-"), "{one}");
}

#[tokio::test]
async fn a_loop_through_two_proxies_ends() {
    let first = with(ForwardLayer::new().via("edge-1")).await;
    let second = with(ForwardLayer::new().via("edge-2")).await;
    let seen = second.passes(first.passes(get("X: 1")).await.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
    assert_eq!(header(&seen, "via"), ["1.1 edge-1", "1.1 edge-2"]);
    first.refuses(seen.replacen("\r\n", "\r\nConnection: close\r\n", 1), 508).await;
}

#[tokio::test]
async fn an_options_goes_as_far_as_it_may() {
    let wire = with(ForwardLayer::new()).await;
    let options =
        |hops: &str| format!("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\nMax-Forwards: {hops}\r\n\r\n");
    assert_eq!(header(&wire.passes(options("2")).await, "max-forwards"), ["1"]);
    let answer = wire.send(options("0")).await;
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    wire.refuses(options("-1"), 400).await;
    wire.refuses(options("x"), 400).await;
    wire.refuses(options("+5"), 400).await;
    wire.refuses(options(""), 400).await;
    // To others it means nothing.
    assert_eq!(header(&wire.passes(get("Max-Forwards: 0")).await, "max-forwards"), ["0"]);
}

#[tokio::test]
async fn the_host_is_the_backends_or_the_clients_as_asked_for() {
    let replaced = with(ForwardLayer::new()).await;
    assert_eq!(header(&replaced.passes(get("X: 1")).await, "host"), [replaced.backend.to_string()]);
    let kept = Wire::with(OK, Limits::default(), |proxy| proxy.keep_host()).await;
    assert_eq!(header(&kept.passes(get("X: 1")).await, "host"), ["shop.example:8080"]);
    let seen =
        kept.passes("GET http://asked.example/ HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(header(&seen, "host"), ["asked.example"]);
}

#[tokio::test]
async fn trailers_are_cleaned_both_ways_whatever_stands_below() {
    let trailers = || {
        let lines = ["x-sum", "connection", "content-length", "x-forwarded-for"];
        let lines = lines.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
        let frames = [Frame::data(Bytes::from("hello")), Frame::trailers(HeaderMap::from_iter(lines))];
        StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)))
    };
    let names = |trailers: &HeaderMap| trailers.keys().map(HeaderName::to_string).collect::<Vec<_>>();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let backend = service_fn(move |request: Request<ForwardBody<_>>| {
        let told = Arc::clone(&told);
        async move {
            let body: Collected<Bytes> = BodyExt::collect(request.into_body()).await?;
            told.lock().unwrap().extend(names(body.trailers().unwrap()));
            Ok::<_, BoxError>(Response::new(trailers()))
        }
    });
    let answer =
        ForwardLayer::new().layer(backend).oneshot(Request::post("/").body(trailers()).unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["x-sum"]);
    assert_eq!(names(body.trailers().unwrap()), ["x-sum", "x-forwarded-for"]);
    assert_eq!(body.to_bytes(), "hello");
}

#[tokio::test]
async fn a_client_of_http2_says_whom_it_asks_and_who_asks_in_the_same_process_need_not() {
    let ask = |request: Request<Empty<Bytes>>| {
        let answer = || async { Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new())) };
        ForwardLayer::new().layer(service_fn(move |_: Request<ForwardBody<_>>| answer())).oneshot(request)
    };
    let request = || Request::post("/").version(Version::HTTP_2);
    assert!(ask(request().body(Empty::new()).unwrap()).await.is_ok());
    let peer = Peer::new("127.0.0.1:7".parse().unwrap(), &Scheme::HTTP);
    let refused = ask(request().extension(peer.clone()).body(Empty::new()).unwrap()).await.unwrap_err();
    assert_eq!(refused.downcast_ref::<Refused>().unwrap().status(), 400);
    assert!(ask(request().extension(peer).header("host", "a").body(Empty::new()).unwrap()).await.is_ok());
}
