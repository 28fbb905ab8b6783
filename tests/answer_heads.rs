//! How long the heads and the trailers of backends may be, over either protocol, and what becomes of those that are longer.

mod common;

use bytes::Bytes;
use common::{Server, answers_with, until};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use std::convert::Infallible;
use tower::ServiceExt;
use tower_balancer::{
    BackendPool, ReverseProxy,
    backend::{Origin, Outcome},
    http::{ClientConfig, RetryLayer},
    strategy::RoundRobin,
};

/// Over HTTP/2: less than may be with what else is in a head, and more.
const LONG: usize = 260_000;
const TOO_LONG: usize = 263_000;

type Proxy = ReverseProxy<RoundRobin, Full<Bytes>>;

/// Asked for a number, it answers with a header of so many bytes.
async fn wordy() -> Server {
    Server::http(answers_with(|request| async move {
        let length = request.uri().path()[1..].parse().unwrap();
        let mut response = Response::new(Full::<Bytes>::from("well"));
        response.headers_mut().insert("x-long", HeaderValue::try_from("x".repeat(length)).unwrap());
        response
    }))
    .await
}

fn over(server: &Server, client: ClientConfig) -> (BackendPool<Origin>, Proxy) {
    let pool = BackendPool::new([server.url()]).unwrap();
    let proxy = ReverseProxy::builder(&pool).strategy(RoundRobin::new()).client(client).retry(RetryLayer::none());
    (pool.clone(), proxy.build())
}

/// The status, how long the header is, and the body.
async fn ask(proxy: &Proxy, length: usize) -> (u16, usize, Bytes) {
    let request = Request::get(format!("http://a/{length}")).body(Full::default()).unwrap();
    let answer = proxy.clone().oneshot(request).await.unwrap();
    let (status, long) = (answer.status().as_u16(), answer.headers().get("x-long").map_or(0, HeaderValue::len));
    (status, long, answer.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_long_head_arrives_and_one_that_is_too_long_is_a_502_and_takes_nobody_out() {
    let server = wordy().await;
    for (client, long, too_long) in [
        // A buffer may have room for more than it has to.
        (ClientConfig::new(), [17_000, 60_000], [140_000, 263_000, 2_000_000]),
        // What is longer by far is not even read to its end: the connection is closed on it.
        (ClientConfig::new().http2(), [17_000, LONG], [TOO_LONG, 4 * TOO_LONG, 10 * TOO_LONG]),
    ] {
        let (pool, proxy) = over(&server, client);
        for length in long {
            assert_eq!(ask(&proxy, length).await, (200, length, "well".into()));
        }
        for length in too_long {
            assert_eq!(ask(&proxy, length).await, (502, 0, "Bad gateway".into()), "{length}");
        }
        let backend = pool.backends().remove(0);
        until(|| async { backend.load().in_flight() == 0 }).await;
        // It is counted, and one route that is so is not the end of the backend.
        let counts = [Outcome::Success, Outcome::BackendFault].map(|outcome| backend.load().count(outcome));
        assert_eq!((counts, backend.load().completed()), ([2, 3], 5), "{:?}", backend.load());
        assert!(backend.is_eligible());
        assert_eq!(ask(&proxy, 1).await.0, 200);
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_ends_its_stream_and_no_other() {
    let server = wordy().await;
    let (_, proxy) = over(&server, ClientConfig::new().http2());
    let (well, bad, also) = tokio::join!(ask(&proxy, 1), ask(&proxy, TOO_LONG), ask(&proxy, LONG));
    assert_eq!((well.0, bad.0, also.0), (200, 502, 200));
}

#[tokio::test]
async fn trailers_over_http2_may_be_long_as_well() {
    const DETAILS: usize = 100_000;
    let server = Server::http(answers_with(|_| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status-details-bin", HeaderValue::try_from("x".repeat(DETAILS)).unwrap());
        trailers.insert("grpc-status", HeaderValue::from_static("3"));
        let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
        Response::new(StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Infallible>))))
    }))
    .await;
    let (_, proxy) = over(&server, ClientConfig::new().http2());
    let request = Request::post("http://a/").header("te", "trailers").body(Full::default()).unwrap();
    let answer = proxy.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    let trailers = answer.trailers().expect("they are gone");
    assert_eq!((trailers["grpc-status-details-bin"].len(), &trailers["grpc-status"]), (DETAILS, &"3".parse().unwrap()));
}
