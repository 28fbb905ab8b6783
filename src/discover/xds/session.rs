use super::{XdsConfig, assignment::Assignment, codec::Codec};
use crate::{
    error::{BoxError, root_cause},
    sync::locked,
};
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::task::JoinSet;
use xds_client::{
    ClientConfig, Error, Node, ResourceEvent, ResourceWatcher, RetryPolicy, Runtime, ServerConfig, TonicTransport,
    Transport, TransportBuilder, XdsClient, transport::tonic::TonicAdsStream,
};

/// One stream to the control plane, and what comes of it. It is over with the first failure: when to try again is for others
/// to say.
pub(super) struct Session {
    watcher: ResourceWatcher<Assignment>,
    problem: Problem,
    // The client's worker holds an end of its own channel, so that it would never end by itself.
    _tasks: Arc<Mutex<JoinSet<()>>>,
}

/// Why there is no stream. The client itself keeps that to itself.
#[derive(Clone, Default)]
struct Problem(Arc<Mutex<Option<String>>>);

impl Session {
    /// Asks for the endpoints of `cluster`, and to be told of every change.
    pub(super) async fn begin(config: &XdsConfig, cluster: &str, turn: usize) -> Result<Self, BoxError> {
        let mut node = Node::new("tower-balancer", env!("CARGO_PKG_VERSION"))
            .with_id(config.id.as_str())
            .with_cluster(config.cluster.as_str());
        if !config.zone.is_empty() {
            node = node.with_locality(xds_client::Locality { zone: config.zone.clone(), ..Default::default() });
        }
        let asked = ClientConfig::new(node, config.server(turn)?)
            .with_retry_policy(RetryPolicy::default().with_max_attempts(Some(0)))
            .with_resource_initial_timeout(Some(config.timeout));
        let (problem, tasks) = (Problem::default(), Arc::default());
        let dial = Dial { config: config.clone(), problem: problem.clone() };
        let client = XdsClient::builder(asked, dial, Codec, Tasks(Arc::downgrade(&tasks))).build();
        Ok(Self { watcher: client.watch(cluster).await, problem, _tasks: tasks })
    }

    /// Waits for what the control plane says next. `None` where the stream is over.
    ///
    /// # Errors
    ///
    /// What is wrong with what it said, where the stream goes on.
    pub(super) async fn next(&mut self) -> Option<Result<Arc<Assignment>, Error>> {
        match self.watcher.next().await? {
            ResourceEvent::ResourceChanged { result, .. } => Some(result),
            ResourceEvent::AmbientError { error, .. } => Some(Err(error)),
        }
    }

    /// Why it is over.
    pub(super) fn problem(&self) -> BoxError {
        let problem = locked(&self.problem.0).take();
        problem.unwrap_or_else(|| "the control plane has ended the stream".to_owned()).into()
    }
}

/// What the client does at the same time.
#[derive(Clone)]
struct Tasks(Weak<Mutex<JoinSet<()>>>);

impl Runtime for Tasks {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        // Who asks from within one of them asks for nothing any more when they have been dropped.
        if let Some(tasks) = self.0.upgrade() {
            let mut tasks = locked(&tasks);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(future);
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Connects, and remembers what went wrong.
struct Dial {
    config: XdsConfig,
    problem: Problem,
}

struct Dialled {
    transport: TonicTransport,
    timeout: Duration,
    problem: Problem,
}

impl Problem {
    fn keep(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let words = root_cause(error);
        *locked(&self.0) = Some(words.clone());
        Error::Connection(words)
    }
}

impl TransportBuilder for Dial {
    type Transport = Dialled;

    async fn build(&self, server: &ServerConfig) -> Result<Dialled, Error> {
        let channel = self.config.connect(server.uri()).await.map_err(|error| self.problem.keep(&*error))?;
        let transport = TonicTransport::from_channel(channel);
        Ok(Dialled { transport, timeout: self.config.timeout, problem: self.problem.clone() })
    }
}

impl Transport for Dialled {
    type Stream = TonicAdsStream;

    async fn new_stream(&self, requests: Vec<Bytes>) -> Result<TonicAdsStream, Error> {
        let stream = tokio::time::timeout(self.timeout, self.transport.new_stream(requests)).await;
        match stream {
            Ok(stream) => stream.map_err(|error| self.problem.keep(&error)),
            Err(late) => Err(self.problem.keep(&late)),
        }
    }
}
