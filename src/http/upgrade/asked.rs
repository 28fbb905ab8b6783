//! Who asks for another protocol, for which, and what they are told.

use crate::http::{Switch, seldom};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{self, ValueIter},
};
use http_body::Body;
use hyper::{ext::Protocol, upgrade::OnUpgrade};
use std::hash::{BuildHasher, RandomState};

const WEBSOCKET: &str = "websocket";

/// The protocol that a backend is asked for: a request extension, which [`Forward`](crate::http::Forward) writes into the
/// headers when it has removed what the client had there.
#[derive(Clone, Debug)]
pub(in crate::http) struct Asked(HeaderValue);

impl Asked {
    /// Asks the next hop.
    pub(in crate::http) fn ask(self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.0);
    }

    /// Whether an answer of 101 is what these headers of a request asked for.
    pub(in crate::http) fn is_answered(asked: &HeaderValue, answer: &HeaderMap) -> bool {
        let mut answered = answer.get_all(header::UPGRADE).iter();
        answered.next().is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(asked.as_bytes()))
            && answered.next().is_none()
    }
}

/// A client that may switch to another protocol when the backend does.
#[derive(Debug)]
pub(super) struct Switching {
    client: OnUpgrade,
    to: HeaderValue,
    /// By the means of RFC 8441.
    over_http2: bool,
    /// What waits to be told.
    told: Option<Switch>,
}

impl Switching {
    /// Where `request` asks for one of `protocols`, and has no body, the connection that it asks for, and the request asks for
    /// nothing else.
    pub(super) fn asked<B: Body>(request: &mut Request<B>, protocols: &[Box<str>]) -> Option<Self> {
        let over_http2 = *request.method() == Method::CONNECT;
        let to = if over_http2 {
            let protocol = request.extensions().get::<Protocol>()?;
            let listed = protocols.iter().find(|listed| listed.eq_ignore_ascii_case(protocol.as_str()))?;
            HeaderValue::from_str(listed).ok()?
        } else {
            // Most ask for nothing.
            if !seldom::has(request.headers(), &header::UPGRADE) {
                return None;
            }
            let wanted = request.headers().get_all(header::UPGRADE).iter();
            let listed = first_listed(wanted, protocols)?;
            if request.version() != Version::HTTP_11 || !nominates_upgrade(request.headers()) {
                return None;
            }
            HeaderValue::from_str(listed).ok()?
        };
        if !request.body().is_end_stream() {
            return None;
        }
        let client = request.extensions_mut().remove::<OnUpgrade>()?;
        if over_http2 {
            as_in_http1(request, &to);
        }
        request.extensions_mut().insert(Asked(to.clone()));
        let told = request.extensions().get().cloned();
        Some(Self { client, to, over_http2, told })
    }

    /// Whether the client would take `response` for the beginning of a tunnel, and it is none: over HTTP/2 any success is one (RFC
    /// 8441 §4), and a backend that does not switch may well answer with one.
    pub(super) fn is_misleading<R>(&self, response: &Response<R>) -> bool {
        self.over_http2 && response.status().is_success()
    }

    /// The two ends of a tunnel, where the backend has switched, which the client is told.
    pub(super) fn switch<R>(self, response: &mut Response<R>) -> Option<(OnUpgrade, OnUpgrade)> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let backend = response.extensions_mut().remove::<OnUpgrade>()?;
        if self.over_http2 {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        } else {
            Asked(self.to).ask(response.headers_mut());
            if let Some(told) = self.told {
                told.switched();
            }
        }
        Some((self.client, backend))
    }
}

/// The first that a client wants and may have.
fn first_listed<'a>(wanted: ValueIter<'_, HeaderValue>, protocols: &'a [Box<str>]) -> Option<&'a str> {
    let is = |listed: &str, wanted: &[u8]| wanted.trim_ascii().eq_ignore_ascii_case(listed.as_bytes());
    wanted
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .find_map(|wanted| protocols.iter().find(|listed| is(listed, wanted)).map(|listed| &**listed))
}

/// Without this, `Upgrade` is left over from another hop (RFC 9110 §7.8).
fn nominates_upgrade(headers: &HeaderMap) -> bool {
    let names = |line: &HeaderValue| {
        line.as_bytes().split(|&byte| byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    headers.get_all(header::CONNECTION).iter().any(names)
}

/// What the same client would have sent over HTTP/1.1, with what only that has.
fn as_in_http1<B>(request: &mut Request<B>, to: &HeaderValue) {
    *request.method_mut() = Method::GET;
    request.extensions_mut().remove::<Protocol>();
    if to == WEBSOCKET {
        // 16 bytes that nobody else would send, in base64: hexadecimal digits are digits of it as well.
        let nonce = RandomState::new().hash_one(0) as u128 | 1 << 80;
        if let Ok(key) = HeaderValue::try_from(format!("{nonce:021x}A==")) {
            request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
        }
        const VERSION: HeaderName = header::SEC_WEBSOCKET_VERSION;
        request.headers_mut().entry(VERSION).or_insert(HeaderValue::from_static("13"));
    }
}
