use crate::error::BoxError;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{fmt, path::PathBuf, time::Duration};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

/// Where the API server of a Kubernetes cluster is, and who asks.
///
/// ```
/// use tower_balancer::discover::KubernetesConfig;
///
/// // In a pod:
/// let config = KubernetesConfig::in_cluster();
/// // elsewhere:
/// let config = KubernetesConfig::kubeconfig("/home/me/.kube/config").context("staging");
/// # let _ = config;
/// ```
///
/// Files are read when the first question is asked, and again after a failure. A token in a file is read again each minute.
///
/// # Limits
///
/// Where a kubeconfig says that a command tells who asks (`exec`), the runtime's thread waits for that command. A proxy is not
/// used, whether the kubeconfig or the environment names it. https needs a provider of cryptography for the process; where the
/// host has installed none, ring becomes it.
#[derive(Clone)]
pub struct KubernetesConfig {
    place: Place,
    server: Option<String>,
    timeout: Duration,
}

#[derive(Clone)]
enum Place {
    InCluster,
    Kubeconfig { path: PathBuf, context: Option<String> },
}

/// An API server answers within milliseconds, or is being replaced.
const TIMEOUT: Duration = Duration::from_secs(10);

impl KubernetesConfig {
    /// The cluster in which this process is a pod, asked as its service account. The server is looked for at
    /// `https://kubernetes.default.svc`; see [`server`](Self::server).
    pub fn in_cluster() -> Self {
        Self { place: Place::InCluster, server: None, timeout: TIMEOUT }
    }

    /// What the kubeconfig at `path` says, in its current context.
    pub fn kubeconfig(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::Kubeconfig { path: path.into(), context: None }, server: None, timeout: TIMEOUT }
    }

    /// Another context of the kubeconfig. Without one it does nothing.
    pub fn context(mut self, name: impl Into<String>) -> Self {
        if let Place::Kubeconfig { context, .. } = &mut self.place {
            *context = Some(name.into());
        }
        self
    }

    /// The URL of the API server, instead of what is said elsewhere. A pod that cannot resolve the names of its cluster has it
    /// in its environment: `https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT`.
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.server = Some(url.into());
        self
    }

    /// How long an answer may take, by default 10 s. From a millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// A client of the API server. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read, or what is in it makes no client.
    pub(super) async fn connect(&self) -> Result<Client, BoxError> {
        let mut config = match &self.place {
            // As words, because the causes alone do not say which file it is.
            Place::InCluster => Config::incluster_dns()
                .map_err(|error| format!("this process is no pod with a service account: {error}"))?,
            Place::Kubeconfig { path, context } => {
                let named = |error| format!("{}: {error}", path.display());
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                let mut kubeconfig = Kubeconfig::read_from(path).map_err(named)?;
                // The client is built without, and refuses one; where none is named it looks for one in the environment.
                let clusters = kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut());
                clusters.for_each(|cluster| cluster.proxy_url = Some("http://unused".into()));
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(named)?
            }
        };
        if let Some(server) = &self.server {
            config.cluster_url = server.parse()?;
        }
        config.proxy_url = None;
        config.connect_timeout = Some(self.timeout);
        // When to ask again is for others to say.
        config.default_retry = false;
        if config.cluster_url.scheme_str() == Some("https") && CryptoProvider::get_default().is_none() {
            // The client takes the one of the process, and panics where several are in the build and none was chosen.
            _ = ring::default_provider().install_default();
        }
        Ok(Client::try_from(config)?)
    }

    /// What `answer` comes to, if it comes in time.
    pub(super) async fn in_time<A>(
        &self,
        answer: impl Future<Output = Result<A, kube::Error>>,
    ) -> Result<A, kube::Error> {
        let late = || kube::Error::Service(format!("no answer within {:?}", self.timeout).into());
        timeout(self.timeout, answer).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Without what is secret.
impl fmt::Debug for KubernetesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("KubernetesConfig");
        match &self.place {
            Place::InCluster => debug.field("place", &"in cluster"),
            Place::Kubeconfig { path, context } => debug.field("kubeconfig", path).field("context", context),
        };
        debug.field("server", &self.server).field("timeout", &self.timeout).finish()
    }
}
