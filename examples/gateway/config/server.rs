//! `[server]`: the process, and the side of the clients.

use super::{
    scalars::{Share, UpTo, words},
    shapes::Many,
    token::{Token, TokenFile},
    value::{Scalar, Value},
};
use crate::serving::{
    limits,
    tls::{self, InvalidCertificate},
};
use http::{Uri, uri::Scheme};
use serde::Deserialize;
use std::{net::SocketAddr, num::NonZero, path::Path, time::Duration};
use tokio::sync::Semaphore;
use tower_balancer::http::Network;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: Many<SocketAddr>,
    pub admin: Value<Admin>,
    /// What the operator has to show; `None` where everyone on this machine is one.
    pub admin_token: Option<Value<Token>>,
    pub admin_token_file: Option<Value<TokenFile>>,
    /// The names by which the admin server is reached, beside its addresses and localhost.
    pub admin_host: Option<Many<HostName>>,
    /// `None` is one for each core.
    pub workers: Option<Value<Workers>>,
    pub shutdown_grace: Value<Duration>,
    pub trusted_proxies: Vec<Value<Network>>,
    /// The zone that this gateway is in.
    pub zone: Option<Value<String>>,
    pub reuse_port: Value<bool>,
    pub log: Value<LogFormat>,
    /// Of the attempts that go well, so many are told of.
    pub log_sample: Value<Share>,
    /// The collector that spans are sent to.
    pub otlp: Option<Value<Collector>>,
    /// Of the traces that begin here, so many are recorded.
    pub trace_sample: Value<Share>,
    /// Where clients come over TLS.
    pub tls: Option<Tls>,
    pub limits: Limits,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: Many(vec![SocketAddr::from(([127, 0, 0, 1], 3000)).into()]),
            admin: Admin::At(SocketAddr::from(([127, 0, 0, 1], 3100))).into(),
            admin_token: None,
            admin_token_file: None,
            admin_host: None,
            workers: None,
            shutdown_grace: Duration::from_secs(30).into(),
            trusted_proxies: Vec::new(),
            zone: None,
            reuse_port: true.into(),
            log: LogFormat::Text.into(),
            log_sample: Share(1.0).into(),
            otlp: None,
            trace_sample: Share(1.0).into(),
            tls: None,
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
    pub min_rate: Value<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: UpTo(NonZero::new(10_000)).into(),
            // Twice what common servers allow, so that they are the ones to say 431.
            max_header_bytes: HeaderBytes(64 * 1024).into(),
            max_streams: NonZero::new(100).unwrap_or(NonZero::<u32>::MIN).into(),
            header_read_timeout: Duration::from_secs(30).into(),
            idle_timeout: Duration::from_secs(60).into(),
            request_timeout: UpTo(None).into(),
            min_rate: limits::Limits::default().min_rate.into(),
        }
    }
}

impl Limits {
    /// The same for the connections; what has no key is as it is by itself.
    pub fn of_clients(&self) -> limits::Limits {
        limits::Limits {
            connections: self.max_connections.map_or(Semaphore::MAX_PERMITS, |most| most.get() as usize),
            head_time: *self.header_read_timeout,
            head_bytes: self.max_header_bytes.0,
            streams: self.max_streams.get(),
            idle: *self.idle_timeout,
            min_rate: *self.min_rate,
            ..limits::Limits::default()
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
            Ok(address) => Ok(Self::At(address)),
        }
    }
}

impl Server {
    /// What the operator has to show.
    pub fn token(&self) -> Option<&Token> {
        let of_file = || self.admin_token_file.as_ref().map(|file| &file.0);
        self.admin_token.as_deref().or_else(of_file)
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

/// Where a collector takes OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector(pub Uri);

impl Scalar for Collector {
    fn read(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>().ok();
        let is_right = |uri: &Uri| {
            let has_host = uri.host().is_some_and(|host| !host.is_empty());
            uri.scheme() == Some(&Scheme::HTTP) && has_host && uri.query().is_none()
        };
        uri.filter(is_right).map(Self).ok_or_else(|| {
            format!("invalid URL {text:?}: expected that of a collector, without TLS, such as http://127.0.0.1:4318")
        })
    }
}

/// The name of a machine, as clients write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl Scalar for HostName {
    fn read(text: &str) -> Result<Self, String> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        match text {
            "" => Err("invalid host \"\": expected a name such as gateway.example.com".to_owned()),
            _ if text.bytes().all(is_letter) => Ok(Self(text.to_owned())),
            _ => Err(format!("invalid host {text:?}: expected a name such as gateway.example.com, without a port")),
        }
    }
}

impl Scalar for Network {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid network {text:?}: expected one such as 10.0.0.0/8 or fd00::/8"))
    }
}

/// `tls`: the certificate chain that clients are shown, and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub cert: Value<String>,
    pub key: Value<String>,
}

impl Tls {
    /// What is in the files, now.
    pub fn load(&self) -> Result<tls::Tls, InvalidCertificate> {
        tls::Tls::load(Path::new(&**self.cert), Path::new(&**self.key))
    }
}
