//! Through whom a request has come (RFC 9110 §7.6.3).

use super::Refused;
use crate::http::token::in_token;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use std::fmt;

/// What this proxy is called in `Via`, with each version that a request may have.
#[derive(Clone)]
pub(super) struct Pseudonym {
    name: Box<str>,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

impl Pseudonym {
    /// `None` where it is no token.
    pub(super) fn new(name: &str) -> Option<Self> {
        if name.is_empty() || !name.bytes().all(in_token) {
            return None;
        }
        let with = |version: &str| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { name: name.into(), http10: with("1.0")?, http11: with("1.1")?, http2: with("2")? })
    }

    /// Adds this proxy to those through which the request has come, unless it has been here.
    pub(super) fn add(
        &self,
        headers: &mut HeaderMap,
        version: Version,
        came_through_some: bool,
    ) -> Result<(), Refused> {
        let own = match version {
            Version::HTTP_10 => &self.http10,
            Version::HTTP_2 => &self.http2,
            _ => &self.http11,
        };
        if !came_through_some {
            headers.insert(header::VIA, own.clone());
            return Ok(());
        }
        if headers.get_all(header::VIA).iter().any(|line| self.is_in(line.as_bytes())) {
            return Err(Refused::new(StatusCode::LOOP_DETECTED, "it has been here before"));
        }
        headers.append(header::VIA, own.clone());
        Ok(())
    }

    /// Of each element, the second word is who received it.
    fn is_in(&self, line: &[u8]) -> bool {
        let words = |element: &'_ [u8]| -> Option<bool> {
            let mut words = element.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            Some(words.nth(1)?.eq_ignore_ascii_case(self.name.as_bytes()))
        };
        line.split(|&byte| byte == b',').filter_map(words).any(|own| own)
    }
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
