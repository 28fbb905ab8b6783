//! What the backend is told about the client.

use super::{Network, behind::behind, seen::Seen};
use crate::http::{Peer, token::in_token};
use http::{HeaderMap, HeaderValue, Request, header, header::HeaderName};
use std::fmt::Write;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What is said, and who is believed.
#[derive(Clone, Debug, Default)]
pub(super) struct Telling {
    pub(super) trusted: Box<[Network]>,
    pub(super) forwarded: bool,
    pub(super) real_ip: bool,
}

impl Telling {
    /// Says who asks. What the request says of that itself stays only where it comes from a proxy that is trusted.
    pub(super) fn tell<B>(&self, request: &mut Request<B>, host: Option<HeaderValue>, seen: Seen) {
        let peer = request.extensions().get::<Peer>();
        let trusts = |peer: &Peer| self.trusted.iter().any(|network| network.contains(peer.ip()));
        let trusted = !self.trusted.is_empty() && peer.is_some_and(trusts);
        let address = peer.map(|peer| peer.ip_text().clone());
        let scheme = peer.map(|peer| peer.scheme_text().clone());
        let forwarded = peer.filter(|_| self.forwarded).and_then(|peer| forwarded(peer, host.as_ref()));

        let names = (&X_FORWARDED_FOR, &X_FORWARDED_PROTO);
        let client = peer.filter(|_| trusted).map(|peer| behind(peer, request.headers(), names, &self.trusted));

        let headers = request.headers_mut();
        if let Some(client) = client {
            extend(headers, X_FORWARDED_FOR, address.clone());
            keep(headers, X_FORWARDED_PROTO, scheme);
            keep(headers, X_FORWARDED_HOST, host);
            keep(headers, X_REAL_IP, address.filter(|_| self.real_ip));
            extend(headers, header::FORWARDED, forwarded);
            request.extensions_mut().insert(client);
            return;
        }
        if seen.claims {
            headers.remove(header::FORWARDED);
            headers.remove(X_REAL_IP);
        }
        if self.real_ip {
            set(headers, X_REAL_IP, address.clone());
        }
        set(headers, X_FORWARDED_FOR, address);
        set(headers, X_FORWARDED_PROTO, scheme);
        set(headers, X_FORWARDED_HOST, host);
        extend(headers, header::FORWARDED, forwarded);
    }
}

/// `name` with this value alone, or not at all.
fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => _ = headers.insert(name, value),
        None => _ = headers.remove(name),
    }
}

/// `name` with this value, where there is none yet.
fn keep(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.entry(name).or_insert(value);
    }
}

/// `name` with one more value at the end of its list, in a single line: some read only one.
fn extend(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    let Some(value) = value else { return };
    let mut all: Vec<_> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    if all.is_empty() {
        headers.insert(name, value);
        return;
    }
    all.push(value.as_bytes());
    // What was valid stays so with commas between.
    if let Ok(list) = HeaderValue::from_bytes(&all.join(&b", "[..])) {
        headers.insert(name, list);
    }
}

/// One hop as RFC 7239 has it.
fn forwarded(peer: &Peer, host: Option<&HeaderValue>) -> Option<HeaderValue> {
    let mut element = String::with_capacity(64);
    let ip = peer.ip();
    // IPv6 has brackets, and so quotes (RFC 7239 §6).
    _ = if ip.is_ipv6() { write!(element, "for=\"[{ip}]\"") } else { write!(element, "for={ip}") };
    if let Some(host) = host.and_then(|host| host.to_str().ok()) {
        _ = write!(element, ";host={}", quoted(host));
    }
    if let Ok(scheme) = peer.scheme_text().to_str() {
        _ = write!(element, ";proto={scheme}");
    }
    HeaderValue::try_from(element).ok()
}

/// As a token, or else as a quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(in_token) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Scheme;

    #[test]
    fn an_element_of_forwarded_is_quoted_where_it_must_be() {
        for (address, host, expected) in [
            ("192.0.2.43:1", Some("a.example"), "for=192.0.2.43;host=a.example;proto=https"),
            ("[2001:db8::1]:1", Some("a.example:8080"), r#"for="[2001:db8::1]";host="a.example:8080";proto=https"#),
            ("[::ffff:1.2.3.4]:1", Some(r#"a"\b"#), r#"for=1.2.3.4;host="a\"\\b";proto=https"#),
            ("192.0.2.43:1", None, "for=192.0.2.43;proto=https"),
        ] {
            let peer = Peer::new(address.parse().unwrap(), &Scheme::HTTPS);
            let host = host.map(HeaderValue::from_static);
            assert_eq!(forwarded(&peer, host.as_ref()).unwrap(), expected);
        }
    }
}
