//! A gRPC probe asks real health services.

mod common;

use common::{Server, answers_with, says};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use std::convert::Infallible;
use tonic_health::{ServingStatus, server::health_reporter};
use tower_balancer::{BackendPool, HealthChecker, health::Probe, http::GrpcProbe};

async fn ask(server: &Server, probe: GrpcProbe) -> Result<String, String> {
    probe.check(server.url().parse().unwrap()).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_is_well_that_says_it_is_serving() {
    let (reporter, service) = health_reporter();
    let server = Server::http(service).await;
    assert_eq!(ask(&server, GrpcProbe::new()).await.as_deref(), Ok("SERVING"));

    let orders = || GrpcProbe::new().service("shop.Orders");
    assert_eq!(ask(&server, orders()).await.unwrap_err(), "grpc-status: 5 NOT_FOUND");
    for (status, answer) in [
        (ServingStatus::Serving, Ok("SERVING")),
        (ServingStatus::NotServing, Err("NOT_SERVING")),
        (ServingStatus::Unknown, Err("UNKNOWN")),
    ] {
        reporter.set_service_status("shop.Orders", status).await;
        assert_eq!(ask(&server, orders()).await, answer.map(Into::into).map_err(Into::into));
    }
    let long = "a".repeat(300);
    reporter.set_service_status(&long, ServingStatus::Serving).await;
    assert_eq!(ask(&server, GrpcProbe::new().service(&*long)).await.as_deref(), Ok("SERVING"));

    let elsewhere = "http://127.0.0.1:1".parse().unwrap();
    assert!(GrpcProbe::new().port(server.address.port()).check(elsewhere).await.is_ok());
}

#[tokio::test]
async fn a_checker_takes_it_out_and_in() {
    let (reporter, service) = health_reporter();
    let server = Server::http(service).await;
    let pool = BackendPool::new([server.url()]).unwrap();
    let checker = HealthChecker::new(&pool, GrpcProbe::new());
    for (status, cause) in [(ServingStatus::NotServing, "NOT_SERVING"), (ServingStatus::Serving, "SERVING")] {
        reporter.set_service_status("", status).await;
        checker.check_all().await;
        assert_eq!(pool.backends()[0].health().cause(), Some(cause));
    }
    assert_eq!(pool.healthy().len(), 1);
    server.kill().await;
    checker.check_all().await;
    assert_eq!(pool.backends()[0].health().cause(), Some("Connection refused"));
}

#[tokio::test]
async fn a_server_without_a_health_service_is_named_so() {
    let server = answering(Some("12"), &[], None).await;
    let error = ask(&server, GrpcProbe::new()).await.unwrap_err();
    assert_eq!(error, "grpc-status: 12 UNIMPLEMENTED, the server has no grpc.health.v1.Health");
}

/// Answers with a message and with a status in the head or in the trailers.
async fn answering(head: Option<&'static str>, message: &'static [u8], trailer: Option<&'static str>) -> Server {
    Server::http(answers_with(move |_| {
        let status = |value: &'static str| ("grpc-status".parse().unwrap(), value.parse().unwrap());
        let data = (!message.is_empty()).then(|| Frame::data(bytes::Bytes::from_static(message)));
        let trailers = trailer.map(|value| Frame::trailers(HeaderMap::from_iter([status(value)])));
        let frames = data.into_iter().chain(trailers).map(Ok::<_, Infallible>);
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())));
        response.headers_mut().extend(head.map(status).map(|(name, value)| (Some(name), value)));
        async move { response }
    }))
    .await
}

#[tokio::test]
async fn the_status_is_read_from_the_trailers_and_from_the_head() {
    const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
    for (head, message, trailer, answer) in [
        (None, SERVING, Some("0"), Ok("SERVING")),
        (None, &[0, 0, 0, 0, 2, 8, 3], Some("0"), Err("SERVICE_UNKNOWN")),
        (None, &[0, 0, 0, 0, 2, 8, 7], Some("0"), Err("serving status 7")),
        (None, SERVING, Some("14"), Err("grpc-status: 14 UNAVAILABLE")),
        (Some("8"), &[], None, Err("grpc-status: 8 RESOURCE_EXHAUSTED")),
        (None, &[], Some("16"), Err("grpc-status: 16 UNAUTHENTICATED")),
        (None, &[], Some("99"), Err("grpc-status: 99 that is none")),
        (None, &[], Some("what"), Err("grpc-status: 2 UNKNOWN")),
        (Some("0"), &[], None, Err("the answer is no HealthCheckResponse")),
        (None, SERVING, None, Err("the answer has no grpc-status")),
        (None, &[1, 0, 0, 0, 2, 8, 1], Some("0"), Err("the answer is no HealthCheckResponse")),
        (None, &[0; 5_000], Some("0"), Err("the answer is too long for a health service's")),
    ] {
        let server = answering(head, message, trailer).await;
        assert_eq!(ask(&server, GrpcProbe::new()).await, answer.map(Into::into).map_err(Into::into));
    }
}

#[tokio::test]
async fn what_does_not_speak_grpc_is_not_well() {
    assert_eq!(
        ask(&Server::http(says("hello")).await, GrpcProbe::new()).await,
        Err("the answer has no grpc-status".into())
    );
    let closed = Server::raw(|stream| async move { drop(stream) }).await;
    assert!(ask(&closed, GrpcProbe::new()).await.is_err());
    let http1 = Server::raw(|mut stream| async move {
        _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    assert!(ask(&http1, GrpcProbe::new()).await.is_err());
}
