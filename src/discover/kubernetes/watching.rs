use super::KubernetesConfig;
use crate::error::BoxError;
use futures_util::stream::{BoxStream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, timeout};

/// The slices of a service as the API server holds them, by name, and how it tells of changes.
pub(super) struct Watching {
    api: Api<EndpointSlice>,
    selector: String,
    pub(super) slices: BTreeMap<String, EndpointSlice>,
    /// What the server calls the state of things that is known here.
    pub(super) version: String,
    events: Option<Events>,
    /// Whether it has listened since all were listed.
    is_proven: bool,
}

struct Events {
    stream: BoxStream<'static, Result<WatchEvent<EndpointSlice>, kube::Error>>,
    since: Instant,
}

/// What came of waiting.
pub(super) enum News {
    /// The slices are others now.
    Changed,
    /// They are the same: the server has said so.
    SignOfLife,
    /// The server no longer knows what has changed since: all have to be listed again.
    Gone,
}

/// How long the server is asked to tell of changes before it is asked again. A connection that is dead without a word is
/// noticed after this time; servers are asked as often by each of their clients every five minutes.
const WATCH: Duration = Duration::from_secs(60);

/// How much later it may end than it was asked to.
const LATE: Duration = Duration::from_secs(15);

/// A server that lets nobody listen for longer than this is not asked again at once.
const SOON: Duration = Duration::from_secs(1);

/// What a server answers where it has forgotten a state of things.
const GONE: u16 = 410;

impl Watching {
    /// Lists the slices of `service`.
    pub(super) async fn begin(
        config: &KubernetesConfig,
        namespace: Option<&str>,
        service: &str,
    ) -> Result<Self, BoxError> {
        let client = config.connect().await?;
        let api: Api<EndpointSlice> = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        let selector = format!("kubernetes.io/service-name={service}");
        let found = config.in_time(api.list(&ListParams::default().labels(&selector))).await?;
        let version = found.metadata.resource_version.ok_or("the API server has told no resourceVersion")?;
        let named = |slice: EndpointSlice| Some((slice.metadata.name.clone()?, slice));
        let slices = found.items.into_iter().filter_map(named).collect();
        Ok(Self { api, selector, slices, version, events: None, is_proven: false })
    }

    /// Waits for the next change.
    pub(super) async fn follow(&mut self, config: &KubernetesConfig) -> Result<News, BoxError> {
        loop {
            let events = match &mut self.events {
                Some(events) => events,
                none => {
                    let asked = WatchParams::default().labels(&self.selector).timeout(WATCH.as_secs() as u32);
                    let stream = config.in_time(self.api.watch(&asked, &self.version)).await?.boxed();
                    none.insert(Events { stream, since: Instant::now() })
                }
            };
            let Ok(event) = timeout(WATCH + LATE, events.stream.next()).await else {
                return Err("the API server has gone silent".into());
            };
            let event = match event {
                // Its time is over, or the connection was cut: the client takes some of the cuts for an end, and some not.
                None | Some(Err(kube::Error::ReadEvents(_))) => {
                    if events.since.elapsed() < SOON {
                        return Err("the API server ends the watch at once".into());
                    }
                    // What is missed is told when it is asked again.
                    (self.events, self.is_proven) = (None, true);
                    continue;
                }
                Some(event) => event,
            };
            let was_proven = self.is_proven;
            self.is_proven = true;
            match event {
                Ok(WatchEvent::Added(slice) | WatchEvent::Modified(slice)) => {
                    self.read_to(&slice);
                    self.slices.extend(slice.metadata.name.clone().map(|name| (name, slice)));
                    return Ok(News::Changed);
                }
                Ok(WatchEvent::Deleted(slice)) => {
                    self.read_to(&slice);
                    slice.metadata.name.and_then(|name| self.slices.remove(&name));
                    return Ok(News::Changed);
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    self.version = bookmark.metadata.resource_version;
                    return Ok(News::SignOfLife);
                }
                // Of one that has forgotten what it has just listed it is not asked at once again.
                Ok(WatchEvent::Error(status)) | Err(kube::Error::Api(status)) if status.code == GONE && was_proven => {
                    return Ok(News::Gone);
                }
                Ok(WatchEvent::Error(status)) => return Err(status.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What comes after `slice` is not known yet.
    fn read_to(&mut self, slice: &EndpointSlice) {
        if let Some(version) = &slice.metadata.resource_version {
            self.version.clone_from(version);
        }
    }
}
