use crate::error::BoxError;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Where an etcd is, and who asks.
///
/// ```
/// use tower_balancer::discover::EtcdConfig;
///
/// # let (ca, certificate, key) = ("", "", "");
/// let config = EtcdConfig::new(["https://10.0.0.1:2379", "https://10.0.0.2:2379"])
///     .ca(ca)
///     .identity(certificate, key)
///     .credentials("gateway", "secret");
/// # let _ = config;
/// ```
#[derive(Clone)]
pub struct EtcdConfig {
    endpoints: Vec<String>,
    credentials: Option<(String, String)>,
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    server_name: Option<String>,
    timeout: Duration,
    reading: Option<Reading>,
}

/// What is read before each connection.
type Reading = Arc<dyn Fn(EtcdConfig) -> Result<EtcdConfig, BoxError> + Send + Sync>;

/// An etcd answers within milliseconds, or has no leader for as long as an election takes.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a quiet connection is looked at, and how long that may take: a machine that is gone says nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

impl EtcdConfig {
    /// An etcd with these endpoints, `http://host:port` or `https://host:port`. One is talked to at a time; after a failure the
    /// next.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        let (credentials, ca, identity, server_name, reading) = Default::default();
        Self { endpoints, credentials, ca, identity, server_name, timeout: TIMEOUT, reading }
    }

    /// The user to be, where etcd asks for one.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// The certificate, in PEM, by which the certificates of `https` endpoints are judged; with none they are not trusted.
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// The own certificate and its key, in PEM, where etcd asks for one.
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The name that the certificates of the endpoints are for, where it is not their host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long an answer may take, by default 5 s. From a millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Asks `read` before each connection what to make of this: for passwords and certificates that are replaced while the
    /// process runs. Where it fails the connection fails, and is tried again.
    ///
    /// It is called on the runtime, so it should read small local files at most.
    ///
    /// ```
    /// use std::fs::read_to_string;
    /// use tower_balancer::discover::EtcdConfig;
    ///
    /// let config = EtcdConfig::new(["http://10.0.0.1:2379"])
    ///     .reading(|config| Ok(config.credentials("gateway", read_to_string("/run/etcd-password")?.trim_end())));
    /// # let _ = config;
    /// ```
    pub fn reading(mut self, read: impl Fn(Self) -> Result<Self, BoxError> + Send + Sync + 'static) -> Self {
        self.reading = Some(Arc::new(read));
        self
    }

    /// How many endpoints there are.
    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// A client of one of the endpoints, another with each `turn`.
    ///
    /// # Errors
    ///
    /// Where there is no endpoint, one is none, the user is not let in, or what is to be [read](Self::reading) cannot be.
    pub(crate) async fn connect(&self, turn: usize) -> Result<Client, BoxError> {
        match &self.reading {
            Some(read) => read(Self { reading: None, ..self.clone() })?.open(turn).await,
            None => self.open(turn).await,
        }
    }

    async fn open(&self, turn: usize) -> Result<Client, BoxError> {
        let endpoint =
            self.endpoints.get(turn % self.endpoints.len().max(1)).ok_or("there are no endpoints of etcd")?;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.timeout)
            .with_keep_alive(KEEP_ALIVE, self.timeout)
            .with_keep_alive_while_idle(true)
            // One that has lost the others knows nothing new and would not say so.
            .with_require_leader(true);
        if let Some((user, password)) = &self.credentials {
            options = options.with_user(user, password);
        }
        if let Some(tls) = self.tls() {
            options = options.with_tls(tls);
        }
        self.in_time(Client::connect([endpoint], Some(options))).await
    }

    fn tls(&self) -> Option<TlsOptions> {
        let mut tls = None;
        if let Some(ca) = &self.ca {
            tls = Some(TlsOptions::new().ca_certificate(Certificate::from_pem(ca)));
        }
        if let Some((certificate, key)) = &self.identity {
            tls = Some(tls.unwrap_or_default().identity(Identity::from_pem(certificate, key)));
        }
        if let Some(name) = &self.server_name {
            tls = Some(tls.unwrap_or_default().domain_name(name));
        }
        tls
    }

    /// What `answer` comes to, if it comes in time.
    pub(crate) async fn in_time<A>(
        &self,
        answer: impl Future<Output = Result<A, etcd_client::Error>>,
    ) -> Result<A, BoxError> {
        match timeout(self.timeout, answer).await {
            Ok(answer) => answer.map_err(causal),
            Err(_late) => Err(format!("no answer within {:?}", self.timeout).into()),
        }
    }
}

/// An error whose causes can be followed to the innermost: the client's own leads nowhere.
pub(crate) fn causal(error: etcd_client::Error) -> BoxError {
    match error {
        etcd_client::Error::GRpcStatus(status) => status.into(),
        other => other.into(),
    }
}

/// Without what is secret.
impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
