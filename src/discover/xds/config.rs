use crate::error::BoxError;
use std::{fmt, time::Duration};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Where a control plane is, and who asks.
///
/// ```
/// use tower_balancer::discover::XdsConfig;
///
/// # let ca = "";
/// let config = XdsConfig::new(["https://xds-1.internal:18000", "https://xds-2.internal:18000"])
///     .node("gateway-1", "gateways")
///     .zone("eu-1a")
///     .ca(ca);
/// # let _ = config;
/// ```
#[derive(Clone)]
pub struct XdsConfig {
    servers: Vec<String>,
    pub(super) id: String,
    pub(super) cluster: String,
    pub(super) zone: String,
    tls: ClientTlsConfig,
    pub(super) timeout: Duration,
}

/// A control plane answers within milliseconds, or has yet to look for what it is asked.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How often a quiet connection is looked at, and how long that may take: a machine that is gone says nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

impl XdsConfig {
    /// A control plane with these servers, `http://host:port` or `https://host:port`. One is talked to at a time; after a
    /// failure the next.
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        let servers = servers.into_iter().map(Into::into).collect();
        let (id, cluster, zone) = Default::default();
        Self { servers, id, cluster, zone, tls: ClientTlsConfig::new(), timeout: TIMEOUT }
    }

    /// Who asks: the id of this node, and the cluster of those like it. Many control planes answer by them; both are empty
    /// unless they are said.
    pub fn node(mut self, id: impl Into<String>, cluster: impl Into<String>) -> Self {
        (self.id, self.cluster) = (id.into(), cluster.into());
        self
    }

    /// The zone of this node, for control planes that answer by it.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// The certificate, in PEM, by which the certificates of `https` servers are judged; with none they are not trusted.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls = self.tls.ca_certificate(Certificate::from_pem(pem));
        self
    }

    /// The own certificate and its key, in PEM, where the control plane asks for one.
    pub fn identity(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.tls = self.tls.identity(Identity::from_pem(certificate, key));
        self
    }

    /// The name that the certificates of the servers are for, where it is not their host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.tls = self.tls.domain_name(name);
        self
    }

    /// How long an answer may take, by default 15 s, as in gRPC. From a millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// One of the servers, another with each `turn`.
    pub(super) fn server(&self, turn: usize) -> Result<&str, BoxError> {
        let server = self.servers.get(turn % self.servers.len().max(1));
        Ok(server.ok_or("there are no servers of the control plane")?)
    }

    /// A connection to `server`.
    pub(super) async fn connect(&self, server: &str) -> Result<Channel, BoxError> {
        let mut endpoint = Endpoint::from_shared(server.to_owned())?
            .connect_timeout(self.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(self.tls.clone())?;
        }
        Ok(endpoint.connect().await?)
    }
}

/// Without what is secret.
impl fmt::Debug for XdsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdsConfig")
            .field("servers", &self.servers)
            .field("id", &self.id)
            .field("cluster", &self.cluster)
            .field("zone", &self.zone)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
