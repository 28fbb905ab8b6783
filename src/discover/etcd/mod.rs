mod config;
mod registration;

pub(crate) use self::config::causal;
pub use self::{config::EtcdConfig, registration::EtcdRegistration};

use super::{Entry, Source, Update, entry::Target};
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::{error::BoxError, pool::Member};
use etcd_client::{EventType, GetOptions, WatchOptions, WatchStream};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The backends that stand in an etcd, version 3.4 or later, under a prefix.
///
/// Each key below the prefix is a backend, whatever the key is called; its value is an [`Entry`] in JSON:
///
/// ```json
/// {"url": "http://10.0.0.1:8080", "weight": 2, "zone": "eu-1a", "priority": 0, "state": "draining"}
/// ```
///
/// All but `url` may be missing, and what else there is is passed over. The backends put themselves there by an
/// [`EtcdRegistration`], so that one that crashes is gone when its lease is; or somebody else does.
///
/// Changes arrive as they happen. When the connection breaks, or what was missed is no longer known to etcd, all keys are read
/// anew; an etcd that has lost its data, or is another one, is so noticed too, and the [`Guard`](super::Guard) looks twice.
///
/// ```no_run
/// use tower_balancer::{BackendPool, Discoverer, discover::{EtcdConfig, EtcdSource}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = BackendPool::empty();
/// let source = EtcdSource::new(EtcdConfig::new(["http://10.0.0.9:2379"]), "/web/");
/// let discoverer = Discoverer::new(&pool, source);
/// tokio::spawn(discoverer.run());
/// # Ok(())
/// # }
/// ```
///
/// # Limits
///
/// Of more than 10 000 keys the first are taken, by the alphabet. The connection is a task that the client runs on the
/// runtime, and which ends with the source.
pub struct EtcdSource<T> {
    config: EtcdConfig,
    prefix: String,
    target: Target<T>,
    watching: Option<Watching>,
    /// Which endpoint is next.
    turn: usize,
}

/// What etcd holds, and how it tells of changes.
struct Watching {
    changes: WatchStream,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    revision: i64,
}

/// What etcd sends at once has to be less than 4 MiB.
const MOST: usize = 10_000;

#[cfg(feature = "http")]
impl EtcdSource<Origin> {
    /// The HTTP backends whose keys begin with `prefix`. End it with a slash: `/web` is the beginning of `/website` too.
    pub fn new(config: EtcdConfig, prefix: impl Into<String>) -> Self {
        Self::with(config, prefix, |url| Ok(Member::url(url)?))
    }
}

impl<T> EtcdSource<T> {
    /// The backends whose keys begin with `prefix`, where `target` makes a member of the `url` of each. One for which it fails
    /// is left out.
    pub fn with(
        config: EtcdConfig,
        prefix: impl Into<String>,
        target: impl Fn(&str) -> Result<Member<T>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        // Not every process should begin with the same endpoint.
        let turn = fastrand::usize(..);
        Self { config, prefix: prefix.into(), target: Arc::new(target), watching: None, turn }
    }

    /// The next change, or all there is.
    async fn look(&mut self) -> Result<Update<T>, BoxError> {
        // Taken, and put back where it is still good: after a failure all keys are read anew.
        let (watching, update) = match self.watching.take() {
            Some(mut watching) => {
                let update = self.follow(&mut watching).await?;
                (watching, update)
            }
            None => {
                let watching = self.begin().await?;
                let update = self.update(&watching);
                (watching, update)
            }
        };
        self.watching = Some(watching);
        Ok(update)
    }

    /// Reads all keys, and asks to be told of every change from then on.
    async fn begin(&mut self) -> Result<Watching, BoxError> {
        self.turn = self.turn.wrapping_add(1);
        let mut client = self.config.connect(self.turn).await?;
        let options = GetOptions::new().with_prefix().with_limit(MOST as i64 + 1);
        let found = self.config.in_time(client.get(self.prefix.as_str(), Some(options))).await?;
        let revision = found.header().ok_or("etcd has told no revision")?.revision();
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1).with_progress_notify();
        let changes = self.config.in_time(client.watch(self.prefix.as_str(), Some(options))).await?;
        let values = found.kvs().iter().map(|pair| (pair.key().to_vec(), pair.value().to_vec())).collect();
        Ok(Watching { changes, values, revision })
    }

    /// What the next change makes of it.
    async fn follow(&self, watching: &mut Watching) -> Result<Update<T>, BoxError> {
        loop {
            let news = watching.changes.message().await.map_err(causal)?.ok_or("etcd has ended the watch")?;
            if news.canceled() {
                // It no longer knows what was missed, say.
                return Err(format!("etcd has ended the watch: {}", news.cancel_reason()).into());
            }
            if let Some(header) = news.header() {
                watching.revision = header.revision();
            }
            for event in news.events() {
                match (event.event_type(), event.kv()) {
                    (EventType::Put, Some(pair)) => {
                        watching.values.insert(pair.key().to_vec(), pair.value().to_vec());
                    }
                    (EventType::Delete, Some(pair)) => _ = watching.values.remove(pair.key()),
                    (_, None) => {}
                }
            }
            if !news.events().is_empty() {
                return Ok(self.update(watching));
            }
            if !news.created() {
                // A sign of life.
                return Ok(Update::unchanged());
            }
        }
    }

    fn update(&self, watching: &Watching) -> Update<T> {
        let (mut endpoints, mut skipped) = (Vec::new(), Vec::new());
        for (key, value) in watching.values.iter().take(MOST) {
            let entry = serde_json::from_slice::<Entry>(value).map_err(BoxError::from);
            match entry.and_then(|entry| entry.endpoint(&self.target)) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(problem) => skipped.push(format!("{}: {problem}", String::from_utf8_lossy(key))),
            }
        }
        if watching.values.len() > MOST {
            skipped.push(format!("more than {MOST} keys begin with {:?}: the rest is left out", self.prefix));
        }
        Update::set(endpoints).skipped(skipped).version(watching.revision.to_string())
    }
}

impl<T: Send + 'static> Source<T> for EtcdSource<T> {
    async fn next(&mut self) -> Option<Result<Update<T>, BoxError>> {
        Some(self.look().await)
    }

    fn look_again(&mut self) -> bool {
        self.watching = None;
        true
    }

    fn name(&self) -> String {
        format!("etcd {}", self.prefix)
    }
}

impl<T> fmt::Debug for EtcdSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSource").field("config", &self.config).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
