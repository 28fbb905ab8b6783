//! The cookies that a request carries (RFC 6265).

use http::{HeaderMap, header::COOKIE};

/// The cookies of all lines, and what stands between them.
pub(super) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(COOKIE).into_iter().flat_map(|header| header.as_bytes().split(|&byte| byte == b';'))
}

/// What a cookie of that name says, quotes left out; `None` where `pair` is another. Browsers take the spaces around a name and
/// a value away (§5.2), and so do some servers: with them it is that cookie as well.
pub(super) fn value<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// What the cookies of that name say.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    pairs(headers).filter_map(move |pair| value(pair, name))
}
