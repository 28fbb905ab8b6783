//! `upstream`: the connections to the backends, and how long they may be silent.

use super::{
    scalars::UpTo,
    value::{Scalar, Value},
};
use serde::Deserialize;
use std::{fmt, time::Duration};
use tower_balancer::http::ClientConfig;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    pub protocol: Value<Protocol>,
    pub connect_timeout: Value<Duration>,
    pub response_timeout: Value<Duration>,
    pub body_timeout: Value<UpTo<Duration>>,
    pub idle_timeout: Value<Duration>,
    pub max_idle: Option<Value<u32>>,
    pub keep_host: Value<bool>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http1.into(),
            connect_timeout: Duration::from_secs(1).into(),
            response_timeout: Duration::from_secs(30).into(),
            body_timeout: UpTo(Some(Duration::from_secs(300))).into(),
            idle_timeout: Duration::from_secs(90).into(),
            max_idle: None,
            keep_host: false.into(),
        }
    }
}

impl Upstream {
    pub fn client(&self) -> ClientConfig {
        let client = ClientConfig::new().connect_timeout(*self.connect_timeout).idle_timeout(*self.idle_timeout);
        let client = if *self.protocol == Protocol::H2 { client.http2() } else { client };
        match self.max_idle.as_deref() {
            Some(connections) => client.max_idle(*connections as usize),
            None => client,
        }
    }

    /// Whether a client made for one does for the other: then its connections are kept.
    pub fn connects_as(&self, other: &Self) -> bool {
        let connects = |it: &Self| (*it.protocol, *it.connect_timeout, *it.idle_timeout, it.max_idle.clone());
        connects(self) == connects(other)
    }
}

/// What is spoken to the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    H2,
}

impl Scalar for Protocol {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "http1" => Ok(Self::Http1),
            "h2" => Ok(Self::H2),
            "auto" => Err("auto is not supported in this build: expected http1 or h2".to_owned()),
            _ => Err(format!("invalid protocol {text:?}: expected http1 or h2")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "http1",
            Self::H2 => "h2",
        })
    }
}
