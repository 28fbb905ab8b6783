//! What the file says of a pool is what the pool does, with the real binary.

mod common;

use bytes::Bytes;
use common::{
    Server, answers_with,
    gateway::{ConfigFile, Gateway, free_port},
    get, says, send, waits,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tower::ServiceExt;

/// A gateway over one pool without checks, unless they are among `keys`.
fn over(backends: &[&str], keys: &str) -> Gateway {
    let health = if keys.contains("health") { "" } else { "health = \"off\"\n" };
    Gateway::by(&ConfigFile::new(&format!("[pools.web]\nbackends = {backends:?}\n{health}{keys}")))
}

/// Answers the first `good` requests, and all others with 500; and how many there were.
async fn fails_after(good: usize) -> (Server, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let server = Server::http(answers_with(move |_| {
        let is_good = counted.fetch_add(1, Ordering::Relaxed) < good;
        async move {
            let mut response = Response::new(Full::<Bytes>::from("fails"));
            *response.status_mut() = if is_good { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            response
        }
    }))
    .await;
    (server, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_attempts_are_all_together() {
    let seen = Arc::new(AtomicUsize::new(0));
    let down = || async {
        let seen = Arc::clone(&seen);
        Server::http(answers_with(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            async {
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
        }))
        .await
    };
    let servers = [down().await, down().await, down().await];
    let [a, b, c] = servers.each_ref().map(Server::url);
    for attempts in 1..=3 {
        let gateway = over(&[&a, &b, &c], &format!("retry = {{ attempts = {attempts} }}"));
        assert_eq!(get(&gateway.url).await.0, 503);
        assert_eq!(seen.swap(0, Ordering::Relaxed), attempts);
    }
    let well = Server::http(says("well")).await;
    let c = well.url();
    // Sent once, unless the file says that it may be sent again.
    let post = |gateway: &Gateway| send(Request::post(&gateway.url).body(Full::default()).unwrap());
    assert_eq!(post(&over(&[&a, &c], "")).await.0, 503);
    assert_eq!(post(&over(&[&a, &c], "retry = { any_method = true }")).await.0, 200);
    assert_eq!(get(&over(&[&a, &c], "retry = { budget = 0, min_per_second = 0 }").url).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_a_row_take_a_backend_out_and_fail_open_puts_all_in() {
    let well = Server::http(says("well")).await;
    for (outlier, most) in [("consecutive = 8, detector = \"off\"", 8), ("consecutive = 0, detector = \"off\"", 20)] {
        let (fails, seen) = fails_after(0).await;
        let gateway =
            over(&[&fails.url(), &well.url()], &format!("outlier = {{ {outlier}, base_ejection = \"100s\" }}"));
        for _ in 0..40 {
            get(&gateway.url).await;
        }
        assert_eq!(seen.load(Ordering::Relaxed), most, "{outlier}");
    }
    let dead = "health = { interval = \"100ms\", status = [\"418\"] }";
    let gateway = over(&[&well.url()], dead);
    gateway.line("HEALTH: UNHEALTHY");
    assert_eq!(get(&gateway.url).await.0, 503);
    let gateway = over(&[&well.url()], &format!("{dead}\nfail_open = \"all_backends\""));
    gateway.line("HEALTH: UNHEALTHY");
    assert_eq!(get(&gateway.url).await, (200, "well".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fail_open_wait_requests_wait_for_somebody_to_come_back() {
    let address = free_port();
    let url = format!("http://127.0.0.1:{address}");
    let keys = "fail_open = \"wait\"\nlimits = { max_waiting = 5, wait = \"15s\" }\n\
                health = { interval = \"100ms\", fast_interval = \"100ms\" }";
    let gateway = over(&[&url], keys);
    gateway.line("HEALTH: UNHEALTHY");
    let asked = gateway.url.clone();
    let answer = tokio::spawn(async move { get(asked).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _back = Server::http_at(([127, 0, 0, 1], address).into(), says("back")).await;
    assert_eq!(answer.await.unwrap(), (200, "back".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_are_of_the_kind_that_the_file_says() {
    let (reporter, service) = tonic_health::server::health_reporter();
    let grpc = Server::http(service).await;
    reporter.set_service_status("shop.Orders", tonic_health::ServingStatus::NotServing).await;
    let server = Server::http(answers_with(|request| async move {
        let asked = request.method() == "HEAD" && request.uri() == "/health" && request.headers()["x-probe"] == "yes";
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = if asked { StatusCode::NO_CONTENT } else { StatusCode::IM_A_TEAPOT };
        response
    }))
    .await;
    let (http, grpc_url, grpc_port) = (server.url(), grpc.url(), grpc.address.port());
    let page = "kind = \"http\", path = \"/health\", method = \"HEAD\", headers = { X-Probe = \"yes\" }";
    for (url, keys, said) in [
        (&http, "kind = \"tcp\"".to_owned(), "HEALTHY"),
        (&http, page.to_owned(), "HEALTHY {} - status: 204"),
        (&http, format!("{page}, status = [\"200\", \"300-399\"]"), "UNHEALTHY {} - status: 204"),
        (&http, "status = [418]".to_owned(), "HEALTHY {} - status: 418"),
        (&http, "status = [418], body_contains = \"tea\"".to_owned(), "UNHEALTHY {} - status: 418, without \"tea\""),
        (&grpc_url, "kind = \"grpc\"".to_owned(), "HEALTHY {} - SERVING"),
        (&grpc_url, "kind = \"grpc\", service = \"shop.Orders\"".to_owned(), "UNHEALTHY {} - NOT_SERVING"),
        (&http, format!("kind = \"grpc\", port = {grpc_port}"), "HEALTHY {} - SERVING"),
    ] {
        let gateway = over(&[url], &format!("health = {{ {keys} }}"));
        gateway.line(&format!("HEALTH: {}", said.replace("{}", url)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_speak_what_requests_speak_and_elsewhere_what_is_spoken_there() {
    let http2 = Server::raw(|stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(Response::new(()), true).unwrap();
        }
    })
    .await;
    let http1 = Server::raw(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        _ = stream.read(&mut [0; 1024]).await;
        _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    })
    .await;
    let url = http2.url();
    for (keys, said) in [
        ("health = \"http\"".to_owned(), format!("HEALTHY {url} - status: 200")),
        (format!("health = {{ port = {} }}", http1.address.port()), format!("HEALTHY {url} - status: 204")),
    ] {
        let gateway = over(&[&url], &format!("upstream = {{ protocol = \"h2\" }}\n{keys}"));
        gateway.line(&format!("HEALTH: {said}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thresholds_are_checks_in_a_row() {
    // Well at first, then not: the fourth and fifth probe fail, and it takes both.
    let (server, seen) = fails_after(3).await;
    let keys = "health = { interval = \"50ms\", fast_interval = \"50ms\", unhealthy_threshold = 4 }";
    let gateway = over(&[&server.url()], keys);
    gateway.line("HEALTH: HEALTHY");
    gateway.line("HEALTH: UNHEALTHY");
    assert!(seen.load(Ordering::Relaxed) >= 7, "{}", seen.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_is_spoken_to_as_the_file_says() {
    let echo = answers_with(|request| async move {
        let host = request.headers().get(header::HOST).map_or("", |host| host.to_str().unwrap()).to_owned();
        Response::new(Full::<Bytes>::from(format!("{:?} {host}", request.version())))
    });
    let server = Server::http(echo).await;
    let (url, own) = (server.url(), server.address.to_string());
    for (upstream, answer) in [
        ("", format!("HTTP/1.1 {own}")),
        ("keep_host = true", "HTTP/1.1 www.example.com".to_owned()),
        ("protocol = \"h2\"", "HTTP/2.0 ".to_owned()),
    ] {
        let gateway = over(&[&url], &format!("upstream = {{ {upstream} }}"));
        let request = Request::get(&gateway.url).header(header::HOST, "www.example.com");
        assert_eq!(send(request.body(Full::default()).unwrap()).await, (200, answer), "{upstream}");
    }
    // Silent before the answer, and silent in it.
    let silent = Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let gateway = over(&[&silent.url()], "upstream = { response_timeout = \"100ms\" }\nretry = { attempts = 1 }");
    assert_eq!(get(&gateway.url).await.0, 504);
    let stalls = Server::raw(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        _ = stream.read(&mut [0; 1024]).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let gateway = over(&[&stalls.url()], "upstream = { body_timeout = \"100ms\" }");
    let response = common::client().oneshot(Request::get(&gateway.url).body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err(), "it was not broken off");
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_shares() {
    let (one, two) = (Server::http(says("one")).await, Server::http(says("two")).await);
    let text = format!(
        "[pools.web]\nbackends = [{{ url = {:?}, weight = 3 }}, {:?}]\nstrategy = \"weighted_round_robin\"\nhealth = \"off\"",
        one.url(),
        two.url()
    );
    let gateway = Gateway::by(&ConfigFile::new(&text));
    let mut ones = 0;
    for _ in 0..40 {
        ones += usize::from(get(&gateway.url).await.1 == "one");
    }
    assert_eq!(ones, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_full_sheds_at_once_or_after_a_wait() {
    let (slow, may) = waits().await;
    let url = slow.url();
    for (limits, answered) in [
        ("max_in_flight = 1", 1),
        ("max_in_flight = 1, max_waiting = 1, wait = \"5s\"", 2),
        ("max_in_flight = 1, max_waiting = 2, wait = \"5s\"", 3),
        ("max_in_flight = 1, max_waiting = 2, wait = \"10ms\"", 1),
        ("max_in_flight_per_backend = 1", 1),
        ("max_in_flight_per_backend = 1, max_waiting = 2, wait = \"5s\"", 3),
        ("adaptive = { least = 1, most = 1, initial = 1 }", 1),
    ] {
        let text =
            format!("[pools.web]\nbackends = [\"{url}\"]\nhealth = \"off\"\nhedge = \"off\"\nlimits = {{ {limits} }}");
        let gateway = Gateway::by(&ConfigFile::new(&text));
        // Whoever finds out limits has had time to look.
        may.add_permits(1);
        get(&gateway.url).await;
        let ask = || async {
            common::client().oneshot(Request::get(&gateway.url).body(Full::default()).unwrap()).await.unwrap()
        };
        let mut asked: FuturesUnordered<_> = (0..3).map(|_| ask()).collect();
        // Who is shed is told while the first is not done.
        let mut responses: Vec<_> = asked.by_ref().take(3 - answered).collect().await;
        // The others wait for it.
        assert!(tokio::time::timeout(Duration::from_millis(200), asked.next()).await.is_err());
        may.add_permits(answered);
        responses.extend(asked.collect::<Vec<_>>().await);
        let ok = responses.iter().filter(|response| response.status() == 200).count();
        assert_eq!(ok, answered, "{limits}");
        let shed = responses.iter().filter(|response| response.status() == 503);
        assert!(shed.clone().all(|response| response.headers().contains_key(header::RETRY_AFTER)), "{limits}");
        assert_eq!(ok + shed.count(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standbys_get_nothing_and_zones_stay_at_home_until_they_must() {
    let servers =
        [Server::http(says("here")).await, Server::http(says("far")).await, Server::http(says("standby")).await];
    let [here, far, standby] = servers.each_ref().map(Server::url);
    let file = ConfigFile::new(&format!(
        r#"
        [server]
        zone = "a"
        [pools.web]
        backends = [
            {{ url = "{here}", zone = "a" }},
            {{ url = "{far}", zone = "b" }},
            {{ url = "{standby}", zone = "a", priority = 1 }},
        ]
        health = {{ interval = "200ms" }}
        "#
    ));
    let gateway = Gateway::by(&file);
    for _ in 0..20 {
        assert_eq!(get(&gateway.url).await, (200, "here".into()));
    }
    let [here, far, _standby] = servers;
    here.kill().await;
    common::until(|| async { get(&gateway.url).await.1 == "far" }).await;
    far.kill().await;
    common::until(|| async { get(&gateway.url).await.1 == "standby" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_and_a_key_finds_its_backend() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await, Server::http(says("three")).await];
    let backends = servers.each_ref().map(|server| format!("{:?}", server.url())).join(", ");
    let file = ConfigFile::new(&format!(
        r#"
        [pools.session]
        backends = [{backends}]
        session = {{ cookie = "stay", secret = "00112233445566778899aabbccddeeff", secure = true, max_age = "1h" }}
        [pools.key]
        backends = [{backends}]
        strategy = {{ name = "consistent_hash", algorithm = "rendezvous", key = "query:user", bounded_load = 0 }}
        [[routes]]
        path_prefix = "/session"
        pool = "session"
        [[routes]]
        path_prefix = "/key"
        pool = "key"
        "#
    ));
    let gateway = Gateway::by(&file);
    let request = Request::get(format!("{}/session", gateway.url)).body(Full::<Bytes>::default()).unwrap();
    let response = common::client().oneshot(request).await.unwrap();
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("stay=") && cookie.contains("Secure") && cookie.contains("Max-Age=3600"), "{cookie}");
    let token = cookie.split(';').next().unwrap();
    let with_cookie = || Request::get(format!("{}/session", gateway.url)).header(header::COOKIE, token);
    let first = send(with_cookie().body(Full::default()).unwrap()).await;
    for _ in 0..6 {
        assert_eq!(send(with_cookie().body(Full::default()).unwrap()).await, first);
    }
    let mut owners = BTreeSet::new();
    for user in 0..60 {
        let url = format!("{}/key?user={user}", gateway.url);
        let owner = get(&url).await;
        assert_eq!(get(&url).await, owner);
        owners.insert(owner.1);
    }
    assert_eq!(owners.len(), 3);
}
