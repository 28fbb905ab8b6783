//! `[server]`: the process, and the side of the clients.

use super::{
    scalars::{UpTo, words},
    shapes::Many,
    value::{Scalar, Value},
};
use serde::Deserialize;
use std::{net::IpAddr, net::SocketAddr, num::NonZero, time::Duration};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: Many<SocketAddr>,
    pub admin: Value<Admin>,
    /// `None` is one for each core.
    pub workers: Option<Value<Workers>>,
    pub shutdown_grace: Value<Duration>,
    pub trusted_proxies: Vec<Value<Network>>,
    /// The zone that this gateway is in.
    pub zone: Option<Value<String>>,
    pub reuse_port: Value<bool>,
    pub log: Value<LogFormat>,
    pub limits: Limits,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: Many(vec![SocketAddr::from(([127, 0, 0, 1], 3000)).into()]),
            admin: Admin::At(SocketAddr::from(([127, 0, 0, 1], 3100))).into(),
            workers: None,
            shutdown_grace: Duration::from_secs(30).into(),
            trusted_proxies: Vec::new(),
            zone: None,
            reuse_port: true.into(),
            log: LogFormat::Text.into(),
            limits: Limits::default(),
        }
    }
}

/// `[server.limits]`: what a client may take up.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub max_connections: Value<UpTo<NonZero<u32>>>,
    pub max_header_bytes: Value<HeaderBytes>,
    pub max_streams: Value<NonZero<u32>>,
    pub header_read_timeout: Value<Duration>,
    pub idle_timeout: Value<Duration>,
    pub request_timeout: Value<UpTo<Duration>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: UpTo(None).into(),
            // Twice what common servers allow, so that they are the ones to say 431.
            max_header_bytes: HeaderBytes(64 * 1024).into(),
            max_streams: NonZero::new(200).unwrap_or(NonZero::<u32>::MIN).into(),
            header_read_timeout: Duration::from_secs(30).into(),
            idle_timeout: Duration::from_secs(60).into(),
            request_timeout: UpTo(None).into(),
        }
    }
}

/// The most that the head of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderBytes(pub u32);

impl Scalar for HeaderBytes {
    fn read(text: &str) -> Result<Self, String> {
        // Hyper reads no less at a time.
        let bytes = u32::read(text).ok().filter(|bytes| (8_192..=16_777_216).contains(bytes));
        bytes.map(Self).ok_or_else(|| format!("invalid size {text:?}: expected 8192 to 16777216 bytes"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers(pub u16);

impl Scalar for Workers {
    fn read(text: &str) -> Result<Self, String> {
        let workers = text.parse().ok().filter(|workers| (1..=1024).contains(workers));
        workers.map(Self).ok_or_else(|| format!("invalid number {text:?}: expected 1..=1024"))
    }
}

/// Where the admin server listens, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    Off,
    At(SocketAddr),
}

impl Admin {
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Scalar for Admin {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = |expected: &str| format!("invalid address {text:?}: expected {expected}");
        match text.parse::<SocketAddr>() {
            _ if text == "off" => Ok(Self::Off),
            Err(_) => Err(wrong("an address such as 127.0.0.1:3100, or off")),
            Ok(address) if address.ip().is_loopback() => Ok(Self::At(address)),
            Ok(_) => Err(wrong("a loopback address, or off")),
        }
    }
}

words! {
    /// How events are written.
    LogFormat {
        /// One line per event, for people.
        Text = "text",
        /// One JSON object per event.
        Json = "json",
        /// Not at all.
        Off = "off",
    }
}

/// Addresses that begin alike: `10.0.0.0/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(mine), IpAddr::V4(other)) => {
                (mine.to_bits() ^ other.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(mine), IpAddr::V6(other)) => {
                (mine.to_bits() ^ other.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    pub fn is_everyone(self) -> bool {
        self.bits == 0
    }
}

impl Scalar for Network {
    fn read(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let network = || {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
            (bits <= most).then_some(Self { address, bits })
        };
        network().ok_or_else(|| format!("invalid network {text:?}: expected one such as 10.0.0.0/8 or fd00::/8"))
    }
}
