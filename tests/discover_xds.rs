//! The endpoints of a cluster, from a control plane that the test plays on loopback: gRPC over HTTP/2, its messages written and
//! read by hand, so that what reads them is not what has written them.

mod common;
#[path = "common/tls.rs"]
mod tls;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::post,
};
use common::{Server, until};
use futures_util::stream::{self, StreamExt};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower_balancer::{
    BackendPool, Discoverer,
    backend::{Backoff, HealthState, Origin},
    discover::{Guard, XdsConfig, XdsSource},
};

const MS: Duration = Duration::from_millis(1);

const QUICK: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(200) };

const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

const UNHEALTHY: u64 = 2;
const DRAINING: u64 = 3;

/// Protobuf: a field that is a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    let varint = |mut value: u64| {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    [varint(field << 3), varint(value)].concat()
}

/// A field that is a text or another message.
fn nested(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = number(field, content.len() as u64);
    bytes[0] |= 2;
    [&bytes, content].concat()
}

/// The fields of a message: a number and what is in it, or nothing where it is a number itself.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (read, rest) = bytes.split_at(length);
        *bytes = rest;
        read.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let length = varint(&mut bytes) as usize;
        let (content, rest) = bytes.split_at(if tag & 7 == 2 { length } else { 0 });
        found.push((tag >> 3, content));
        bytes = rest;
    }
    found
}

fn text(message: &[u8], field: u64) -> String {
    let found = fields(message).into_iter().find(|(number, _)| *number == field);
    String::from_utf8(found.map_or(Vec::new(), |(_, content)| content.to_vec())).unwrap()
}

fn endpoint_at(ip: &str, port: u64, health: u64, weight: u64) -> Vec<u8> {
    let address = nested(1, [nested(2, ip), number(3, port)].concat());
    [nested(1, nested(1, address)), number(2, health), nested(4, number(1, weight))].concat()
}

/// One at this port.
fn endpoint(port: u64) -> Vec<u8> {
    endpoint_at("10.0.0.1", port, 0, 1)
}

fn locality(zone: &str, priority: u64, endpoints: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let endpoints: Vec<u8> = endpoints.into_iter().flat_map(|endpoint| nested(2, endpoint)).collect();
    [nested(1, nested(2, zone)), endpoints, nested(3, number(1, 1)), number(5, priority)].concat()
}

fn assignment(cluster: &str, localities: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let localities = localities.into_iter().flat_map(|locality| nested(2, locality));
    nested(1, cluster).into_iter().chain(localities).collect()
}

/// What a client has said.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    version: String,
    nonce: String,
    /// What was wrong with what it was told.
    refused: Option<String>,
    message: Vec<u8>,
}

struct ControlPlane {
    shared: Arc<Mutex<Shared>>,
    server: Option<Server>,
    address: SocketAddr,
}

#[derive(Default)]
struct Shared {
    assignment: Option<Vec<u8>>,
    version: u64,
    denies: bool,
    streams: Vec<UnboundedSender<Bytes>>,
    asked: Vec<Asked>,
    /// Of those that are being read.
    open: usize,
}

impl ControlPlane {
    async fn start() -> Self {
        let shared = Arc::<Mutex<Shared>>::default();
        let server = Server::http(routes(&shared)).await;
        Self { shared, address: server.address, server: Some(server) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells all of the cluster web, with this as its only resource.
    fn say_of_web(&self, localities: impl IntoIterator<Item = Vec<u8>>) {
        self.say(assignment("web", localities));
    }

    fn say(&self, assignment: Vec<u8>) {
        let mut shared = self.shared.lock().unwrap();
        shared.version += 1;
        shared.assignment = Some(assignment);
        let response = shared.response().unwrap();
        shared.streams.retain(|stream| stream.send(response.clone()).is_ok());
    }

    /// What was said last.
    fn last(&self) -> Asked {
        self.shared.lock().unwrap().asked.last().cloned().unwrap()
    }

    fn asked(&self) -> Vec<Asked> {
        self.shared.lock().unwrap().asked.clone()
    }

    /// Waits until the version that was told last is taken in.
    async fn is_acknowledged(&self) {
        let version = self.shared.lock().unwrap().version.to_string();
        let is_so = |asked: Asked| asked.version == version && asked.nonce == format!("n{version}");
        until(|| async { !self.asked().is_empty() && is_so(self.last()) }).await;
        assert_eq!(self.last().refused, None);
    }

    fn end(&self) {
        self.shared.lock().unwrap().streams.clear();
    }

    async fn kill(&mut self) {
        self.server.take().unwrap().kill().await;
    }

    async fn revive(&mut self) {
        self.server = Some(Server::http_at(self.address, routes(&self.shared)).await);
    }
}

impl Shared {
    fn response(&self) -> Option<Bytes> {
        let any = [nested(1, EDS), nested(2, self.assignment.as_ref()?)].concat();
        let version = self.version.to_string();
        let response = [nested(1, &version), nested(2, any), nested(4, EDS), nested(5, format!("n{version}"))].concat();
        Some([&[0][..], &(response.len() as u32).to_be_bytes(), &response].concat().into())
    }

    fn hear(&mut self, message: Vec<u8>) {
        let refused = fields(&message).into_iter().find(|(field, _)| *field == 6).map(|(_, status)| text(status, 2));
        self.asked.push(Asked { version: text(&message, 1), nonce: text(&message, 5), refused, message });
    }
}

fn routes(shared: &Arc<Mutex<Shared>>) -> Router {
    Router::new().route(ADS, post(stream_resources)).with_state(Arc::clone(shared))
}

async fn stream_resources(State(shared): State<Arc<Mutex<Shared>>>, body: Body) -> Response {
    let grpc = (header::CONTENT_TYPE, "application/grpc");
    if shared.lock().unwrap().denies {
        return ([grpc, ("grpc-status".parse().unwrap(), "7"), ("grpc-message".parse().unwrap(), "who are you?")], "")
            .into_response();
    }
    let (send, responses) = unbounded_channel();
    tokio::spawn(async move {
        let mut body = body.into_data_stream();
        let mut read = Vec::new();
        shared.lock().unwrap().open += 1;
        let mut first = Some(send);
        while let Some(Ok(data)) = body.next().await {
            read.extend_from_slice(&data);
            while read.len() >= 5 {
                let length = u32::from_be_bytes(read[1..5].try_into().unwrap()) as usize;
                if read.len() < 5 + length {
                    break;
                }
                let message = read[5..5 + length].to_vec();
                read.drain(..5 + length);
                let mut shared = shared.lock().unwrap();
                shared.hear(message);
                // Whoever asks for the first time is told what there is.
                if let Some(stream) = first.take() {
                    shared.response().map(|response| stream.send(response));
                    shared.streams.push(stream);
                }
            }
        }
        shared.lock().unwrap().open -= 1;
    });
    let responses = stream::unfold(responses, |mut responses| async {
        let response = responses.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(response), responses))
    });
    ([grpc], Body::from_stream(responses)).into_response()
}

type Watch = Discoverer<Origin, XdsSource<Origin>>;

fn config(plane: &ControlPlane) -> XdsConfig {
    XdsConfig::new([plane.url()]).node("gateway-1", "gateways").zone("eu-1a").timeout(MS * 2_000)
}

fn follow(config: XdsConfig, guard: Guard) -> (BackendPool<Origin>, Watch) {
    let pool = BackendPool::empty();
    let discoverer = Discoverer::new(&pool, XdsSource::new(config, "web").http()).guard(guard).backoff(QUICK);
    tokio::spawn(discoverer.run());
    (pool, discoverer)
}

fn ports(pool: &BackendPool<Origin>) -> Vec<u16> {
    let members = pool.members();
    let mut ports: Vec<_> =
        members.iter().filter(|(backend, _)| backend.is_eligible()).map(|(_, origin)| origin.port()).collect();
    ports.sort_unstable();
    ports
}

async fn are_there(pool: &BackendPool<Origin>, expected: &[u16]) {
    until(|| async { ports(pool) == expected }).await;
}

fn cause(discoverer: &Watch) -> String {
    discoverer.status().last_failure.unwrap().cause.to_string()
}

#[tokio::test]
async fn endpoints_join_leave_change_and_are_drained_and_what_is_taken_in_is_acknowledged() {
    let plane = ControlPlane::start().await;
    plane.say_of_web([locality("eu-1a", 0, [endpoint(1), endpoint(2)]), locality("eu-1b", 1, [endpoint(3)])]);
    let (pool, discoverer) = follow(config(&plane), Guard::off());
    are_there(&pool, &[1, 2, 3]).await;
    assert_eq!(&*discoverer.status().source, "xds web");
    let place = |port| pool.get(&format!("http://10.0.0.1:{port}")).unwrap().locality().clone();
    assert_eq!((place(1).priority, place(1).zone.as_deref()), (0, Some("eu-1a")));
    assert_eq!((place(3).priority, place(3).zone.as_deref()), (1, Some("eu-1b")));
    plane.is_acknowledged().await;

    // What it asked with: no version, no nonce, who it is, the cluster by its name.
    let first = &plane.asked()[0];
    assert_eq!((&*first.version, &*first.nonce), ("", ""));
    assert_eq!((text(&first.message, 3), text(&first.message, 4)), ("web".to_owned(), EDS.to_owned()));
    let said = fields(&first.message);
    let (_, node) = said.iter().find(|(field, _)| *field == 2).unwrap();
    assert_eq!([text(node, 1), text(node, 2), text(node, 6)], ["gateway-1", "gateways", "tower-balancer"]);
    let (_, here) = fields(node).into_iter().find(|(field, _)| *field == 4).unwrap();
    assert_eq!(text(here, 2), "eu-1a");

    let one = pool.get("http://10.0.0.1:1").unwrap();
    let (version, draining) = (discoverer.status().version, endpoint_at("10.0.0.1", 2, DRAINING, 1));
    plane.say_of_web([locality("eu-1a", 0, [endpoint_at("10.0.0.1", 1, 1, 3), draining, endpoint(4)])]);
    are_there(&pool, &[1, 4]).await;
    assert!(Arc::ptr_eq(&one, &pool.get("http://10.0.0.1:1").unwrap()));
    assert_eq!(one.weight(), 3.0 * pool.get("http://10.0.0.1:4").unwrap().weight());
    assert_eq!(pool.get("http://10.0.0.1:2").unwrap().health().state(), HealthState::Draining);
    assert_ne!(discoverer.status().version, version);
    plane.is_acknowledged().await;

    let sick = endpoint_at("10.0.0.1", 4, UNHEALTHY, 1);
    plane.say_of_web([locality("eu-1a", 0, [endpoint(1), sick, endpoint(5)])]);
    are_there(&pool, &[1, 5]).await;
    // Of another cluster it is none of ours.
    plane.say(assignment("website", [locality("", 0, [endpoint(9)])]));
    plane.is_acknowledged().await;
    assert_eq!((ports(&pool), discoverer.status().last_failure), (vec![1, 5], None));
}

#[tokio::test]
async fn a_bad_assignment_is_refused_with_the_reason_and_the_members_stay() {
    let plane = ControlPlane::start().await;
    plane.say_of_web([locality("", 0, [endpoint(1), endpoint(2)])]);
    let (pool, discoverer) = follow(config(&plane), Guard::default());
    are_there(&pool, &[1, 2]).await;
    plane.is_acknowledged().await;

    plane.say_of_web([locality("", 0, [endpoint(3), endpoint_at("web.example", 4, 0, 1)])]);
    until(|| async { plane.last().refused.is_some() }).await;
    let Asked { version, nonce, refused, .. } = plane.last();
    // The version is still that of what it has.
    assert_eq!((&*version, &*nonce), ("1", "n2"));
    assert!(refused.unwrap().contains("\"web.example\" is no IP address"));
    until(|| async { discoverer.status().failures == 1 }).await;
    let expected = "the assignment of web is refused: \"web.example\" is no IP address";
    assert_eq!((cause(&discoverer), ports(&pool)), (expected.to_owned(), vec![1, 2]));

    // What is no assignment at all.
    plane.say(vec![0xff; 3]);
    until(|| async { plane.last().nonce == "n3" && plane.last().refused.is_some() }).await;
    assert_eq!(ports(&pool), [1, 2]);
    plane.say_of_web([locality("", 0, [endpoint(1), endpoint(4)])]);
    are_there(&pool, &[1, 4]).await;
    assert_eq!(discoverer.status().failures, 0);
}

#[tokio::test]
async fn a_control_plane_that_is_killed_and_comes_back_changes_nothing_but_what_has_changed() {
    let mut plane = ControlPlane::start().await;
    plane.say_of_web([locality("", 0, [endpoint(1), endpoint(2)])]);
    let (pool, discoverer) = follow(config(&plane), Guard::off());
    are_there(&pool, &[1, 2]).await;
    let one = pool.get("http://10.0.0.1:1").unwrap();
    plane.kill().await;
    until(|| async { discoverer.status().failures > 2 }).await;
    assert_eq!((cause(&discoverer), ports(&pool)), ("Connection refused".to_owned(), vec![1, 2]));
    plane.say_of_web([locality("", 0, [endpoint(1), endpoint(3)])]);
    plane.revive().await;
    are_there(&pool, &[1, 3]).await;
    assert!(Arc::ptr_eq(&one, &pool.get("http://10.0.0.1:1").unwrap()));
    assert_eq!(discoverer.status().failures, 0);

    // A stream that ends is begun anew, and nothing of the one before it is said in it.
    plane.is_acknowledged().await;
    let before = plane.asked().len();
    plane.end();
    until(|| async { plane.asked().len() > before }).await;
    assert_eq!((&*plane.asked()[before].version, &*plane.asked()[before].nonce), ("", ""));
    until(|| async { discoverer.status().failures == 0 }).await;
    plane.say_of_web([locality("", 0, [endpoint(1), endpoint(4)])]);
    are_there(&pool, &[1, 4]).await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why_and_of_several_servers_one_that_answers_is_found() {
    let (strict, open) = (ControlPlane::start().await, ControlPlane::start().await);
    strict.shared.lock().unwrap().denies = true;
    let (_, discoverer) = follow(config(&strict), Guard::default());
    until(|| async { discoverer.status().failures > 0 }).await;
    assert!(cause(&discoverer).contains("who are you?"), "{}", cause(&discoverer));

    open.say_of_web([locality("", 0, [endpoint(1)])]);
    let dead = format!("http://{}", SocketAddr::from(([127, 0, 0, 1], common::gateway::free_port())));
    let (pool, _discoverer) = follow(XdsConfig::new([strict.url(), dead, open.url()]), Guard::default());
    are_there(&pool, &[1]).await;
    let (_, discoverer) = follow(XdsConfig::new([""; 0]), Guard::default());
    until(|| async { discoverer.status().failures > 0 }).await;
    assert_eq!(cause(&discoverer), "there are no servers of the control plane");
}

#[tokio::test]
async fn silence_about_a_cluster_is_a_failure_until_it_is_spoken_of() {
    let plane = ControlPlane::start().await;
    let (pool, discoverer) = follow(config(&plane).timeout(MS * 200), Guard::default());
    let silence = "the control plane says nothing of the cluster web";
    until(|| async { discoverer.status().failures > 0 && cause(&discoverer) == silence }).await;
    plane.say_of_web([locality("", 0, [endpoint(1)])]);
    are_there(&pool, &[1]).await;
    assert_eq!(plane.shared.lock().unwrap().open, 1);
}

#[tokio::test]
async fn an_emptied_cluster_is_looked_at_twice() {
    let plane = ControlPlane::start().await;
    plane.say_of_web([locality("", 0, [endpoint(1), endpoint(2)])]);
    let (pool, discoverer) = follow(config(&plane), Guard::default().confirm_after(MS * 500));
    are_there(&pool, &[1, 2]).await;
    plane.say_of_web([]);
    until(|| async { discoverer.status().doubted == 2 }).await;
    assert_eq!(ports(&pool), [1, 2]);
    are_there(&pool, &[]).await;
    // It was looked at by another stream, and the one before is closed.
    assert_eq!(plane.asked().iter().filter(|asked| asked.nonce.is_empty()).count(), 2);
    until(|| async { plane.shared.lock().unwrap().open == 1 }).await;
}

#[tokio::test]
async fn a_source_that_is_dropped_leaves_no_stream_behind() {
    let plane = ControlPlane::start().await;
    plane.say_of_web([locality("", 0, [endpoint(1)])]);
    let (pool, discoverer) = follow(config(&plane), Guard::default());
    are_there(&pool, &[1]).await;
    assert_eq!(plane.shared.lock().unwrap().open, 1);
    discoverer.stop();
    drop(discoverer);
    until(|| async { plane.shared.lock().unwrap().open == 0 }).await;
    assert_eq!(ports(&pool), [1]);
}

#[tokio::test]
async fn over_tls_the_server_has_to_be_whom_the_authority_says() {
    use tls::{Authority, Backend, Speaks};
    let (authority, stranger) = (Authority::new(), Authority::new());
    let plane = ControlPlane::start().await;
    plane.say_of_web([locality("", 0, [endpoint(1)])]);
    let serving = Backend::serving(&Speaks::as_(authority.signs("xds.internal")), routes(&plane.shared)).await;
    let config = |authority: &Authority| XdsConfig::new([serving.url("127.0.0.1")]).ca(&authority.pem);
    let (pool, _discoverer) = follow(config(&authority).server_name("xds.internal"), Guard::default());
    are_there(&pool, &[1]).await;
    for config in [config(&stranger).server_name("xds.internal"), config(&authority)] {
        let (pool, discoverer) = follow(config, Guard::default());
        until(|| async { discoverer.status().failures > 0 }).await;
        assert!(cause(&discoverer).contains("certificate"), "{}", cause(&discoverer));
        assert!(ports(&pool).is_empty());
    }
}

#[tokio::test]
async fn the_members_may_be_of_any_kind() {
    let plane = ControlPlane::start().await;
    plane.say_of_web([locality("", 0, [endpoint(1), endpoint_at("fd00::1", 2, 0, 1)])]);
    let pool = BackendPool::<SocketAddr>::from_members([]).unwrap();
    let discoverer = Discoverer::new(&pool, XdsSource::new(config(&plane), "web"));
    tokio::spawn(discoverer.run());
    until(|| async { discoverer.status().is_ready() }).await;
    let ids: Vec<_> = pool.members().iter().map(|(backend, _)| backend.id().to_string()).collect();
    assert_eq!(ids, ["10.0.0.1:1", "[fd00::1]:2"]);
}
