mod config;
mod slices;
mod watching;

pub use self::config::KubernetesConfig;

use super::{AddressTarget, Endpoint, Families, Source, Update};
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::{error::BoxError, pool::Member};
use slices::{Backend, Choice, Found};
use std::{error::Error, fmt, net::SocketAddr, sync::Arc};
use watching::{News, Watching};

/// The pods behind a Service of Kubernetes, by its EndpointSlices (discovery.k8s.io/v1: Kubernetes 1.21 and later).
///
/// ```no_run
/// use tower_balancer::{BackendPool, Discoverer, discover::{KubernetesConfig, KubernetesSource}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = BackendPool::empty();
/// let source = KubernetesSource::new(KubernetesConfig::in_cluster(), "web.shop")?.port("http").http();
/// let discoverer = Discoverer::new(&pool, source);
/// tokio::spawn(discoverer.run());
/// # Ok(())
/// # }
/// ```
///
/// | the slices say | that is |
/// |---|---|
/// | ready, or nothing | a backend, in the endpoint's zone |
/// | serving and terminating | one that is drained: it gets no new requests but those of its sessions. Where there is no other, it gets them all |
/// | neither | nobody: one that was there leaves |
/// | the same address twice | one backend: a slice that calls it ready goes before one that does not |
/// | an IPv4 and an IPv6 address of one pod | one backend, at the IPv4 address |
/// | no such port, an address that is none, names instead of addresses | what is left out and named; a failure where nothing else is left |
///
/// All slices of the service are listed, then changes arrive as they happen. A watch that ends is begun again where it ended.
/// After a failure, and where the server has forgotten what was missed (410), all are listed anew. A connection that is dead
/// without a word is noticed after 75 s.
///
/// The service account needs the verbs `list` and `watch` for `endpointslices` of the API group `discovery.k8s.io`, in the
/// service's namespace.
///
/// # Limits
///
/// Hints (`forZones`) are not followed: [`Zones`](crate::strategy::Zones) decides by the zones themselves. What the Service
/// itself says (session affinity, traffic policies, its port numbers) is not read. The connection is a task that the client
/// runs on the runtime, and which ends with the source.
pub struct KubernetesSource<T> {
    config: KubernetesConfig,
    service: String,
    namespace: Option<String>,
    choice: Choice,
    target: AddressTarget<T>,
    watching: Option<Watching>,
}

impl KubernetesSource<SocketAddr> {
    /// The pods behind `service`: `web.shop` is the Service web in the namespace shop, `web` one in the namespace that `config`
    /// is for.
    ///
    /// # Errors
    ///
    /// [`InvalidService`] where `service` is no such name.
    pub fn new(config: KubernetesConfig, service: &str) -> Result<Self, InvalidService> {
        let mut labels = service.split('.');
        let (name, namespace) = (labels.next().unwrap_or_default(), labels.next());
        if labels.next().is_some() || !std::iter::once(name).chain(namespace).all(is_label) {
            return Err(InvalidService(service.to_owned()));
        }
        let target = Arc::new(|address: SocketAddr| Ok(Member::new(address.to_string(), address)));
        let (service, namespace) = (name.to_owned(), namespace.map(str::to_owned));
        Ok(Self { config, service, namespace, choice: Choice::default(), target, watching: None })
    }
}

/// Whether Kubernetes takes it for the name of a service or a namespace (RFC 1123).
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.starts_with('-') && !text.ends_with('-') && (1..=63).contains(&text.len()) && text.bytes().all(is_inner)
}

#[cfg(feature = "http")]
impl KubernetesSource<SocketAddr> {
    /// HTTP backends at these addresses.
    pub fn http(self) -> KubernetesSource<Origin> {
        self.with(|address| Ok(Member::url(&format!("http://{address}"))?))
    }

    /// HTTP backends at these addresses, over TLS. The name that their certificates are for has to be said to the client.
    pub fn https(self) -> KubernetesSource<Origin> {
        self.with(|address| Ok(Member::url(&format!("https://{address}"))?))
    }
}

impl<T> KubernetesSource<T> {
    /// The same with members of another kind, made by `target` of each address. One for which it fails is left out; the zone
    /// of an endpoint goes before what it says.
    pub fn with<U>(
        self,
        target: impl Fn(SocketAddr) -> Result<Member<U>, BoxError> + Send + Sync + 'static,
    ) -> KubernetesSource<U> {
        let Self { config, service, namespace, choice, .. } = self;
        KubernetesSource { config, service, namespace, choice, target: Arc::new(target), watching: None }
    }

    /// Which port of the pods: its name in the Service, or its number at the pods (the `targetPort`). Without it, the only one
    /// there is.
    pub fn port(mut self, port: impl Into<String>) -> Self {
        self.choice.port = Some(port.into());
        self
    }

    /// Which addresses count, by default both families.
    pub fn families(mut self, families: Families) -> Self {
        self.choice.families = families;
        self
    }

    /// The next change, or all there is.
    async fn look(&mut self) -> Result<Update<T>, BoxError> {
        // Taken, and put back where it is still good: after a failure all are listed anew.
        if let Some(mut watching) = self.watching.take() {
            let news = watching.follow(&self.config).await?;
            match news {
                News::Changed => return self.told(watching),
                News::SignOfLife => {
                    self.watching = Some(watching);
                    return Ok(Update::unchanged());
                }
                News::Gone => {}
            }
        }
        let watching = Watching::begin(&self.config, self.namespace.as_deref(), &self.service).await?;
        self.told(watching)
    }

    /// What is there now.
    fn told(&mut self, watching: Watching) -> Result<Update<T>, BoxError> {
        let Found { backends, mut skipped } = Found::read(&watching.slices, &self.choice);
        let mut endpoints = Vec::with_capacity(backends.len());
        for (address, backend) in backends {
            match (self.target)(address) {
                Ok(member) => endpoints.push(endpoint(member, backend)),
                Err(problem) => skipped.push(format!("{address}: {problem}")),
            }
        }
        if let (true, Some(first)) = (endpoints.is_empty(), skipped.first()) {
            return Err(format!("there is nothing usable in the endpoint slices: {first}").into());
        }
        if watching.slices.is_empty() {
            skipped.push(format!("there are no endpoint slices of a service {}", self.service()));
        }
        let update = Update::set(endpoints).skipped(skipped).version(watching.version.as_str());
        self.watching = Some(watching);
        Ok(update)
    }

    fn service(&self) -> String {
        let namespace = self.namespace.iter().flat_map(|namespace| [".", namespace]);
        std::iter::once(self.service.as_str()).chain(namespace).collect()
    }
}

fn endpoint<T>(member: Member<T>, backend: Backend) -> Endpoint<T> {
    let member = match backend.zone {
        Some(zone) => member.zone(zone),
        None => member,
    };
    let endpoint = Endpoint::from(member);
    if backend.is_draining { endpoint.draining() } else { endpoint }
}

impl<T: Send + 'static> Source<T> for KubernetesSource<T> {
    async fn next(&mut self) -> Option<Result<Update<T>, BoxError>> {
        Some(self.look().await)
    }

    fn look_again(&mut self) -> bool {
        self.watching = None;
        true
    }

    fn name(&self) -> String {
        format!("kubernetes {}", self.service())
    }
}

impl<T> fmt::Debug for KubernetesSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesSource")
            .field("config", &self.config)
            .field("service", &self.service())
            .field("choice", &self.choice)
            .finish_non_exhaustive()
    }
}

/// The error for a text that is no name of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidService(String);

impl fmt::Display for InvalidService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid service {:?}: expected a Service and its namespace, such as web.shop", self.0)
    }
}

impl Error for InvalidService {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_service_is_refused_by_name() {
        let new = |service: &str| KubernetesSource::new(KubernetesConfig::in_cluster(), service);
        for service in ["", "web.", ".shop", "web.shop.svc", "Web", "web,app=x", "-web", "web-", &"a".repeat(64)] {
            let error = new(service).expect_err(service).to_string();
            assert!(error.contains(&format!("{service:?}")), "{error}");
        }
        for service in ["web", "web.shop", "a-1.b-2"] {
            assert_eq!(new(service).unwrap().name(), format!("kubernetes {service}"));
        }
    }
}
