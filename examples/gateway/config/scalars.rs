//! What a single value may be, and what is expected where it is not: numbers, times, shares, addresses, names.

use super::value::Scalar;
use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};
use std::{net::SocketAddr, num::NonZero, ops::Deref, time::Duration};
use tower_balancer::{
    backend::{InvalidOrigin, Origin, Weight},
    http::{InvalidKey, RequestKey},
    strategy::{InvalidSecret, SessionSecret},
};

/// A bound that may be missing: 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpTo<T>(pub Option<T>);

impl<T> Deref for UpTo<T> {
    type Target = Option<T>;

    fn deref(&self) -> &Option<T> {
        &self.0
    }
}

impl Scalar for UpTo<NonZero<u32>> {
    fn read(text: &str) -> Result<Self, String> {
        u32::read(text).map(|number| Self(NonZero::new(number)))
    }
}

impl Scalar for UpTo<Duration> {
    fn read(text: &str) -> Result<Self, String> {
        duration(text).map(|time| Self(Some(time).filter(|time| !time.is_zero())))
    }
}

/// A share: `0.2`, or `20%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Scalar for Share {
    fn read(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse().map(|percent: f64| percent / 100.0),
            None => text.parse(),
        };
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        let expected = || format!("invalid share {text:?}: expected a number from 0 to 1, or a percentage such as 50%");
        share.ok().filter(is_share).map(Self).ok_or_else(expected)
    }
}

impl Scalar for u32 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid number {text:?}: expected a whole number from 0"))
    }
}

impl Scalar for NonZero<u32> {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid number {text:?}: expected a whole number from 1"))
    }
}

impl Scalar for NonZero<u16> {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid port {text:?}: expected a number from 1 to 65535"))
    }
}

impl Scalar for f64 {
    fn read(text: &str) -> Result<Self, String> {
        let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| format!("invalid number {text:?}: expected a number that is not negative"))
    }
}

impl Scalar for bool {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid value {text:?}: expected true or false"))
    }
}

impl Scalar for String {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("expected something, not nothing".to_owned()) } else { Ok(text.to_owned()) }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("invalid duration {text:?}: expected a duration such as 5s or 500ms"))
}

impl Scalar for Duration {
    fn read(text: &str) -> Result<Self, String> {
        match duration(text)? {
            Self::ZERO => Err(format!("invalid duration {text:?}: expected more than zero")),
            time => Ok(time),
        }
    }
}

impl Scalar for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        let expected = "expected an IP address and a port such as 127.0.0.1:3000";
        text.parse().map_err(|_| format!("invalid address {text:?}: {expected}"))
    }
}

impl Scalar for PathAndQuery {
    fn read(text: &str) -> Result<Self, String> {
        let path = text.parse().ok().filter(|_| text.starts_with('/'));
        path.ok_or_else(|| format!("invalid path {text:?}: expected a path such as /healthz"))
    }
}

impl Scalar for Origin {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: InvalidOrigin| error.to_string())
    }
}

impl Scalar for Weight {
    fn read(text: &str) -> Result<Self, String> {
        let expected = || format!("invalid weight {text:?}: expected a finite number that is not negative");
        text.parse().ok().and_then(|weight| Self::new(weight).ok()).ok_or_else(expected)
    }
}

impl Scalar for RequestKey {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: InvalidKey| error.to_string())
    }
}

impl Scalar for SessionSecret {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: InvalidSecret| error.to_string())
    }
}

impl Scalar for Method {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid method {text:?}: expected one such as GET"))
    }
}

impl Scalar for HeaderName {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid header name {text:?}"))
    }
}

impl Scalar for HeaderValue {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid header value {text:?}: expected visible letters"))
    }
}

/// An enumeration that is written as one of a few words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $crate::config::Scalar for $name {
            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("invalid value {text:?}: expected {}", [$($word),+].join(", "))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}
pub(crate) use words;
