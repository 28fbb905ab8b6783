//! `Forward`: what reaches a backend, and what reaches a client, whatever the other side says.

use super::{headers, now};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, uri::Scheme};
use http_body_util::Empty;
use std::{convert::Infallible, net::SocketAddr};
use tower::{Layer, ServiceExt, service_fn};
use tower_balancer::http::{ForwardLayer, Peer};

const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// What may be nominated and stays: what frames and addresses the message, and what is written after.
const KEPT: [&str; 8] =
    ["host", "content-length", "te", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"];

/// `method target`, then lines of headers; after an empty line those of the answer.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == b'\n');
    let first = parts.next().unwrap_or_default();
    let (asked, answered) = split(parts.next().unwrap_or_default());
    let space = first.iter().position(|&byte| byte == b' ').unwrap_or(first.len());
    let (Ok(method), Ok(uri)) = (Method::from_bytes(&first[..space]), Uri::try_from(first[space..].trim_ascii()))
    else {
        return;
    };
    for trusts in [false, true] {
        one(&method, &uri, &headers(asked), &headers(answered), trusts);
    }
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(2).position(|end| end == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[]),
    }
}

fn one(method: &Method, uri: &Uri, asked: &HeaderMap, answered: &HeaderMap, trusts: bool) {
    let client: SocketAddr = ([192, 0, 2, 7], 7).into();
    let mut request = Request::new(Empty::<Bytes>::new());
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method.clone(), uri.clone(), asked.clone());
    request.extensions_mut().insert(Peer::new(client, &Scheme::HTTP));

    let layer = ForwardLayer::new().via("us").forwarded().real_ip();
    let trusted = trusts.then_some("192.0.2.0/24").into_iter().map(|network| network.parse().expect("a network"));
    let service = layer.trusted_proxies(trusted).layer(service_fn(async |request: Request<_>| {
        passed(request.headers(), asked);
        assert_eq!(request.method(), method);
        assert_eq!(request.uri().path_and_query(), uri.path_and_query(), "the target is another");
        told(&request, asked, client, trusts);
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.headers_mut() = answered.clone();
        Ok::<_, Infallible>(response)
    }));
    if let Ok(response) = now(service.oneshot(request)) {
        passed(response.headers(), answered);
    }
}

/// Nothing that was for one hop only.
fn passed(now: &HeaderMap, before: &HeaderMap) {
    for name in HOP_BY_HOP {
        assert!(!now.contains_key(name), "{name} crossed");
    }
    assert!(now.get_all(header::TE).iter().all(|te| te == "trailers"), "TE crossed");
    let lines = before.get_all(header::CONNECTION).iter();
    for token in lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')) {
        let Ok(name) = std::str::from_utf8(token.trim_ascii()) else { continue };
        let name = name.to_ascii_lowercase();
        let stays = ["close", "keep-alive", ""].contains(&&*name) || KEPT.contains(&&*name) || name == "x-real-ip";
        assert!(stays || !now.contains_key(&*name), "{name} was nominated and crossed");
    }
}

/// Who asks is said by us, and by others only where they are trusted.
fn told<B>(request: &Request<B>, asked: &HeaderMap, client: SocketAddr, trusts: bool) {
    let headers = request.headers();
    let only = |name: &str| {
        let mut lines = headers.get_all(name).iter();
        let first = lines.next();
        assert!(lines.next().is_none(), "{name} is there twice");
        first.and_then(|line| line.to_str().ok())
    };
    let ours = client.ip().to_string();
    assert!(headers.get_all(header::VIA).iter().next_back().is_some_and(|via| via.as_bytes().ends_with(b" us")));
    assert!(headers.get_all(header::HOST).iter().count() <= 1);
    assert!(headers.keys().all(|name| !name.as_str().contains('_') || !is_twin(name.as_str())), "a twin crossed");
    let address = request.extensions().get::<Peer>().expect("it stays").ip();
    if trusts {
        let line = headers.get("x-forwarded-for").expect("it is said").as_bytes();
        assert!(line.ends_with(ours.as_bytes()), "the last hop is not named last");
        let said = asked.get_all("x-forwarded-for").iter().any(|line| {
            let hops = line.as_bytes().split(|&byte| byte == b',').filter_map(|hop| std::str::from_utf8(hop).ok());
            let ip = |hop: &str| hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
            hops.filter_map(|hop| ip(hop.trim())).any(|ip| ip == address)
        });
        assert!(said || address == client.ip(), "a client that nobody named");
    } else {
        assert_eq!(only("x-forwarded-for"), Some(&*ours));
        assert_eq!(only("x-real-ip"), Some(&*ours));
        assert_eq!(only("x-forwarded-proto"), Some("http"));
        assert_eq!(address, client.ip());
        let element = headers.get_all(header::FORWARDED).iter().collect::<Vec<_>>();
        assert_eq!(element.len(), 1, "Forwarded is there twice");
        assert_eq!(elements(element[0]), 1, "{:?} has another element in it", element[0]);
    }
}

/// Of a list of RFC 7239: commas that are not in quotes part them.
fn elements(line: &HeaderValue) -> usize {
    let (mut quoted, mut escaped, mut count) = (false, false, 1);
    for &byte in line.as_bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b';' if !quoted => count += usize::from(byte == b','),
            _ => {}
        }
    }
    assert!(!quoted, "{line:?} does not end");
    count
}

fn is_twin(name: &str) -> bool {
    let ours = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "content-length"];
    ours.contains(&&*name.replace('_', "-")) || name.replace('_', "-") == "transfer-encoding"
}
