//! `[[routes]]`: which requests go to which pool.

use super::value::{Scalar, Value};
use serde::Deserialize;
use std::{cmp::Reverse, fmt};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    #[serde(default)]
    pub host: Option<Value<HostPattern>>,
    #[serde(default)]
    pub path_prefix: Option<Value<Prefix>>,
    pub pool: Value<String>,
}

impl Route {
    /// Everything goes to `pool`.
    pub fn all(pool: &str) -> Self {
        Self { host: None, path_prefix: None, pool: pool.to_owned().into() }
    }

    pub fn prefix(&self) -> &str {
        self.path_prefix.as_ref().map_or("", |prefix| &prefix.0)
    }

    /// The more specific comes first: by host, then by path.
    pub fn order(&self) -> impl Ord + use<> {
        let host = match self.host.as_deref() {
            Some(HostPattern::Exact(_)) => (0, Reverse(0)),
            Some(HostPattern::Below(domain)) => (1, Reverse(domain.len())),
            None => (2, Reverse(0)),
        };
        (host, Reverse(self.prefix().len()))
    }

    pub fn matches(&self, host: &str, path: &str) -> bool {
        self.host.as_ref().is_none_or(|pattern| pattern.matches(host))
            && path
                .strip_prefix(self.prefix())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.prefix().is_empty())
    }
}

/// `example.com`, or `*.example.com` for what is below it. Whatever the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    Exact(String),
    /// With its dot: `.example.com`.
    Below(String),
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(domain) => {
                let begin = host.len().checked_sub(domain.len()).filter(|begin| *begin > 0);
                begin.and_then(|begin| host.get(begin..)).is_some_and(|end| domain.eq_ignore_ascii_case(end))
            }
        }
    }
}

impl Scalar for HostPattern {
    fn read(text: &str) -> Result<Self, String> {
        let (below, name) = text.strip_prefix('*').map_or((false, text), |rest| (true, rest));
        let bare = if below { name.strip_prefix('.').unwrap_or_default() } else { name };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_address = bare
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .is_some_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok());
        if bare.is_empty() || !(bare.bytes().all(is_name) || (is_address && !below)) {
            let expected = "expected a host without a port, such as example.com or *.example.com";
            return Err(format!("invalid host {text:?}: {expected}"));
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*{domain}"),
        }
    }
}

/// The beginning of a path, in whole segments, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Scalar for Prefix {
    fn read(text: &str) -> Result<Self, String> {
        let is_path =
            text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok_and(|it| it.query().is_none());
        if !is_path {
            return Err(format!("invalid path prefix {text:?}: expected one such as /api"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}
