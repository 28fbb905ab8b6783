//! An API server of Kubernetes, played on loopback over real HTTP: as much of it as listing and watching EndpointSlices takes,
//! with all that can go wrong on the way. A real one is in no package of Debian; what it answers is taken from the API's
//! documentation ("Efficient detection of changes", "Watch bookmarks", "410 Gone").

use super::{Server, gateway::ConfigFile};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The namespace that it has, the Service in it, and the token of who may ask.
const NAMESPACE: &str = "shop";
const SERVICE: &str = "web";
const TOKEN: &str = "a-token";

pub struct ApiServer {
    pub shared: Arc<Shared>,
    server: Option<Server>,
    pub address: SocketAddr,
}

#[derive(Default)]
pub struct Shared(Mutex<Cluster>);

#[derive(Default)]
struct Cluster {
    version: u64,
    slices: BTreeMap<String, Value>,
    /// What has happened, by version, since the last time that it was forgotten.
    history: Vec<(u64, Value)>,
    forgotten: u64,
    forbids: bool,
    /// Who listens, and for what.
    watches: Vec<(String, UnboundedSender<io::Result<Bytes>>)>,
    asked: Vec<String>,
}

/// An endpoint at `address` that is ready.
pub fn ready(address: &str) -> Value {
    json!({ "addresses": [address], "conditions": { "ready": true, "serving": true, "terminating": false } })
}

/// One that is not ready, and may serve or be about to end.
pub fn unready(address: &str, serving: bool, terminating: bool) -> Value {
    let conditions = json!({ "ready": false, "serving": serving, "terminating": terminating });
    json!({ "addresses": [address], "conditions": conditions })
}

impl ApiServer {
    pub async fn start() -> Self {
        let shared = Arc::<Shared>::default();
        // What comes first is not the beginning.
        shared.0.lock().unwrap().version = 1_000;
        let server = Server::http(shared.routes()).await;
        Self { shared, address: server.address, server: Some(server) }
    }

    /// A kubeconfig by which it is asked, and by somebody who may.
    pub fn kubeconfig(&self) -> ConfigFile {
        kubeconfig(&format!("server: http://{}", self.address), TOKEN)
    }

    /// Puts the slice `name` of the service there, or another in its place: `endpoints`, at the port http.
    pub fn put(&self, name: &str, port: u16, endpoints: impl IntoIterator<Item = Value>) {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        self.put_slice(
            name,
            json!({
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
            }),
        );
    }

    /// The same with a slice of any kind.
    pub fn put_slice(&self, name: &str, slice: Value) {
        self.shared.put(name, SERVICE, slice);
    }

    /// The same of another service.
    pub fn put_of(&self, service: &str, name: &str, port: u16, endpoints: impl IntoIterator<Item = Value>) {
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        let ports = json!([{ "name": "http", "port": port }]);
        self.shared.put(name, service, json!({ "addressType": "IPv4", "endpoints": endpoints, "ports": ports }));
    }

    pub fn delete(&self, name: &str) {
        let mut cluster = self.shared.0.lock().unwrap();
        if let Some(mut slice) = cluster.slices.remove(name) {
            cluster.version += 1;
            slice["metadata"]["resourceVersion"] = cluster.version.to_string().into();
            cluster.tell("DELETED", slice);
        }
    }

    /// Says that time has passed and nothing has happened.
    pub fn bookmark(&self) {
        let mut cluster = self.shared.0.lock().unwrap();
        cluster.version += 1;
        let bookmark = json!({
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": { "resourceVersion": cluster.version.to_string(), "creationTimestamp": null },
            "endpoints": null,
            "ports": null,
        });
        let line = json!({ "type": "BOOKMARK", "object": bookmark });
        cluster.say(line.to_string() + "\n");
    }

    /// Forgets what has happened until now: who asks from there on is told that it is gone.
    pub fn forget(&self) {
        let mut cluster = self.shared.0.lock().unwrap();
        cluster.version += 1;
        cluster.forgotten = cluster.version;
        cluster.history.clear();
    }

    /// Forgets what had happened when it last said that nothing has.
    pub fn forget_before_the_bookmark(&self) {
        let mut cluster = self.shared.0.lock().unwrap();
        cluster.forgotten = cluster.version;
        cluster.history.clear();
    }

    /// Sends `text` to all who watch, as it is.
    pub fn say(&self, text: impl Into<String>) {
        self.shared.0.lock().unwrap().say(text.into());
    }

    /// The line by which a watch tells of the slice `name` of one endpoint, as it will be.
    pub fn line(&self, name: &str, port: u16, address: &str) -> String {
        let mut cluster = self.shared.0.lock().unwrap();
        cluster.version += 1;
        let ports = json!([{ "name": "http", "port": port, "protocol": "TCP" }]);
        let slice = json!({ "addressType": "IPv4", "endpoints": [ready(address)], "ports": ports });
        let slice = dressed(name, SERVICE, cluster.version, slice);
        cluster.slices.insert(name.to_owned(), slice.clone());
        let event = json!({ "type": "ADDED", "object": slice });
        let version = cluster.version;
        cluster.history.push((version, event.clone()));
        event.to_string() + "\n"
    }

    /// Ends all watches, as is done when their time is over.
    pub fn end(&self) {
        self.shared.0.lock().unwrap().watches.clear();
    }

    /// Breaks off all watches, within what is being said.
    pub fn cut(&self) {
        let watches = std::mem::take(&mut self.shared.0.lock().unwrap().watches);
        watches.iter().for_each(|(_, watch)| _ = watch.send(Err(io::ErrorKind::ConnectionReset.into())));
    }

    /// Whether it lets nobody list or watch.
    pub fn forbid(&self, forbids: bool) {
        self.shared.0.lock().unwrap().forbids = forbids;
    }

    /// Dies, with all its connections. What it knows is in its etcd.
    pub async fn kill(&mut self) {
        self.end();
        self.server.take().unwrap().kill().await;
    }

    pub async fn revive(&mut self) {
        self.server = Some(Server::http_at(self.address, self.shared.routes()).await);
    }

    /// How often somebody has asked so.
    pub fn asked(&self, verb: &str) -> usize {
        self.shared.0.lock().unwrap().asked.iter().filter(|asked| *asked == verb).count()
    }

    /// What somebody has asked for, each once.
    pub fn verbs(&self) -> Vec<String> {
        let mut verbs = self.shared.0.lock().unwrap().asked.clone();
        verbs.sort_unstable();
        verbs.dedup();
        verbs
    }

    /// How many are watching.
    pub fn watches(&self) -> usize {
        let mut cluster = self.shared.0.lock().unwrap();
        cluster.watches.retain(|(_, watch)| !watch.is_closed());
        cluster.watches.len()
    }
}

impl Shared {
    /// Serves it.
    pub fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", get(slices))
            .with_state(Arc::clone(self))
    }

    fn put(&self, name: &str, service: &str, slice: Value) {
        let mut cluster = self.0.lock().unwrap();
        cluster.version += 1;
        let slice = dressed(name, service, cluster.version, slice);
        let before = cluster.slices.insert(name.to_owned(), slice.clone());
        cluster.tell(if before.is_some() { "MODIFIED" } else { "ADDED" }, slice);
    }
}

impl Cluster {
    fn tell(&mut self, kind: &str, slice: Value) {
        let selector = selector(&slice);
        let event = json!({ "type": kind, "object": slice });
        let line = Bytes::from(event.to_string() + "\n");
        self.watches.retain(|(wanted, watch)| *wanted != selector || watch.send(Ok(line.clone())).is_ok());
        self.history.push((self.version, event));
    }

    fn say(&mut self, text: String) {
        self.watches.retain(|(_, watch)| watch.send(Ok(text.clone().into())).is_ok());
    }
}

/// The label by which those of its service are asked for.
fn selector(slice: &Value) -> String {
    let (label, labels) = ("kubernetes.io/service-name", &slice["metadata"]["labels"]);
    format!("{label}={}", labels[label].as_str().unwrap())
}

fn dressed(name: &str, service: &str, version: u64, mut slice: Value) -> Value {
    slice["apiVersion"] = "discovery.k8s.io/v1".into();
    slice["kind"] = "EndpointSlice".into();
    slice["metadata"] = json!({
        "name": name,
        "namespace": NAMESPACE,
        "resourceVersion": version.to_string(),
        "labels": { "kubernetes.io/service-name": service },
    });
    slice
}

/// A kubeconfig of a cluster that is described so.
pub fn kubeconfig(cluster: &str, token: &str) -> ConfigFile {
    ConfigFile::new(&format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters:\n- name: loopback\n  cluster:\n    {cluster}\n\
         users:\n- name: gateway\n  user:\n    token: {token}\n\
         contexts:\n- name: here\n  context: {{ cluster: loopback, user: gateway, namespace: {NAMESPACE} }}\n\
         - name: elsewhere\n  context: {{ cluster: loopback, user: gateway, namespace: nowhere }}\n"
    ))
}

fn status(code: StatusCode, reason: &str, message: &str) -> Value {
    let (api, kind) = ("v1", "Status");
    json!({ "kind": kind, "apiVersion": api, "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code.as_u16() })
}

fn refusal(code: StatusCode, reason: &str, message: &str) -> Response {
    (code, axum::Json(status(code, reason, message))).into_response()
}

async fn slices(
    State(shared): State<Arc<Shared>>,
    Path(namespace): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut cluster = shared.0.lock().unwrap();
    let verb = if query.contains_key("watch") { "watch" } else { "list" };
    cluster.asked.push(verb.to_owned());
    if headers.get(header::AUTHORIZATION).is_none_or(|shown| shown != &format!("Bearer {TOKEN}")) {
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    }
    if cluster.forbids {
        let message = format!(
            "endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:{NAMESPACE}:gateway\" cannot {verb} \
             resource \"endpointslices\" in API group \"discovery.k8s.io\" in the namespace \"{namespace}\""
        );
        return refusal(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    let wanted = query.get("labelSelector").cloned().unwrap_or_default();
    let is_selected = |slice: &Value| slice["metadata"]["namespace"] == *namespace && selector(slice) == wanted;
    if verb == "list" {
        let items: Vec<_> = cluster
            .slices
            .values()
            .filter(|slice| is_selected(slice))
            .cloned()
            .map(|mut slice| {
                // What is in a list does not say what it is.
                slice.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
                slice
            })
            .collect();
        let metadata = json!({ "resourceVersion": cluster.version.to_string() });
        let (kind, api) = ("EndpointSliceList", "discovery.k8s.io/v1");
        return axum::Json(json!({ "kind": kind, "apiVersion": api, "metadata": metadata, "items": items }))
            .into_response();
    }
    let from: u64 = query["resourceVersion"].parse().unwrap();
    if from < cluster.forgotten {
        let message = format!("too old resource version: {from} ({})", cluster.version);
        let gone = status(StatusCode::GONE, "Expired", &message);
        // A server that has it in its cache says so within the watch, another instead of it.
        return if cluster.version % 2 == 0 {
            refusal(StatusCode::GONE, "Expired", &message)
        } else {
            (json!({ "type": "ERROR", "object": gone }).to_string() + "\n").into_response()
        };
    }
    assert!(query["timeoutSeconds"].parse::<u32>().is_ok() && query["allowWatchBookmarks"] == "true");
    let (send, events) = unbounded_channel();
    for (_, event) in cluster.history.iter().filter(|(version, event)| *version > from && is_selected(&event["object"]))
    {
        send.send(Ok((event.to_string() + "\n").into())).unwrap();
    }
    cluster.watches.push((wanted, send));
    Body::from_stream(stream::unfold(events, next)).into_response()
}

async fn next(
    mut events: UnboundedReceiver<io::Result<Bytes>>,
) -> Option<(io::Result<Bytes>, UnboundedReceiver<io::Result<Bytes>>)> {
    let event = events.recv().await?;
    if event.is_err() {
        // What was said before it has to be on its way.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some((event, events))
}
