//! `[fleet]`: the gateways that share their health checks, and the etcd through which they do.

use super::{
    etcd::Etcd,
    value::{Fault, Scalar, Value},
};
use serde::Deserialize;
use std::{fmt, num::NonZero, time::Duration};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    pub etcd: Etcd,
    pub prefix: Value<Prefix>,
    /// How many gateways ask each backend.
    #[serde(default)]
    pub k: Option<Value<NonZero<u32>>>,
    /// What this gateway is called; no two may have the same name.
    #[serde(default)]
    pub name: Option<Value<String>>,
    #[serde(default)]
    pub ttl: Option<Value<Ttl>>,
}

/// Two see more than one.
const PROBERS: u32 = 2;

/// A crash is noticed, and a lost etcd given up, within this time.
const TTL: Duration = Duration::from_secs(10);

/// What keys begin with: it ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(pub String);

impl Scalar for Prefix {
    fn read(text: &str) -> Result<Self, String> {
        let prefix = Some(text).filter(|text| text.ends_with('/') && text.len() > 1).map(str::to_owned);
        prefix.map(Self).ok_or_else(|| format!("invalid prefix {text:?}: expected one such as \"/gateways/\""))
    }
}

/// A time that etcd gives a lease for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(pub Duration);

impl Scalar for Ttl {
    fn read(text: &str) -> Result<Self, String> {
        let time = Duration::read(text)?;
        let is_good = time.subsec_nanos() == 0 && (2..=3_600).contains(&time.as_secs());
        if is_good {
            Ok(Self(time))
        } else {
            Err(format!("invalid ttl {text:?}: expected whole seconds from 2s to 1h"))
        }
    }
}

impl Fleet {
    pub fn probers(&self) -> u32 {
        self.k.as_deref().map_or(PROBERS, |k| k.get())
    }

    pub fn ttl(&self) -> Duration {
        self.ttl.as_deref().map_or(TTL, |ttl| ttl.0)
    }

    pub fn validate(&self) -> Result<(), Fault> {
        self.etcd.validate()?;
        if cfg!(feature = "etcd") {
            return Ok(());
        }
        let command = "cargo build --release --features etcd --example gateway";
        Err(self.etcd.endpoints[0]
            .fault(format!("a fleet is not in this build: build it with `{command}`, which needs protoc")))
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (etcd, prefix, k) = (&self.etcd, &self.prefix.value.0, self.probers());
        let ttl = humantime::format_duration(self.ttl());
        write!(f, "{etcd}, keys that begin with {prefix}; {k} gateways ask each backend; alone after {ttl}")
    }
}
