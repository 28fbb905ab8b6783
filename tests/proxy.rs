//! The standard HTTP stack over real sockets: what passes, what does not, and what every kind of failure costs.

mod common;

use bytes::Bytes;
use common::{Server, answers, answers_with, client, get, says, send, until};
use http::{Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer,
    service_fn,
};
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer, ReverseProxy,
    backend::{Backend, Moment, Origin, Outcome},
    feedback::{Classify, Fault},
    http::{AddressLayer, AtEndOfBody, ClassifyEnd, ClientConfig, Peer, RequestKey, RespondLayer, RetryLayer},
    strategy::{ConsistentHash, Maglev, RoundRobin},
};

async fn proxy_over(backends: &[&Server]) -> (BackendPool<Origin>, Server) {
    let pool = BackendPool::new(backends.iter().map(|server| server.url())).unwrap();
    // What one attempt comes to is what is looked at here.
    let proxy = Server::http(ReverseProxy::builder(&pool).retry(RetryLayer::none()).build()).await;
    (pool, proxy)
}

fn the_one(pool: &BackendPool<Origin>) -> Arc<Backend> {
    pool.backends().remove(0)
}

/// What one outcome was counted, and whether nothing else was and nothing is in flight.
async fn ended_as(backend: &Backend, outcome: Outcome) {
    until(|| async { backend.load().in_flight() == 0 }).await;
    assert_eq!((backend.load().count(outcome), backend.load().completed()), (1, 1), "{:?}", backend.load());
}

/// Reads a message's head; the rest stays in the stream, or is dropped if it came along.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A backend that answers each request with these bytes, and the heads that it was sent.
async fn canned(answer: &'static str) -> (Server, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let server = Server::raw(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let head = read_head(&mut stream).await;
            if !head.is_empty() {
                seen.lock().unwrap().push(head);
                _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    (server, heads)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// Sends bytes and reads until the other side closes.
async fn exchange(proxy: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

// ---- what passes

#[tokio::test]
async fn the_request_that_reaches_the_backend() {
    let (backend, heads) = canned(OK).await;
    let (_pool, proxy) = proxy_over(&[&backend]).await;
    let request = "GET /a%2Fb/./c?x=%20&y=[1] HTTP/1.1\r\nHost: shop.example\r\nX-Mine: 1\r\nX-Mine: 2\r\n\
        Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authorization: Basic x\r\n\
        TE: trailers, gzip\r\nUpgrade: h2c\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.example\r\n\
        X-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\r\n";
    let answer = exchange(&proxy, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("GET /a%2Fb/./c?x=%20&y=[1] HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), [backend.address.to_string()]);
    assert_eq!(header(&head, "x-mine"), ["1", "2"]);
    assert_eq!(header(&head, "te"), ["trailers"]);
    assert_eq!(header(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&head, "x-forwarded-host"), ["shop.example"]);
    assert_eq!(header(&head, "x-forwarded-proto"), ["http"]);
    for hop in ["connection", "x-hop", "keep-alive", "proxy-authorization", "upgrade", "forwarded", "x-real-ip"] {
        assert!(header(&head, hop).is_empty(), "{hop} crossed: {head}");
    }
}

#[tokio::test]
async fn what_a_client_claims_of_itself_is_removed_where_nothing_better_is_known() {
    let (backend, heads) = canned(OK).await;
    let pool = BackendPool::new([backend.url()]).unwrap();
    // No server put a `Peer` in.
    let request = Request::get("/").header("x-forwarded-for", "6.6.6.6").header("x-forwarded-proto", "https");
    let request = request.header("x-forwarded-host", "evil.example").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(ReverseProxy::new(&pool).oneshot(request).await.unwrap().status(), 200);
    let head = heads.lock().unwrap().remove(0);
    assert!(!head.to_lowercase().contains("x-forwarded"), "{head}");
}

#[tokio::test]
async fn the_host_is_kept_when_asked_for() {
    let (backend, heads) = canned(OK).await;
    let pool = BackendPool::new([backend.url()]).unwrap();
    let proxy = Server::http(ReverseProxy::builder(&pool).keep_host().build()).await;
    exchange(&proxy, "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await;
    // Over HTTP/2 there is no Host header, only the authority.
    let http2 = ClientConfig::new().http2().build::<Full<Bytes>>();
    let request = Request::get(proxy.url()).body(Full::default()).unwrap();
    assert_eq!(http2.oneshot(request).await.unwrap().status(), 200);
    let heads = heads.lock().unwrap();
    assert_eq!(header(&heads[0], "host"), ["shop.example"]);
    assert_eq!(header(&heads[1], "host"), [proxy.address.to_string()]);
}

#[tokio::test]
async fn the_answer_that_reaches_the_client() {
    let (backend, _) = canned(
        "HTTP/1.1 201 Odd Reason\r\ncontent-length: 2\r\nx-yours: 1\r\nx-yours: 2\r\nconnection: close, x-hop\r\n\
         x-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\r\nok",
    )
    .await;
    let (_pool, proxy) = proxy_over(&[&backend]).await;
    let answer = exchange(&proxy, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert_eq!(header(&answer, "x-yours"), ["1", "2"]);
    for hop in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert!(header(&answer, hop).is_empty(), "{hop} crossed: {answer}");
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_frame_by_frame() {
    let backend = Server::http(answers_with(|request| async move { Response::new(request.into_body()) })).await;
    let (pool, proxy) = proxy_over(&[&backend]).await;
    let (send, receive) = mpsc::unbounded_channel::<Bytes>();
    let frames = futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), receive))
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(frames));
    let client = ClientConfig::new().build();
    let response = client.oneshot(Request::post(proxy.url()).body(body).unwrap()).await.unwrap();
    let mut echo = response.into_body();
    // Each frame comes back before the next is sent: nobody waits for the whole.
    for text in ["one", "two", "three"] {
        send.send(text.into()).unwrap();
        assert_eq!(echo.frame().await.unwrap().unwrap().into_data().unwrap(), text);
        assert_eq!(the_one(&pool).load().in_flight(), 1, "the lease ended before the body");
    }
    drop(send);
    assert!(echo.frame().await.is_none());
    ended_as(&the_one(&pool), Outcome::Success).await;
}

#[tokio::test]
async fn http2_passes_on_either_side() {
    let backend = Server::http(answers_with(|request| async move {
        Response::new(Full::<Bytes>::from(format!("{:?} {}", request.version(), request.uri().path())))
    }))
    .await;
    let pool = BackendPool::new([backend.url()]).unwrap();
    let h1_out = Server::http(ReverseProxy::new(&pool)).await;
    let h2_out = Server::http(ReverseProxy::builder(&pool).client(ClientConfig::new().http2()).build()).await;
    for (proxy, seen) in [(&h1_out, "HTTP/1.1 /p"), (&h2_out, "HTTP/2.0 /p")] {
        for (client, version) in
            [(ClientConfig::new(), Version::HTTP_11), (ClientConfig::new().http2(), Version::HTTP_2)]
        {
            let request = Request::get(format!("{}/p", proxy.url())).body(Full::<Bytes>::default()).unwrap();
            let response = client.build().oneshot(request).await.unwrap();
            assert_eq!(response.version(), version);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), seen);
        }
    }
}

#[tokio::test]
async fn trailers_pass() {
    let backend = Server::http(answers_with(|_| async {
        let trailers =
            [("x-sum", "42")].into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let trailers: http::HeaderMap = trailers.collect();
        let frames = [Frame::data(Bytes::from("body")), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Response::builder().header("trailer", "x-sum").body(body).unwrap()
    }))
    .await;
    let (pool, proxy) = proxy_over(&[&backend]).await;
    let request = Request::get(proxy.url()).header("te", "trailers").body(Full::<Bytes>::default()).unwrap();
    let body = client().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "42");
    ended_as(&the_one(&pool), Outcome::Success).await;
}

#[tokio::test]
async fn an_answer_without_a_body_is_complete_at_its_head() {
    let backend = Server::http(answers(StatusCode::NO_CONTENT)).await;
    let (pool, proxy) = proxy_over(&[&backend]).await;
    assert_eq!(get(proxy.url()).await.0, 204);
    ended_as(&the_one(&pool), Outcome::Success).await;

    let backend = Server::http(says("a body that HEAD does not get")).await;
    let (pool, proxy) = proxy_over(&[&backend]).await;
    assert_eq!(send(Request::head(proxy.url()).body(Full::default()).unwrap()).await, (200, String::new()));
    ended_as(&the_one(&pool), Outcome::Success).await;
}

#[tokio::test]
async fn an_answer_of_known_length_is_a_success_once_it_is_sent() {
    let backend = Server::http(says("so long")).await;
    let (pool, proxy) = proxy_over(&[&backend]).await;
    assert_eq!(get(proxy.url()).await, (200, "so long".into()));
    ended_as(&the_one(&pool), Outcome::Success).await;
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it() {
    let echo = answers_with(|request| async move { Response::new(request.into_body()) });
    let backend = Server::http(echo).await;
    let (_pool, proxy) = proxy_over(&[&backend]).await;
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nkept\r\n0\r\n\r\n";
    let answer = exchange(&proxy, request).await;
    assert!(answer.contains("kept"), "{answer}");
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_goes_before_the_host() {
    let (backend, heads) = canned(OK).await;
    let pool = BackendPool::new([backend.url()]).unwrap();
    let proxy = Server::http(ReverseProxy::builder(&pool).keep_host().build()).await;
    exchange(&proxy, "GET http://asked.example/p HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n").await;
    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("GET /p HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        (header(&head, "host"), header(&head, "x-forwarded-host")),
        (vec!["asked.example"], vec!["asked.example"])
    );
}

#[tokio::test]
async fn options_asterisk_passes() {
    let (backend, heads) = canned(OK).await;
    let (_pool, proxy) = proxy_over(&[&backend]).await;
    exchange(&proxy, "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(heads.lock().unwrap()[0].starts_with("OPTIONS * HTTP/1.1\r\n"));
}

// ---- what is refused

#[tokio::test]
async fn what_cannot_be_forwarded_is_refused_before_a_backend_is_picked() {
    let (backend, heads) = canned(OK).await;
    let (pool, proxy) = proxy_over(&[&backend]).await;
    for (request, status) in [
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n", "HTTP/1.1 501 Not Implemented\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x y\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
    ] {
        let answer = exchange(&proxy, request).await;
        assert!(answer.starts_with(status), "{answer}");
    }
    assert_eq!(the_one(&pool).load().completed(), 0);
    assert!(heads.lock().unwrap().is_empty());
}

// ---- what fails

#[tokio::test]
async fn an_unreachable_backend_is_a_502_that_says_nothing_of_our_insides() {
    let gone = Server::http(says("gone")).await;
    let (pool, proxy) = proxy_over(&[&gone]).await;
    let address = gone.kill().await;
    let answer = exchange(&proxy, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && answer.ends_with("\r\n\r\nBad gateway"), "{answer}");
    for inside in [address.to_string(), address.port().to_string(), "efused".into(), "hyper".into(), "balancer".into()]
    {
        assert!(!answer.contains(&inside), "{answer}");
    }
    ended_as(&the_one(&pool), Outcome::ConnectFault).await;
    assert!(pool.healthy().is_empty());
}

#[tokio::test]
async fn a_backend_that_closes_before_its_answer_is_a_502_and_out() {
    let rude = Server::raw(|mut stream| async move { _ = read_head(&mut stream).await }).await;
    let (pool, proxy) = proxy_over(&[&rude]).await;
    assert_eq!(get(proxy.url()).await, (502, "Bad gateway".into()));
    ended_as(&the_one(&pool), Outcome::Reset).await;
    assert!(pool.healthy().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_garbage_is_a_502_and_takes_nobody_out() {
    let (garbage, _) = canned("\0\0 what?\r\n\r\n").await;
    let (pool, proxy) = proxy_over(&[&garbage]).await;
    assert_eq!(get(proxy.url()).await, (502, "Bad gateway".into()));
    ended_as(&the_one(&pool), Outcome::BackendFault).await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_cannot_be_reached() {
    let pool = BackendPool::new(["http://nowhere.invalid"]).unwrap();
    let proxy = Server::http(ReverseProxy::new(&pool)).await;
    assert_eq!(get(proxy.url()).await, (502, "Bad gateway".into()));
    ended_as(&the_one(&pool), Outcome::ConnectFault).await;
    assert!(pool.healthy().is_empty());
}

#[tokio::test]
async fn a_backend_that_closes_in_the_middle_of_its_body_breaks_the_clients_too() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthis much and no",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nthis much and no\r\n",
    ] {
        let (dying, _) = canned(answer).await;
        let (pool, proxy) = proxy_over(&[&dying]).await;
        let request = Request::get(proxy.url()).body(Full::<Bytes>::default()).unwrap();
        let response = client().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "a truncated answer passed for a whole one");
        ended_as(&the_one(&pool), Outcome::Reset).await;
        assert_eq!(pool.healthy().len(), 1, "one answer took out a backend that can be reached");
    }
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_does_not_cut_the_answer() {
    for length in [3, 8] {
        let both = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
        );
        let (backend, _) = canned(both.leak()).await;
        let (_pool, proxy) = proxy_over(&[&backend]).await;
        assert_eq!(get(proxy.url()).await, (200, "abcde".into()));
    }
}

#[tokio::test]
async fn a_backend_that_refuses_a_request_and_closes_on_it_stays_in() {
    // More is promised than comes, as when the rest is lost with the connection.
    let (refuses, _) = canned("HTTP/1.1 413 Too Large\r\ncontent-length: 100\r\nconnection: close\r\n\r\ntoo").await;
    let (pool, proxy) = proxy_over(&[&refuses]).await;
    let request = Request::post(proxy.url()).body(Full::<Bytes>::from("body")).unwrap();
    let response = client().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(response.into_body().collect().await.is_err());
    ended_as(&the_one(&pool), Outcome::ClientFault).await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn a_connection_that_was_reused_and_broke_takes_nobody_out() {
    // Answers once on each connection, keeps it open, and closes it when the next request is there.
    let forgetful = Server::raw(|mut stream| async move {
        _ = read_head(&mut stream).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        _ = read_head(&mut stream).await;
    })
    .await;
    let (pool, proxy) = proxy_over(&[&forgetful]).await;
    assert_eq!(get(proxy.url()).await, (200, "ok".into()));
    assert_eq!(get(proxy.url()).await, (502, "Bad gateway".into()));
    assert!(the_one(&pool).is_eligible());
    assert_eq!(the_one(&pool).load().count(Outcome::Lost), 1);
    assert_eq!(get(proxy.url()).await, (200, "ok".into()));
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let (switches, _) = canned("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    let (pool, proxy) = proxy_over(&[&switches]).await;
    assert_eq!(get(proxy.url()).await, (502, "Bad gateway".into()));
    ended_as(&the_one(&pool), Outcome::BackendFault).await;
}

#[tokio::test]
async fn a_backend_that_does_not_answer_in_time_is_a_504_and_stays_in() {
    let silent = Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let pool = BackendPool::new([silent.url()]).unwrap();
    let proxy =
        ReverseProxy::builder(&pool).response_timeout(Duration::from_millis(50)).retry(RetryLayer::none()).build();
    let proxy = Server::http(proxy).await;
    assert_eq!(get(proxy.url()).await, (504, "Gateway timeout".into()));
    ended_as(&the_one(&pool), Outcome::Timeout).await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn statuses_are_counted_and_passed_on_and_take_nobody_out() {
    for (status, outcome) in [
        (500, Outcome::BackendFault),
        (503, Outcome::BackendFault),
        (429, Outcome::Overload),
        (404, Outcome::ClientFault),
    ] {
        let backend = Server::http(answers(StatusCode::from_u16(status).unwrap())).await;
        let (pool, proxy) = proxy_over(&[&backend]).await;
        assert_eq!(get(proxy.url()).await.0, status);
        ended_as(&the_one(&pool), outcome).await;
        assert_eq!(pool.healthy().len(), 1);
    }
}

#[tokio::test]
async fn an_http2_connection_that_is_closed_in_good_order_takes_nobody_out() {
    // Each connection says GOAWAY after a few milliseconds, whatever is in flight, as a server with a maximum age does.
    let restless = Server::raw(|stream| async move {
        let answer = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))));
        let server = auto::Builder::new(TokioExecutor::new());
        let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(answer));
        let mut connection = std::pin::pin!(connection);
        if tokio::time::timeout(Duration::from_millis(5), connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            _ = connection.await;
        }
    })
    .await;
    let pool = BackendPool::new([restless.url()]).unwrap();
    let proxy = ReverseProxy::builder(&pool).client(ClientConfig::new().http2()).build();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let proxy = proxy.clone();
        callers.spawn(async move {
            for _ in 0..300 {
                let response = proxy.clone().oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
                _ = response.into_body().collect().await;
            }
        });
    }
    callers.join_all().await;
    let backend = the_one(&pool);
    assert!(backend.is_eligible(), "{:?}", backend.health());
    assert!(backend.load().count(Outcome::Success) > 2_000, "{:?}", backend.load());
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_takes_nobody_out_and_a_broken_connection_does() {
    for (reason, eligible) in
        [(Some(h2::Reason::INTERNAL_ERROR), true), (Some(h2::Reason::REFUSED_STREAM), true), (None, false)]
    {
        let resetting = Server::raw(move |stream| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                match reason {
                    Some(reason) => respond.send_reset(reason),
                    None => return,
                }
            }
        })
        .await;
        let pool = BackendPool::new([resetting.url()]).unwrap();
        let proxy = Server::http(ReverseProxy::builder(&pool).client(ClientConfig::new().http2()).build()).await;
        assert_eq!(get(proxy.url()).await, (502, "Bad gateway".into()), "{reason:?}");
        assert_eq!(the_one(&pool).is_eligible(), eligible, "{reason:?}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_is_nobodys_fault() {
    let silent = Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let (pool, proxy) = proxy_over(&[&silent]).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let backend = the_one(&pool);
    until(|| async { backend.load().in_flight() == 1 }).await;
    drop(stream);
    ended_as(&backend, Outcome::Cancelled).await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn what_breaks_in_the_middle_of_a_body_is_judged_by_the_classifier_of_the_layer() {
    /// Blames nobody for anything.
    #[derive(Clone, Copy, Debug)]
    struct Mild;
    impl<B> Classify<Response<B>> for Mild {
        fn response(&self, _: &Response<B>) -> Option<Outcome> {
            Some(Outcome::Success)
        }
        fn error(&self, _: &(dyn std::error::Error + 'static)) -> Fault {
            Fault { kind: Outcome::Overload, sent: true }
        }
    }
    impl ClassifyEnd for Mild {}
    let (dying, _) = canned("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthis much and no").await;
    let pool = BackendPool::new([dying.url()]).unwrap();
    let stack = ServiceBuilder::new()
        .layer(BalancerLayer::new(&pool, RoundRobin::new()))
        .layer(FeedbackLayer::new(Mild).complete(AtEndOfBody))
        .layer(AddressLayer::new())
        .service(client());
    let response = stack.oneshot(Request::new(Full::default())).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    ended_as(&the_one(&pool), Outcome::Overload).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_of_the_answer_is_nobodys_fault() {
    let endless = Server::http(answers_with(|_| async {
        let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0; 16 * 1024])));
        Response::new(StreamBody::new(futures_util::stream::repeat_with(frame)))
    }))
    .await;
    let (pool, proxy) = proxy_over(&[&endless]).await;
    let request = Request::get(proxy.url()).body(Full::<Bytes>::default()).unwrap();
    let mut response = client().oneshot(request).await.unwrap();
    response.frame().await.unwrap().unwrap();
    let backend = the_one(&pool);
    assert_eq!(backend.load().in_flight(), 1);
    drop(response);
    ended_as(&backend, Outcome::Cancelled).await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn a_client_whose_own_body_breaks_is_nobodys_fault() {
    for framing in
        ["Content-Length: 1000\r\n\r\nnot that much", "Transfer-Encoding: chunked\r\n\r\nd\r\nnot that much\r\n"]
    {
        for reset in [false, true] {
            let patient = Server::raw(|mut stream| async move {
                _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            })
            .await;
            let (pool, proxy) = proxy_over(&[&patient]).await;
            let backend = the_one(&pool);
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            stream.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}").as_bytes()).await.unwrap();
            until(|| async { backend.load().in_flight() == 1 }).await;
            if reset {
                stream.set_zero_linger().unwrap();
            }
            drop(stream);
            ended_as(&backend, Outcome::Cancelled).await;
            assert_eq!(pool.healthy().len(), 1, "a broken upload took the backend out");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_client_that_breaks_its_upload_is_nobodys_fault() {
    let patient = Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    for round in 0..40 {
        let (pool, proxy) = proxy_over(&[&patient]).await;
        let backend = the_one(&pool);
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        if round % 2 == 0 {
            stream.set_zero_linger().unwrap();
        }
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post(proxy.url()).body(()).unwrap();
        let (_answer, mut upload) = client.ready().await.unwrap().send_request(request, false).unwrap();
        upload.send_data(Bytes::from("not all of it"), false).unwrap();
        until(|| async { backend.load().in_flight() == 1 }).await;
        if round % 4 < 2 {
            upload.send_reset(h2::Reason::CANCEL);
        } else {
            connection.abort();
        }
        ended_as(&backend, Outcome::Cancelled).await;
        assert_eq!(pool.healthy().len(), 1, "round {round}: {:?}", backend.health());
    }
}

#[tokio::test]
async fn a_client_whose_upload_breaks_after_the_answer_has_begun_is_nobodys_fault() {
    // Answers at once and goes on listening.
    let chatty = Server::raw(|mut stream| async move {
        _ = read_head(&mut stream).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun").await;
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    for end in ["bad chunk", "fin", "reset"] {
        let (pool, proxy) = proxy_over(&[&chatty]).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n")
            .await
            .unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        match end {
            "bad chunk" => stream.write_all(b"not a size\r\n").await.unwrap(),
            "fin" => stream.shutdown().await.unwrap(),
            _ => stream.set_zero_linger().unwrap(),
        }
        drop(stream);
        ended_as(&the_one(&pool), Outcome::Cancelled).await;
        assert_eq!(pool.healthy().len(), 1, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_answers_before_the_upload_is_over_and_closes_stays_in() {
    let hasty = Server::http(answers_with(|_| async {
        Response::builder().status(413).body(Full::<Bytes>::from("too large")).unwrap()
    }))
    .await;
    for _ in 0..10 {
        let (pool, proxy) = proxy_over(&[&hasty]).await;
        let body = Full::<Bytes>::from(vec![0; 20 << 20]);
        // What the client sees is its own affair: it may lose the race to read the answer.
        _ = client().oneshot(Request::post(proxy.url()).body(body).unwrap()).await;
        let backend = the_one(&pool);
        until(|| async { backend.load().completed() == 1 }).await;
        assert!(backend.is_eligible(), "{:?}", backend.health());
    }
}

#[tokio::test]
async fn a_chunked_upload_that_is_malformed_is_nobodys_fault() {
    let patient = Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let (pool, proxy) = proxy_over(&[&patient]).await;
    let answer =
        exchange(&proxy, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    ended_as(&the_one(&pool), Outcome::Cancelled).await;
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn a_service_below_that_is_gone_for_good_is_a_500_and_never_called() {
    struct Gone;
    impl Service<Request<()>> for Gone {
        type Response = Response<Full<Bytes>>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Self::Response, BoxError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("gone for good".into()))
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            panic!("called although it is not ready")
        }
    }
    let response = RespondLayer::new().layer(Gone).oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Internal server error");
}

#[tokio::test]
async fn an_error_of_any_other_layer_is_a_500_without_its_words() {
    let secret =
        service_fn(|_: Request<()>| async { Err::<Response<Full<Bytes>>, BoxError>("the password is x".into()) });
    let response = RespondLayer::new().layer(secret).oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Internal server error");
}

#[tokio::test]
async fn it_mounts_in_an_axum_app() {
    let backend = Server::http(says("from the pool")).await;
    let pool = BackendPool::new([backend.url()]).unwrap();
    let app = axum::Router::new()
        .route("/mine", axum::routing::get(|| async { "mine" }))
        .fallback_service(ReverseProxy::new(&pool));
    let app = Server::http(app).await;
    assert_eq!(get(format!("{}/mine", app.url())).await, (200, "mine".into()));
    assert_eq!(get(format!("{}/other", app.url())).await, (200, "from the pool".into()));
}

#[tokio::test]
async fn requests_with_one_key_stay_on_one_backend() {
    let backends = [Server::http(says("a")).await, Server::http(says("b")).await, Server::http(says("c")).await];
    let pool = BackendPool::new(backends.iter().map(Server::url)).unwrap();
    let key: RequestKey = "header:x-user, address".parse().unwrap();
    let proxy = ReverseProxy::builder(&pool).strategy(ConsistentHash::new(Maglev::new())).key(key).build();
    let proxy = Server::http(proxy).await;
    let of = async |user: &str| {
        let request = Request::get(proxy.url()).header("x-user", user).body(Full::default()).unwrap();
        send(request).await.1
    };
    let anns = of("ann").await;
    for _ in 0..5 {
        assert_eq!(of("ann").await, anns);
    }
    let mut reached = std::collections::HashSet::new();
    for user in 0..60 {
        reached.insert(of(&user.to_string()).await);
    }
    assert_eq!(reached.len(), 3);
}

/// A gRPC server's answer: its head, one message, and trailers.
fn grpc(
    head: Option<&'static str>,
    trailers: Option<&'static str>,
) -> Response<impl http_body::Body<Data = Bytes, Error = Infallible>> {
    let status =
        |status: &'static str| http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
    let mut frames = vec![Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\0")))];
    frames.extend(trailers.map(|told| Ok(Frame::trailers(status(told)))));
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    response.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    response.headers_mut().extend(head.map(status).unwrap_or_default());
    response
}

#[tokio::test]
async fn of_a_grpc_call_the_status_counts_wherever_it_stands() {
    for (head, trailers, outcome) in [
        (None, Some("0"), Outcome::Success),
        (None, Some("5"), Outcome::ClientFault),
        (None, Some("13"), Outcome::BackendFault),
        (None, Some("8"), Outcome::Overload),
        (None, None, Outcome::BackendFault),
        (Some("14"), None, Outcome::BackendFault),
        (Some("3"), None, Outcome::ClientFault),
    ] {
        let backend = Server::http(answers_with(move |_| async move { grpc(head, trailers) })).await;
        let pool = BackendPool::new([backend.url()]).unwrap();
        let client = ClientConfig::new().http2();
        let proxy = ReverseProxy::builder(&pool).client(client).build();
        let request = Request::post("http://service/package.Service/Call").body(Full::<Bytes>::from("call")).unwrap();
        let answer = proxy.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let told = answer.into_body().collect().await.unwrap();
        assert_eq!(
            told.trailers().map(|trailers| trailers["grpc-status"].to_str().unwrap().to_owned()).as_deref(),
            trailers
        );
        ended_as(&the_one(&pool), outcome).await;
        let window = the_one(&pool).record().window(Moment::of(tokio::time::Instant::now().into_std()));
        assert_eq!((window.requests, window.faults), (1, u32::from(outcome.is_fault())), "{head:?} {trailers:?}");
    }
}

#[tokio::test]
async fn what_is_shed_is_told_to_come_again_soon() {
    let never = service_fn(|_: Request<Full<Bytes>>| std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>());
    let stack = ServiceBuilder::new()
        .layer(RespondLayer::new())
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(1))
        .service(never);
    let request = || Request::get("http://service/").body(Full::default()).unwrap();
    let mut first = tokio_test::task::spawn(stack.clone().oneshot(request()));
    assert!(first.poll().is_pending());
    let shed = stack.oneshot(request()).await.unwrap();
    assert_eq!(shed.status(), 503);
    assert_eq!(shed.headers()["retry-after"], "1");
    assert_eq!(shed.into_body().collect().await.unwrap().to_bytes(), "Too many requests in flight");
}

#[tokio::test]
async fn a_proxy_over_the_client_of_another_uses_its_connections_on() {
    let port = answers_with(|request| async move {
        let peer = request.extensions().get::<Peer>().unwrap().address();
        Response::new(Full::<Bytes>::from(peer.port().to_string()))
    });
    let server = Server::http(port).await;
    let pool = BackendPool::new([server.url()]).unwrap();
    let client = ClientConfig::new().build();
    let mut connections = Vec::new();
    for _ in 0..2 {
        let proxy = ReverseProxy::builder(&pool).build_over(client.clone());
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let body = proxy.oneshot(request).await.unwrap().into_body();
        connections.push(body.collect().await.unwrap().to_bytes());
    }
    assert_eq!(connections[0], connections[1]);
}

#[tokio::test]
async fn a_proxy_that_was_told_to_wait_does() {
    let server = Server::http(says("back")).await;
    let pool = BackendPool::new([server.url()]).unwrap();
    let backend = the_one(&pool);
    backend.mark_unhealthy("for the test", tokio::time::Instant::now().into_std());
    let proxy = Server::http(ReverseProxy::builder(&pool).wait(Duration::from_secs(10), 1).build()).await;
    // One waits, and there is room for no more.
    let (one, other) = (Box::pin(get(proxy.url())), Box::pin(get(proxy.url())));
    let (refused, waits) = futures_util::future::select(one, other).await.factor_first();
    assert_eq!(refused.0, 503);
    backend.mark_healthy("for the test", tokio::time::Instant::now().into_std());
    assert_eq!(waits.await, (200, "back".into()));
}
