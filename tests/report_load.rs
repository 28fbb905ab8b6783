//! Servers that tell how loaded they are, and what a proxy makes of it, over real sockets.

mod common;

use axum::{Router, routing::get};
use bytes::Bytes;
use common::{Server, client, get as ask, until};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_balancer::{
    BackendPool, BalancerLayer, BoxError, FeedbackLayer, ReverseProxy,
    backend::{Backend, Moment, Report},
    http::{AddressLayer, ClientConfig, ReportLoadLayer, orca},
    pool::Member,
    strategy::{ClientWeighted, RoundRobin},
};

fn told(backend: &Backend) -> Option<Report> {
    backend.report(Moment::of(tokio::time::Instant::now().into_std())).map(|reported| reported.report)
}

/// The status and the headers of a GET, and what the server told.
async fn head(url: &str, path: &str) -> (StatusCode, HeaderMap, Option<Report>) {
    let request = Request::get(format!("{url}{path}")).body(Full::default()).unwrap();
    let (mut head, body) = client().oneshot(request).await.unwrap().into_parts();
    body.collect().await.unwrap();
    let report = orca::take(&mut head.headers);
    (head.status, head.headers, report)
}

// ---- the server

#[tokio::test]
async fn a_server_tells_its_load_in_each_answer() {
    let slow = || async { tokio::time::sleep(Duration::from_millis(20)).await };
    let app = Router::new()
        .route("/", get(slow))
        .route("/broken", get(|| async { StatusCode::BAD_GATEWAY }))
        .route("/own", get(|| async { ([(orca::HEADER, "TEXT eps=7")], "") }))
        .layer(ReportLoadLayer::new().capacity(2.0));
    let server = Server::http(app).await;

    let (_, headers, report) = head(&server.url(), "/").await;
    assert!(headers.get(orca::HEADER).is_none(), "there was a second one");
    let report = report.unwrap();
    assert_eq!((report.in_flight, report.latency, report.eps), (Some(1.0), None, 0.0));

    assert_eq!(head(&server.url(), "/broken").await.0, StatusCode::BAD_GATEWAY);
    let report = head(&server.url(), "/").await.2.unwrap();
    assert!(report.qps > 0.0 && report.eps > 0.0 && report.utilization > 0.0, "{report:?}");
    // That of the first: the error was faster, and is no sample.
    assert!((0.02..10.0).contains(&report.latency.unwrap()), "{report:?}");
    assert_eq!(head(&server.url(), "/own").await.2, Some(Report { eps: 7.0, ..Report::default() }));
}

#[tokio::test]
async fn a_probe_is_answered_at_once_and_counts_for_nothing() {
    let gate = Arc::new(Notify::new());
    let waits = Arc::clone(&gate);
    let app = Router::new()
        .route("/", get(move || async move { waits.notified().await }))
        .layer(ReportLoadLayer::new().utilization(|| 0.75).probe_path("/load"));
    let server = Server::http(app).await;
    let url = server.url();
    let load = || async {
        let (status, _, report) = head(&url, "/load?x=1").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        report.unwrap()
    };
    assert_eq!(load().await, Report { utilization: 0.75, in_flight: Some(0.0), ..Report::default() });

    let waiting = tokio::spawn(ask(server.url()));
    until(|| async { load().await.in_flight == Some(1.0) }).await;
    waiting.abort();
    until(|| async { load().await.in_flight == Some(0.0) }).await;
    assert_eq!(load().await.latency, None, "a client that hung up is no sample");

    gate.notify_one();
    assert_eq!(ask(server.url()).await.0, 200);
    until(|| async { load().await.latency.is_some() }).await;
}

#[tokio::test]
async fn a_request_is_in_flight_to_the_end_of_its_body() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let receiver = Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let layer = ReportLoadLayer::new().probe_path("/load");
    let streams = layer.layer(service_fn(move |_: Request<()>| {
        let receiver = Arc::clone(&receiver);
        async move {
            let mut receiver = receiver.lock().await.take().unwrap();
            let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
            Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
        }
    }));
    let in_flight = || async {
        let mut answer = streams.clone().oneshot(Request::get("/load").body(()).unwrap()).await.unwrap();
        assert!(http_body::Body::is_end_stream(answer.body()));
        assert!(answer.body_mut().collect().await.unwrap().to_bytes().is_empty());
        orca::take(answer.headers_mut()).unwrap().in_flight.unwrap()
    };
    // Nobody lets go of the bodies here: it is their end that counts.
    let mut body = streams.clone().oneshot(Request::new(())).await.unwrap().into_body();
    assert_eq!(in_flight().await, 1.0);
    sender.send(Ok(Frame::data(Bytes::from_static(b"all")))).await.unwrap();
    drop(sender);
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "all");
    assert_eq!(in_flight().await, 1.0);
    assert!(body.frame().await.is_none());
    assert_eq!(in_flight().await, 0.0);

    let empty =
        layer.layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))));
    let _body = empty.oneshot(Request::new(())).await.unwrap().into_body();
    assert_eq!(in_flight().await, 0.0);
}

// ---- the proxy

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_one_with_half_the_utilization_gets_twice_the_traffic() {
    let work = |capacity| {
        let served = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&served);
        let handler = move || async move {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        (Router::new().route("/", get(handler)).layer(ReportLoadLayer::new().capacity(capacity)), served)
    };
    let ((strong, by_strong), (weak, by_weak)) = (work(20.0), work(10.0));
    let servers = [Server::http(strong).await, Server::http(weak).await];
    let pool = BackendPool::new(servers.iter().map(Server::url)).unwrap();
    let strategy = ClientWeighted::new().blackout(Duration::ZERO).update_period(Duration::from_millis(100));
    let proxy = ReverseProxy::builder(&pool).strategy(strategy).build();

    let clients = || async {
        let client = |_| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                for _ in 0..40 {
                    let request = Request::get("http://proxy/").body(Full::<Bytes>::default()).unwrap();
                    let answer = proxy.clone().oneshot(request).await.unwrap();
                    assert!(!answer.headers().contains_key(orca::HEADER), "the client sees our insides");
                    answer.into_body().collect().await.unwrap();
                }
            })
        };
        for client in (0..6).map(client).collect::<Vec<_>>() {
            client.await.unwrap();
        }
    };
    clients().await;
    let before = [by_strong.load(Ordering::Relaxed), by_weak.load(Ordering::Relaxed)];
    clients().await;
    let strong = (by_strong.load(Ordering::Relaxed) - before[0]) as f64;
    let weak = (by_weak.load(Ordering::Relaxed) - before[1]) as f64;
    assert!((1.6..2.5).contains(&(strong / weak)), "{strong} to {weak}, {:?}", pool.backends().iter().map(|b| told(b)));
}

/// What a client gets of an answer with these headers and trailers, and what the backend's report is then.
async fn through_feedback(headers: HeaderMap, trailers: HeaderMap) -> (HeaderMap, HeaderMap, Option<Report>) {
    let pool = BackendPool::from_members([Member::new("a", ())]).unwrap();
    let answer = service_fn(move |_| {
        let frames =
            [Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(trailers.clone()))];
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
        *response.headers_mut() = headers.clone();
        async { Ok::<_, BoxError>(response) }
    });
    let service = BalancerLayer::new(&pool, RoundRobin::new()).layer(FeedbackLayer::http().layer(answer));
    let (head, body) = service.oneshot(()).await.unwrap().into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap();
    (head.headers, trailers, told(&pool.backends()[0]))
}

#[tokio::test]
async fn trailers_tell_too_and_keep_the_rest() {
    let trailers = |value: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert(orca::BINARY, value.parse().unwrap());
        trailers
    };
    // cpu_utilization is 0.5.
    let (_, left, report) = through_feedback(HeaderMap::new(), trailers("CQAAAAAAAOA/")).await;
    assert_eq!(report, Some(Report { utilization: 0.5, ..Report::default() }));
    assert_eq!((left.len(), &left["grpc-status"]), (1, &"0".parse().unwrap()));

    // Garbage is taken out as well, and says nothing.
    let mut headers = HeaderMap::new();
    headers.insert(orca::HEADER, "TEXT garbage".parse().unwrap());
    let (headers, left, report) = through_feedback(headers, trailers("garbage!")).await;
    assert_eq!((headers.len(), left.len(), report), (0, 1, None));
}

#[test]
fn an_answer_that_tells_nothing_costs_no_allocation() {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/plain".parse().unwrap());
    let allocated = allocation_counter::measure(|| assert_eq!(orca::take(&mut headers), None));
    assert_eq!((allocated.count_total, headers.len()), (0, 1));
}

#[tokio::test]
async fn a_tonic_server_tells_and_a_tonic_client_does_not_see_it() {
    let (_, health) = tonic_health::server::health_reporter();
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = tonic::transport::Server::builder().layer(ReportLoadLayer::new().utilization(|| 0.5));
    let serving = tokio::spawn(server.serve_with_incoming(health, incoming));

    let pool = BackendPool::new([format!("http://{address}")]).unwrap();
    let balanced = ServiceBuilder::new()
        .layer(BalancerLayer::new(&pool, ClientWeighted::new()))
        .layer(FeedbackLayer::http())
        .layer(AddressLayer::new())
        .service(ClientConfig::new().http2().build());
    let mut client = HealthClient::new(balanced);
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    assert!(!answer.metadata().contains_key(orca::HEADER.as_str()));
    let report = told(&pool.backends()[0]).unwrap();
    assert_eq!((report.utilization, report.in_flight), (0.5, Some(1.0)));
    serving.abort();
}
