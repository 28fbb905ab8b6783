//! Who tells a pool which backends it has, at work.

use super::checks::Task;
#[cfg(any(feature = "dns", feature = "etcd", feature = "file", feature = "kubernetes"))]
use crate::config::discover::Where;
use crate::config::{discover::Discover, server::Server, upstream::Upstream};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tower_balancer::{
    BackendPool, BoxError, Discoverer,
    backend::Origin,
    discover::{Source, Status, Update},
    pool::Member,
};

/// A source that a pool follows until this is dropped.
#[derive(Debug)]
pub struct Discovery {
    discoverer: Discoverer<Origin, AnySource>,
    task: Task,
}

impl Discovery {
    /// Makes `pool` follow what `discover` says. Until it has said something `first` are there; where another source said who
    /// is there, this goes on from that.
    pub fn begin(
        discover: &Discover,
        upstream: &Upstream,
        server: &Server,
        first: Vec<Member<Origin>>,
        pool: &BackendPool<Origin>,
        before: Option<&Self>,
    ) -> Self {
        let mut discoverer = Discoverer::new(pool, AnySource::of(discover, upstream, server))
            .guard(discover.guard())
            .drain(discover.drain())
            .starting_with(first);
        if let Some(before) = before {
            before.stop();
            discoverer = discoverer.after(&before.discoverer);
        }
        let task = Task::spawn(discoverer.run());
        Self { discoverer, task }
    }

    /// Ends it: the pool is left alone from now on.
    pub fn stop(&self) {
        self.task.stop();
    }

    /// Whether the source has said who is there.
    pub fn has_spoken(&self) -> bool {
        self.discoverer.status().is_ready()
    }

    /// Whether it may say any moment who is there: it has neither answered yet nor failed.
    pub fn is_awaited(&self) -> bool {
        let status = self.discoverer.status();
        !status.is_ready() && status.failures == 0
    }

    /// For the operator.
    pub fn describe(&self) -> Value {
        let status = self.discoverer.status();
        let Status { source, version, members, doubted, failures, skipped, has_ended, .. } = &status;
        let age = |when: Instant| tokio::time::Instant::now().into_std().saturating_duration_since(when);
        let seconds = |when: Option<Instant>| when.map(age).as_ref().map(Duration::as_secs);
        let failure = status.last_failure.as_ref();
        json!({
            "source": &**source,
            "ready": status.is_ready(),
            "version": version.as_deref(),
            "members": members,
            "doubted": doubted,
            "last_success_seconds": seconds(status.last_success),
            "failures": failures,
            "failing_since_seconds": seconds(status.failing_since),
            "last_error": failure.map(|failure| &*failure.cause),
            "last_error_seconds": seconds(failure.map(|failure| failure.when)),
            "skipped": &**skipped,
            "ended": has_ended,
        })
    }
}

/// The sources that are in this build.
enum AnySource {
    #[cfg(feature = "dns")]
    Dns(tower_balancer::discover::DnsSource<Origin>),
    #[cfg(feature = "file")]
    File(tower_balancer::discover::FileSource<Origin>),
    #[cfg(feature = "etcd")]
    Etcd(tower_balancer::discover::EtcdSource<Origin>),
    #[cfg(feature = "kubernetes")]
    Kubernetes(tower_balancer::discover::KubernetesSource<Origin>),
    /// It cannot be asked, and says why.
    Broken(String),
}

impl AnySource {
    fn of(discover: &Discover, upstream: &Upstream, server: &Server) -> Self {
        match discover.place() {
            #[cfg(feature = "dns")]
            Where::Dns(name) => match discover.names(name) {
                Ok(source) => {
                    let (server, scheme) = (server.clone(), upstream.scheme());
                    Self::Dns(source.with(move |address| server.discovered(&format!("{scheme}://{address}"))))
                }
                Err(problem) => Self::Broken(problem.to_string()),
            },
            #[cfg(feature = "file")]
            Where::File(path) => {
                let server = server.clone();
                let source =
                    tower_balancer::discover::FileSource::with(path.as_str(), move |url| server.discovered(url));
                Self::File(match discover.refresh.as_deref() {
                    Some(refresh) => source.interval(*refresh),
                    None => source,
                })
            }
            #[cfg(feature = "etcd")]
            Where::Etcd { etcd, prefix } => {
                let server = server.clone();
                let target = move |url: &str| server.discovered(url);
                Self::Etcd(tower_balancer::discover::EtcdSource::with(etcd.config(), prefix, target))
            }
            #[cfg(feature = "kubernetes")]
            Where::Kubernetes(service) => match discover.pods(service) {
                Ok(source) => {
                    let (server, scheme) = (server.clone(), upstream.scheme());
                    Self::Kubernetes(source.with(move |address| server.discovered(&format!("{scheme}://{address}"))))
                }
                Err(problem) => Self::Broken(problem.to_string()),
            },
            #[cfg(not(all(feature = "dns", feature = "file", feature = "etcd", feature = "kubernetes")))]
            _ => {
                let _ = (upstream, server);
                Self::Broken("a source that is not in this build".to_owned())
            }
        }
    }
}

impl Source<Origin> for AnySource {
    async fn next(&mut self) -> Option<Result<Update<Origin>, BoxError>> {
        match self {
            #[cfg(feature = "dns")]
            Self::Dns(source) => source.next().await,
            #[cfg(feature = "file")]
            Self::File(source) => source.next().await,
            #[cfg(feature = "etcd")]
            Self::Etcd(source) => source.next().await,
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(source) => source.next().await,
            Self::Broken(problem) => Some(Err(problem.as_str().into())),
        }
    }

    fn look_again(&mut self) -> bool {
        match self {
            #[cfg(feature = "dns")]
            Self::Dns(source) => source.look_again(),
            #[cfg(feature = "file")]
            Self::File(source) => source.look_again(),
            #[cfg(feature = "etcd")]
            Self::Etcd(source) => source.look_again(),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(source) => source.look_again(),
            Self::Broken(_) => false,
        }
    }

    fn name(&self) -> String {
        match self {
            #[cfg(feature = "dns")]
            Self::Dns(source) => source.name(),
            #[cfg(feature = "file")]
            Self::File(source) => source.name(),
            #[cfg(feature = "etcd")]
            Self::Etcd(source) => source.name(),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(source) => source.name(),
            Self::Broken(_) => "none".to_owned(),
        }
    }
}
