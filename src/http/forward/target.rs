//! Whether what a request asks for, and of whom, can be asked of another.

use super::Refused;
use crate::http::{Peer, seldom};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use std::{
    net::Ipv6Addr,
    str::{FromStr, from_utf8},
};

/// What the client asked for: the authority of the target, where it has one, before `Host` (RFC 9112 §3.2.2).
pub(crate) fn host_of<B>(request: &Request<B>) -> Option<HeaderValue> {
    asked(request.uri().authority(), request.headers().get(header::HOST))
}

fn asked(authority: Option<&Authority>, host: Option<&HeaderValue>) -> Option<HeaderValue> {
    let authority = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    authority.or_else(|| host.cloned())
}

/// Refuses a method that is not for a proxy, a target of a form that does not fit it, and names that are no names. Returns whom
/// the client asked, as [`host_of`] does.
pub(super) fn check<B>(request: &Request<B>, target_limit: usize) -> Result<Option<HeaderValue>, Refused> {
    method(request.method())?;
    let uri = request.uri();
    if let Some(authority) = uri.authority() {
        // Of the targets of HTTP/1.1, only those of CONNECT have no scheme before the authority.
        if !uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS) {
            return Err(Refused::malformed("the target is of no form that fits the method"));
        }
        if !is_host(authority.as_str().as_bytes()) {
            return Err(Refused::malformed("the authority is malformed"));
        }
    }
    if uri.path() == "*" && *request.method() != Method::OPTIONS {
        return Err(Refused::malformed("only OPTIONS is asked of no resource"));
    }
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > target_limit {
        return Err(Refused::new(StatusCode::URI_TOO_LONG, "the target is too long"));
    }
    if !target.is_ascii() {
        return Err(Refused::malformed("the target is not ASCII"));
    }
    values(request)?;
    host(request)
}

/// What HTTP/1.1 takes off the ends of a value, in HTTP/2 none may have (RFC 9113 §8.2.1).
fn values<B>(request: &Request<B>) -> Result<(), Refused> {
    let is_padded = |value: &HeaderValue| matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if request.version() == Version::HTTP_2 && request.headers().values().any(is_padded) {
        return Err(Refused::malformed("a value has white space at an end"));
    }
    Ok(())
}

fn method(method: &Method) -> Result<(), Refused> {
    let reason = match *method {
        Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD | Method::OPTIONS | Method::PATCH => {
            return Ok(());
        }
        Method::CONNECT => "CONNECT is not supported",
        // It would show its sender what only the backend should see.
        Method::TRACE => "TRACE is not supported",
        // Methods are told apart by case, and not by everyone.
        _ if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) => "there is no method in lower case",
        _ => return Ok(()),
    };
    Err(Refused::new(StatusCode::NOT_IMPLEMENTED, reason))
}

fn host<B>(request: &Request<B>) -> Result<Option<HeaderValue>, Refused> {
    let (authority, host) = (request.uri().authority(), request.headers().get(header::HOST));
    if authority.is_none() && host.is_none() {
        unnamed(request)?;
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(Refused::malformed("Host is malformed"));
    }
    // HTTP/1.1 says which of them counts; in HTTP/2 one that differs is an attempt to be taken for another (RFC 9113 §8.3.1).
    if let (Some(authority), Some(host), Version::HTTP_2) = (authority, host, request.version())
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        return Err(Refused::malformed("Host is not the authority"));
    }
    Ok(asked(authority, host))
}

/// A client of HTTP/2 names an authority, or at least a `Host` (RFC 9113 §8.3.1). Who asks in the same process may leave the name
/// to the backend.
fn unnamed<B>(request: &Request<B>) -> Result<(), Refused> {
    if request.version() == Version::HTTP_2 && request.extensions().get::<Peer>().is_some() {
        return Err(Refused::malformed("there is neither an authority nor a Host"));
    }
    Ok(())
}

/// Whether this is a name or an address, with or without a port (RFC 3986 §3.2.2): without a user, which is refused (RFC 9110
/// §4.2.4), and without the addresses of a future version, which nobody could reach.
fn is_host(text: &[u8]) -> bool {
    // Of IPv6, which has colons of its own.
    if let [b'[', rest @ ..] = text {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
        let is_address = from_utf8(&rest[..end]).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
        return is_address && is_port(&rest[end + 1..]);
    }
    let mut rest = text;
    loop {
        let end = rest.iter().position(|&byte| !IN_NAME[usize::from(byte)]).unwrap_or(rest.len());
        rest = match &rest[end..] {
            [b'%', one, other, rest @ ..] if one.is_ascii_hexdigit() && other.is_ascii_hexdigit() => rest,
            port => return port.len() < text.len() && is_port(port),
        };
    }
}

/// What a name is made of, as it is: of all that may stand there without `,`, which some join two names with.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let unreserved = matches!(byte as u8, b'.' | b'-' | b'_' | b'~');
        let delimiter = matches!(byte as u8, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        table[byte] = unreserved || delimiter || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// Nothing, or a port after its colon.
fn is_port(text: &[u8]) -> bool {
    match text {
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => text.is_empty(),
    }
}

/// Of what there may be one, there is one. Looked at where some header has several lines.
pub(super) fn single(headers: &HeaderMap) -> Result<(), Refused> {
    if seldom::has_several(headers, &header::HOST) {
        return Err(Refused::malformed("there is more than one Host"));
    }
    if seldom::has_several(headers, &header::CONTENT_LENGTH) {
        return Err(Refused::malformed("there is more than one Content-Length"));
    }
    Ok(())
}

/// The one expectation that there is, is met; no other can be. HTTP/1.0 had none (RFC 9110 §10.1.1).
pub(super) fn expectation(headers: &mut HeaderMap, version: Version) -> Result<(), Refused> {
    if version == Version::HTTP_10 {
        headers.remove(header::EXPECT);
        return Ok(());
    }
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(header::EXPECT).iter().all(known) {
        return Ok(());
    }
    Err(Refused::new(StatusCode::EXPECTATION_FAILED, "the expectation is unknown"))
}

/// Takes one hop off what an `OPTIONS` may go (RFC 9110 §7.6.2). At none left, it is answered here.
pub(super) fn count_hop(headers: &mut HeaderMap) -> Result<(), Refused> {
    let Some(left) = headers.get(header::MAX_FORWARDS) else { return Ok(()) };
    let left: u32 = number(left).ok_or(Refused::malformed("Max-Forwards is no number"))?;
    let less = left.checked_sub(1).ok_or(Refused::new(StatusCode::NO_CONTENT, "it was to go no further"))?;
    headers.insert(header::MAX_FORWARDS, less.into());
    Ok(())
}

/// A length is said in one way: no list of equal ones, no sign, no zeros before it, and no more than fits where there is a
/// sign. What HTTP/2 checks by its value, a server of HTTP/1.1 reads by its letters.
pub(super) fn length(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    let zeros = length.len() > 1 && length.as_bytes()[0] == b'0';
    match number::<i64>(length).filter(|_| !zeros) {
        Some(_) => Ok(()),
        None => Err(Refused::malformed("Content-Length is malformed")),
    }
}

/// Digits and nothing else; `parse` would take a sign.
fn number<N: FromStr>(value: &HeaderValue) -> Option<N> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "a",
            "a.example",
            "a_b.example:8080",
            "127.0.0.1:1",
            "[::1]",
            "[2001:db8::1]:443",
            "a:",
            "a!b",
            "%41%2f:1",
            "[::ffff:1.2.3.4]",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            " ",
            "a b",
            "u@a",
            "u:p@a",
            "a/b",
            "a?b",
            "a#b",
            "a,b",
            "a:b",
            "a:80:80",
            "a:123456",
            ":80",
            "[::1",
            "[]",
            "[::1]a",
            "[g::]",
            "http://a",
            "a\\b",
            "\u{e9}",
            "a%zz",
            "a%2",
            "a%",
            "%",
            "[:::::::]",
            "[1:2]",
            "[::1%25lo]",
            "[v1.a]",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
