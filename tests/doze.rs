//! What the gateway keeps of a client that says nothing between two requests, and that nobody notices.

#[path = "common/wire.rs"]
mod wire;

use http::Response;
use http_body_util::Full;
use hyper::{body::Bytes, service::service_fn};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{advance, pause, resume, sleep},
};
use wire::{
    connection::Connections, doze::AFTER, fired::Limit, limits::Limits, pass, pressing::Upload, to_end, turns::Turns,
    until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server of one client at a time.
struct Server {
    front: SocketAddr,
    connections: Arc<Connections>,
    /// Each copy of the service has one.
    copies: Arc<()>,
}

/// That of the listener and that of the connection, which has another while it is served.
const DOZING: usize = 3;

impl Server {
    /// Everything is answered with `ok`, after `time`.
    async fn new(time: Duration) -> Self {
        Self::with(Limits::default(), time, Duration::from_secs(3600)).await
    }

    /// Each connection hears of a stop after so long.
    async fn with(limits: Limits, time: Duration, stop: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = listener.local_addr().unwrap();
        let (connections, copies) = (Connections::new(limits, None), Arc::new(()));
        let (turns, moved) = Turns::new();
        tokio::spawn(moved);
        let (serving, copy) = (Arc::clone(&connections), Arc::clone(&copies));
        tokio::spawn(async move {
            let service = service_fn(move |request: http::Request<Upload>| {
                let copy = Arc::clone(&copy);
                async move {
                    _ = http_body_util::BodyExt::collect(request.into_body()).await;
                    sleep(time).await;
                    drop(copy);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                }
            });
            while let Ok((stream, address)) = listener.accept().await {
                let client = serving.admit(stream, &turns).unwrap();
                tokio::spawn(serving.serve(client, address, service.clone(), sleep(stop)));
            }
        });
        Self { front, connections, copies }
    }

    async fn ask(&self, stream: &mut TcpStream, request: &str) {
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(until(stream, "ok").await.starts_with("HTTP/1."), "{request:?}");
    }

    /// A client that was answered and dozes.
    async fn dozing(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.front).await.unwrap();
        self.ask(&mut stream, request).await;
        self.doze().await;
        stream
    }

    async fn doze(&self) {
        self.copies(DOZING + 1).await;
        pass(AFTER).await;
        self.copies(DOZING).await;
    }

    async fn copies(&self, expected: usize) {
        for _ in 0..1_000 {
            if Arc::strong_count(&self.copies) == expected {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("{} copies instead of {expected}", Arc::strong_count(&self.copies));
    }
}

#[tokio::test]
async fn who_says_nothing_has_no_server_until_the_next_request() {
    let server = Server::new(Duration::ZERO).await;
    let mut stream = server.dozing(GET).await;
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        server.ask(&mut stream, request).await;
        server.doze().await;
    }
    // However slowly it comes.
    for byte in GET.bytes() {
        stream.write_all(&[byte]).await.unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    until(&mut stream, "ok").await;
    assert_eq!(server.connections.open(), 1);
    assert_eq!(server.connections.accepted(), 1);
}

#[tokio::test]
async fn who_waits_for_an_answer_does_not_doze() {
    let server = Server::new(3 * AFTER).await;
    let mut stream = TcpStream::connect(server.front).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    server.copies(DOZING + 2).await;
    pass(2 * AFTER).await;
    pass(2 * AFTER).await;
    until(&mut stream, "ok").await;
}

#[tokio::test]
async fn who_dozes_is_let_go_as_early_as_anybody_who_does_not_ask() {
    let server = Server::new(Duration::ZERO).await;
    let mut stream = server.dozing(GET).await;
    pass(Limits::default().idle - 2 * AFTER).await;
    assert_eq!(server.connections.open(), 1);
    pass(AFTER).await;
    assert_eq!(to_end(&mut stream).await, "");
    assert_eq!(server.connections.fired().count(Limit::Idle), 1);
    server.copies(DOZING - 1).await;
}

#[tokio::test]
async fn who_is_woken_has_as_long_for_a_head_as_before() {
    let limits = Limits { idle: AFTER * 6 / 5, ..Limits::default() };
    let server = Server::with(limits.clone(), Duration::ZERO, Duration::from_secs(3600)).await;
    let mut stream = server.dozing(GET).await;
    stream.write_all(&GET.as_bytes()[..8]).await.unwrap();
    for _ in 0..3 {
        pass(limits.idle * 6 / 5).await;
    }
    stream.write_all(&GET.as_bytes()[8..]).await.unwrap();
    assert!(!until(&mut stream, "ok").await.contains("close"));
    assert_eq!(server.connections.fired().count(Limit::Idle), 0);
}

#[tokio::test]
async fn a_stop_ends_who_dozes_and_answers_who_has_just_asked() {
    // An empty line wakes it, and it dozes off again in the turn in which the stop comes.
    for asks in ["", "\r\n", GET] {
        let server = Server::with(Limits::default(), Duration::ZERO, 2 * AFTER).await;
        let mut stream = server.dozing(GET).await;
        stream.write_all(asks.as_bytes()).await.unwrap();
        // Both are there before anybody looks.
        std::thread::sleep(Duration::from_millis(20));
        pause();
        advance(AFTER).await;
        resume();
        assert_eq!(to_end(&mut stream).await.ends_with("ok"), asks == GET, "{asks:?}");
        server.copies(DOZING - 1).await;
    }
}

#[tokio::test]
async fn who_goes_while_it_dozes_has_an_orderly_end() {
    let server = Server::new(Duration::ZERO).await;
    for request in [GET, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"] {
        let mut stream = server.dozing(request).await;
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        server.copies(DOZING - 1).await;
    }
}

#[tokio::test]
async fn nobody_comes_back_with_another_protocol() {
    let server = Server::new(Duration::ZERO).await;
    let mut stream = server.dozing(GET).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 ") && !answer.starts_with("HTTP/1.1 2"), "{answer:?}");
}
