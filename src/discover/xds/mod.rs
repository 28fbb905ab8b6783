mod assignment;
mod codec;
mod config;
mod messages;
mod session;

pub use self::config::XdsConfig;

use super::{AddressTarget, Endpoint, Source, Update};
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::{backend::Weight, error::BoxError, hash::hash_key, pool::Member};
use assignment::{Assignment, Backend};
use session::Session;
use std::{fmt, net::SocketAddr, sync::Arc};

/// The endpoints of a cluster, as a control plane tells of them by xDS: EDS over ADS, version 3, state of the world.
///
/// ```no_run
/// use tower_balancer::{BackendPool, Discoverer, discover::{XdsConfig, XdsSource}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = BackendPool::empty();
/// let config = XdsConfig::new(["http://10.0.0.9:18000"]).node("gateway-1", "gateways");
/// let discoverer = Discoverer::new(&pool, XdsSource::new(config, "web").http());
/// tokio::spawn(discoverer.run());
/// # Ok(())
/// # }
/// ```
///
/// | the control plane says | that is |
/// |---|---|
/// | HEALTHY, UNKNOWN | a backend |
/// | DRAINING | one that is drained: it gets no new requests but those of its sessions |
/// | UNHEALTHY, TIMEOUT, DEGRADED | nobody: one that was there leaves |
/// | a locality | the zone, or the region where it has none |
/// | a priority | the tier |
/// | weights | of an endpoint within its locality, and of a locality among those of its priority |
///
/// An assignment that breaks the rules of gRPC (gRFC A27: an endpoint without an IP address and a port, a weight of 0, a
/// locality twice, a gap in the priorities) is refused as a whole, with the reason (NACK): it is a failure, and the members
/// stay. So do they when the control plane cannot be reached, and when it says nothing of the cluster in time.
///
/// # Limits
///
/// There is no CDS, LDS or RDS: the cluster is asked for by the name that EDS has for it. Policies of an assignment
/// (`drop_overloads`, `overprovisioning_factor`), endpoints by name, and localities by LEDS are not read. An answer may have
/// 4 MiB. The connection is a task that the client runs on the runtime, and which ends with the source.
pub struct XdsSource<T> {
    config: XdsConfig,
    cluster: String,
    target: AddressTarget<T>,
    session: Option<Session>,
    /// Which server is next.
    turn: usize,
}

impl XdsSource<SocketAddr> {
    /// The endpoints of `cluster`.
    pub fn new(config: XdsConfig, cluster: impl Into<String>) -> Self {
        let target = Arc::new(|address: SocketAddr| Ok(Member::new(address.to_string(), address)));
        // Not every process should begin with the same server.
        let turn = fastrand::usize(..);
        Self { config, cluster: cluster.into(), target, session: None, turn }
    }

    /// HTTP backends at these addresses.
    #[cfg(feature = "http")]
    pub fn http(self) -> XdsSource<Origin> {
        self.with(|address| Ok(Member::url(&format!("http://{address}"))?))
    }

    /// HTTP backends at these addresses, over TLS. The name that their certificates are for has to be said to the client.
    #[cfg(feature = "http")]
    pub fn https(self) -> XdsSource<Origin> {
        self.with(|address| Ok(Member::url(&format!("https://{address}"))?))
    }
}

impl<T> XdsSource<T> {
    /// The same with members of another kind, made by `target` of each address. One for which it fails is left out; weight,
    /// priority and locality go before what it says.
    pub fn with<U>(
        self,
        target: impl Fn(SocketAddr) -> Result<Member<U>, BoxError> + Send + Sync + 'static,
    ) -> XdsSource<U> {
        let Self { config, cluster, turn, .. } = self;
        XdsSource { config, cluster, target: Arc::new(target), session: None, turn }
    }

    async fn look(&mut self) -> Result<Update<T>, BoxError> {
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                self.turn = self.turn.wrapping_add(1);
                none.insert(Session::begin(&self.config, &self.cluster, self.turn).await?)
            }
        };
        match session.next().await {
            Some(Ok(assignment)) => Ok(self.update(&assignment)),
            Some(Err(error)) => Err(self.words(error).into()),
            None => {
                let problem = session.problem();
                self.session = None;
                Err(problem)
            }
        }
    }

    /// What is wrong, in words that name the cluster.
    fn words(&self, error: xds_client::Error) -> String {
        use xds_client::Error;
        match error {
            Error::ResourceDoesNotExist => format!("the control plane says nothing of the cluster {}", self.cluster),
            Error::Validation(words) => {
                // The client says so itself, too.
                let words = words.trim_start_matches("resource validation failed: ");
                format!("the assignment of {} is refused: {words}", self.cluster)
            }
            other => format!("cluster {}: {other}", self.cluster),
        }
    }

    fn update(&self, Assignment { backends, skipped }: &Assignment) -> Update<T> {
        let mut skipped = skipped.clone();
        let mut endpoints = Vec::with_capacity(backends.len());
        for backend in backends {
            match (self.target)(backend.address) {
                Ok(member) => endpoints.push(endpoint(member, backend)),
                Err(problem) => skipped.push(format!("{}: {problem}", backend.address)),
            }
        }
        // The client keeps the control plane's own word for it to itself.
        let version = format!("{:016x}", hash_key(format!("{backends:?}")));
        Update::set(endpoints).skipped(skipped).version(version)
    }
}

fn endpoint<T>(member: Member<T>, backend: &Backend) -> Endpoint<T> {
    let mut member = member.priority(backend.priority).weight(Weight::new(backend.weight).unwrap_or_default());
    if let Some(zone) = &backend.zone {
        member = member.zone(zone.as_str());
    }
    let endpoint = Endpoint::from(member);
    if backend.is_draining { endpoint.draining() } else { endpoint }
}

impl<T: Send + 'static> Source<T> for XdsSource<T> {
    async fn next(&mut self) -> Option<Result<Update<T>, BoxError>> {
        Some(self.look().await)
    }

    fn look_again(&mut self) -> bool {
        self.session = None;
        true
    }

    fn name(&self) -> String {
        format!("xds {}", self.cluster)
    }
}

impl<T> fmt::Debug for XdsSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdsSource")
            .field("config", &self.config)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}
