//! Where the members of a pool come from.
//!
//! A list of servers that is written into the program is out of date when the first of them moves. A [`Source`] tells who is
//! there now, and a [`Discoverer`] is the future that makes a pool agree with it. The host spawns it, like a
//! [`HealthChecker`](crate::HealthChecker); dropping it stops it, and the pool goes on with whom it has.
//!
//! | source | members are | feature |
//! |---|---|---|
//! | [`TowerSource`] | what a [`tower::discover::Discover`] yields | |
//! | `DnsSource` | what a name stands for: A, AAAA, SRV | `dns` |
//! | `EtcdSource` | under a prefix in etcd, put there by an `EtcdRegistration` | `etcd` |
//! | `FileSource` | in a TOML or JSON file | `file` |
//! | `KubernetesSource` | the pods behind a Service of Kubernetes | `kubernetes` |
//! | `XdsSource` | the endpoints of a cluster, by an xDS control plane | `xds` |
//!
//! ```
//! use tower_balancer::{
//!     BackendPool, BoxError, Discoverer,
//!     discover::{Source, Update},
//!     pool::Member,
//! };
//!
//! /// Asks a registry of one's own, every ten seconds.
//! struct Registry(tokio::time::Interval);
//!
//! impl Source<&'static str> for Registry {
//!     async fn next(&mut self) -> Option<Result<Update<&'static str>, BoxError>> {
//!         self.0.tick().await;
//!         Some(Ok(Update::set([Member::new("shard-1", "10.0.0.7:5432"), Member::new("shard-2", "10.0.0.8:5432")])))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = BackendPool::from_members([])?;
//! let registry = Registry(tokio::time::interval(std::time::Duration::from_secs(10)));
//! let discoverer = Discoverer::new(&pool, registry);
//! tokio::spawn(discoverer.run());
//! discoverer.ready().await;
//! assert_eq!(pool.backends().len(), 2);
//! assert_eq!(discoverer.status().members, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # What a pool makes of it
//!
//! * Who stays keeps counters and health, by id; weight, tier, zone and target change in place. A weight that the host has set
//!   holds until the source says another than it said last.
//! * Who leaves is drained: it gets no new requests but those of its sessions, and is removed when it has none left, or after
//!   [`drain`](Discoverer::drain). One that is back before then has never been away.
//! * A source that fails changes nothing. It is asked again, after 1 s, 2 s, 4 s … ([`backoff`](Discoverer::backoff)).
//! * A source that suddenly lists far fewer is not believed at once: see [`Guard`].
//! * Members that no source has named, because the host put them in itself, are left alone; so several discoverers may feed
//!   one pool, each its own part. Of one that two of them name, what was said last holds.
//!
//! # Limits
//!
//! Each answer costs a look at each member it lists. What a source lists is kept in memory twice: there and in the pool.

mod departures;
mod discoverer;
#[cfg(feature = "dns")]
mod dns;
#[cfg(any(feature = "etcd", feature = "file"))]
mod entry;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(any(feature = "dns", feature = "kubernetes"))]
mod families;
#[cfg(feature = "file")]
mod file;
mod guard;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod ledger;
mod reconciler;
mod run;
mod source;
mod status;
mod tower_source;
mod update;
#[cfg(feature = "xds")]
mod xds;

#[cfg(feature = "dns")]
pub use self::dns::{DnsSource, InvalidName};
#[cfg(any(feature = "etcd", feature = "file"))]
pub use self::entry::Entry;
#[cfg(feature = "etcd")]
pub(crate) use self::etcd::causal;
#[cfg(feature = "etcd")]
pub use self::etcd::{EtcdConfig, EtcdRegistration, EtcdSource};
#[cfg(any(feature = "dns", feature = "kubernetes"))]
pub use self::families::Families;
#[cfg(feature = "file")]
pub use self::file::FileSource;
#[cfg(feature = "kubernetes")]
pub use self::kubernetes::{InvalidService, KubernetesConfig, KubernetesSource};
#[cfg(feature = "xds")]
pub use self::xds::{XdsConfig, XdsSource};
pub use self::{
    discoverer::{DEFAULT_BACKOFF, DEFAULT_DRAIN, DISCOVER_TARGET, Discoverer},
    guard::Guard,
    source::Source,
    status::{Failure, Status},
    tower_source::TowerSource,
    update::{Change, Endpoint, Update},
};

/// Makes the member of an address.
#[cfg(any(feature = "dns", feature = "kubernetes", feature = "xds"))]
type AddressTarget<T> = std::sync::Arc<
    dyn Fn(std::net::SocketAddr) -> Result<crate::pool::Member<T>, crate::error::BoxError> + Send + Sync,
>;
