//! `upstream`: the connections to the backends, and how long they may be silent.

use super::{
    scalars::{UpTo, words},
    upstream_tls::UpstreamTls,
    value::{Fault, Value},
};
use http::uri::Scheme;
use serde::Deserialize;
use std::time::Duration;
use tower_balancer::http::{ClientConfig, HttpProbe, TlsConfig};

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
    pub tls: Option<UpstreamTls>,
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
            tls: None,
        }
    }
}

impl Upstream {
    pub fn client(&self) -> ClientConfig {
        let client = ClientConfig::new().connect_timeout(*self.connect_timeout).idle_timeout(*self.idle_timeout);
        let client = client.tls(self.tls());
        let client = match *self.protocol {
            Protocol::Http1 => client,
            Protocol::H2 => client.http2(),
            Protocol::Auto => client.auto(),
        };
        match self.max_idle.as_deref() {
            Some(connections) => client.max_idle(*connections as usize),
            None => client,
        }
    }

    /// `probe`, which speaks what requests speak. `elsewhere` is another server, which chooses where TLS lets it.
    pub fn probe(&self, probe: HttpProbe, elsewhere: bool) -> HttpProbe {
        let probe = probe.tls(self.tls());
        match *self.protocol {
            Protocol::Http1 => probe,
            Protocol::H2 if !elsewhere => probe.http2(),
            Protocol::H2 | Protocol::Auto => probe.auto(),
        }
    }

    /// For backends at `https://`; it has been validated.
    pub fn tls(&self) -> TlsConfig {
        let tls = self.tls.as_ref().map(UpstreamTls::config).transpose();
        tls.expect("it has been validated").unwrap_or_default()
    }

    pub fn validate(&self) -> Result<(), Fault> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.config().map(drop))
    }

    /// Of backends of which only the address is known: nobody sets up TLS for those who are to be reached without.
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Whether a client made for one does for the other: then its connections are kept.
    pub fn connects_as(&self, other: &Self) -> bool {
        let connects = |it: &Self| (*it.protocol, *it.connect_timeout, *it.idle_timeout, it.max_idle.clone());
        connects(self) == connects(other) && self.tls == other.tls
    }
}

words! {
    /// What is spoken to the backends.
    Protocol {
        Http1 = "http1",
        H2 = "h2",
        /// What a backend at `https://` chooses.
        Auto = "auto",
    }
}
