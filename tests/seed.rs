//! The seed system, row by row, over real sockets: pool, round robin, checker, proxy.

mod common;

use common::{Server, answers, answers_with, get, says, send, until};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower_balancer::{
    BackendPool, HealthChecker, ReverseProxy,
    backend::Origin,
    health::{DEFAULT_INTERVAL, DEFAULT_TIMEOUT},
    http::{HttpProbe, RetryLayer, ServedBy},
    strategy::Random,
};

/// Three backends that say their names, and a proxy over them.
async fn three() -> (Vec<Server>, BackendPool<Origin>, Server) {
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(Server::http(says(name)).await);
    }
    let pool = BackendPool::new(servers.iter().map(Server::url)).unwrap();
    let proxy = Server::http(ReverseProxy::new(&pool)).await;
    (servers, pool, proxy)
}

async fn names(proxy: &Server, requests: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..requests {
        names.push(get(proxy.url()).await.1);
    }
    names
}

fn ids(backends: &[Arc<tower_balancer::backend::Backend>]) -> Vec<String> {
    backends.iter().map(|backend| backend.id().to_string()).collect()
}

#[tokio::test]
async fn backends_answer_in_turn() {
    let (_servers, _pool, proxy) = three().await;
    assert_eq!(names(&proxy, 7).await, ["one", "two", "three", "one", "two", "three", "one"]);
}

#[tokio::test]
async fn all_start_healthy_and_marks_take_them_in_and_out_at_once() {
    let (servers, pool, proxy) = three().await;
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    assert_eq!((ids(&pool.backends()), ids(&pool.healthy())), (urls.clone(), urls.clone()));

    assert!(pool.mark_unhealthy(&urls[1]));
    assert_eq!(ids(&pool.healthy()), [&*urls[0], &urls[2]]);
    assert_eq!(ids(&pool.backends()), urls, "getting them all depends on health");
    assert!(!names(&proxy, 6).await.contains(&"two".to_owned()));

    assert!(pool.mark_healthy(&urls[1]));
    assert_eq!(names(&proxy, 3).await.iter().filter(|name| *name == "two").count(), 1);

    assert!(!pool.mark_unhealthy("http://127.0.0.1:1") && !pool.mark_healthy("http://127.0.0.1:1"));
    assert_eq!(ids(&pool.healthy()), urls);
}

#[tokio::test]
async fn a_strategy_is_exchanged_without_touching_the_rest() {
    let (_servers, pool, _) = three().await;
    let proxy = Server::http(ReverseProxy::builder(&pool).strategy(Random).build()).await;
    assert!(names(&proxy, 60).await.windows(4).any(|turn| turn[0] != turn[3]), "that was round robin");
}

#[tokio::test]
async fn method_path_query_headers_and_body_go_there_and_status_headers_and_body_come_back() {
    let echo = answers_with(|request| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = format!("{} {} {:?} {}", head.method, head.uri, head.headers["x-mine"], body.escape_ascii());
        Response::builder().status(418).header("x-yours", "kept").body(Full::<bytes::Bytes>::from(text)).unwrap()
    });
    let backend = Server::http(echo).await;
    let pool = BackendPool::new([backend.url()]).unwrap();
    let proxy = Server::http(ReverseProxy::new(&pool)).await;

    let request = Request::put(format!("{}/a%20b/../c?d=%2F&e", proxy.url())).header("x-mine", "kept");
    let request = request.body(Full::from("payload")).unwrap();
    let response = tower::ServiceExt::oneshot(common::client(), request).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-yours"]), (418, &"kept".parse().unwrap()));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "PUT /a%20b/../c?d=%2F&e \"kept\" payload");
}

#[tokio::test]
async fn no_healthy_backend_is_503_with_its_words() {
    let (servers, pool, proxy) = three().await;
    for server in &servers {
        pool.mark_unhealthy(&server.url());
    }
    assert_eq!(get(proxy.url()).await, (503, "No healthy backends available".to_owned()));

    let empty = BackendPool::new::<&str>([]).unwrap();
    let proxy = Server::http(ReverseProxy::new(&empty)).await;
    assert_eq!(get(proxy.url()).await, (503, "No healthy backends available".to_owned()));
}

#[tokio::test]
async fn a_dead_backend_is_out_at_once_and_costs_one_502_or_none_where_there_is_retry() {
    for (retry, failed) in [(RetryLayer::none(), 1), (RetryLayer::default(), 0)] {
        let (mut servers, pool, _) = three().await;
        let proxy = Server::http(ReverseProxy::builder(&pool).retry(retry).build()).await;
        let dead = servers.remove(1);
        let url = dead.url();
        dead.kill().await;

        let mut answers = Vec::new();
        for _ in 0..7 {
            answers.push(get(proxy.url()).await);
        }
        answers.retain(|(status, _)| *status != 200);
        assert_eq!(answers, vec![(502, "Bad gateway".to_owned()); failed]);
        let health = pool.get(&url).unwrap().health();
        assert_eq!(health.cause(), Some("Connection refused"));
    }
}

#[tokio::test]
async fn a_passing_check_puts_a_backend_back_and_a_failing_one_takes_it_out() {
    let (mut servers, pool, proxy) = three().await;
    let checker = HealthChecker::new(&pool, HttpProbe::new());
    let dead = servers.remove(2);
    let url = dead.url();
    let address = dead.kill().await;

    checker.check_all().await;
    assert_eq!(pool.healthy().len(), 2);
    assert_eq!(pool.get(&url).unwrap().health().cause(), Some("Connection refused"));
    assert!(names(&proxy, 4).await.iter().all(|name| name != "three"), "not one request found out the hard way");

    let _again = Server::http_at(address, says("three")).await;
    checker.check_all().await;
    assert_eq!(pool.get(&url).unwrap().health().cause(), Some("status: 200"));
    assert_eq!(names(&proxy, 3).await.iter().filter(|name| *name == "three").count(), 1);
}

#[tokio::test]
async fn the_checker_that_was_spawned_does_all_that_by_itself() {
    let (mut servers, pool, proxy) = three().await;
    let checker = HealthChecker::new(&pool, HttpProbe::new()).interval(Duration::from_millis(20));
    let task = tokio::spawn(checker.run());
    let address = servers.remove(0).kill().await;
    until(|| async { pool.healthy().len() == 2 }).await;
    let _again = Server::http_at(address, says("one")).await;
    until(|| async { pool.healthy().len() == 3 }).await;
    assert!(names(&proxy, 3).await.contains(&"one".to_owned()));
    checker.stop();
    task.await.unwrap();
}

#[tokio::test]
async fn only_2xx_is_healthy() {
    for (status, healthy) in
        [(200, true), (204, true), (299, true), (301, false), (404, false), (500, false), (503, false)]
    {
        let backend = Server::http(answers(StatusCode::from_u16(status).unwrap())).await;
        let pool = BackendPool::new([backend.url()]).unwrap();
        HealthChecker::new(&pool, HttpProbe::new()).check_all().await;
        let health = pool.backends()[0].health();
        assert_eq!((pool.healthy().len() == 1, health.cause()), (healthy, Some(&*format!("status: {status}"))));
    }
}

#[tokio::test]
async fn silence_is_unhealthy_and_the_probe_is_aborted() {
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    let silent = Server::raw(move |mut stream| {
        let open = Arc::clone(&counted);
        async move {
            open.fetch_add(1, Ordering::SeqCst);
            // Reads until the probe hangs up, and never answers.
            _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    let pool = BackendPool::new([silent.url()]).unwrap();
    HealthChecker::new(&pool, HttpProbe::new()).timeout(Duration::from_millis(100)).check_all().await;
    assert_eq!(pool.backends()[0].health().cause(), Some("no answer within 100ms"));
    until(|| async { open.load(Ordering::SeqCst) == 0 }).await;
}

#[tokio::test]
async fn garbage_for_an_answer_is_unhealthy() {
    let garbage = Server::raw(|mut stream| async move {
        _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"not http at all\r\n\r\n").await;
    })
    .await;
    let pool = BackendPool::new([garbage.url()]).unwrap();
    HealthChecker::new(&pool, HttpProbe::new()).check_all().await;
    assert!(pool.healthy().is_empty());
}

#[tokio::test]
async fn the_probe_asks_for_its_path() {
    let well = axum::Router::new().route("/health", axum::routing::get(|| async {}));
    let backend = Server::http(well).await;
    let pool = BackendPool::new([backend.url()]).unwrap();
    HealthChecker::new(&pool, HttpProbe::new()).check_all().await;
    assert_eq!(pool.healthy().len(), 0);
    HealthChecker::new(&pool, HttpProbe::new().path("/health".parse().unwrap())).check_all().await;
    assert_eq!(pool.healthy().len(), 1);
}

#[test]
fn the_defaults_are_the_seeds() {
    assert_eq!((DEFAULT_INTERVAL, DEFAULT_TIMEOUT), (Duration::from_secs(5), Duration::from_secs(3)));
}

#[tokio::test]
async fn an_answer_says_which_backend_it_is_from() {
    let (servers, pool, _) = three().await;
    let proxy = ReverseProxy::new(&pool);
    let request = Request::get("/").body(Full::<bytes::Bytes>::default()).unwrap();
    let response = tower::ServiceExt::oneshot(proxy, request).await.unwrap();
    assert_eq!(response.extensions().get::<ServedBy>().unwrap().backend(), &*servers[0].url());
    assert_eq!(send(Request::get(servers[0].url()).body(Full::default()).unwrap()).await.1, "one");
}
