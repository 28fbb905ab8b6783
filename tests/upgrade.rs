//! WebSocket and other protocols through the gateway's server: who may switch, and what passes then.

#[path = "common/wire.rs"]
mod wire;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tower_balancer::{backend::Outcome, http::UpgradeLayer};
use wire::{OK, Wire, header, limits::Limits, to_end, until};

const ASKS: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nX-End: 1\r\n\r\n";

/// Real WebSocket servers, which send back whatever comes.
async fn echo(limits: Limits) -> Wire {
    Wire::handling(limits, |stream| async move {
        let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
        let (mut out, mut back) = socket.split();
        while let Some(Ok(message)) = back.next().await {
            if (message.is_binary() || message.is_text()) && out.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Backends that switch, and then do with the rest of the connection what `handle` does.
async fn switching<F>(handle: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static) -> Wire
where
    F: Future<Output = ()> + Send + 'static,
{
    Wire::handling(Limits::default(), move |mut stream| {
        let handle = handle.clone();
        async move {
            if wire::request(&mut stream).await.is_some() && stream.write_all(SWITCHES.as_bytes()).await.is_ok() {
                handle(stream).await;
            }
        }
    })
    .await
}

async fn in_flight(wire: &Wire, expected: u32) {
    for _ in 0..1_000 {
        if wire.pool.backends()[0].load().in_flight() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", wire.pool.backends()[0].load());
}

#[tokio::test]
async fn large_messages_of_a_real_client_come_back_and_the_backend_is_in_use_until_it_closes() {
    let wire = echo(Limits::default()).await;
    let (mut socket, answer) =
        tokio_tungstenite::connect_async(format!("ws://{}/chat?room=1", wire.front)).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["upgrade"]), (101, &"websocket".parse().unwrap()));
    in_flight(&wire, 1).await;
    for length in [0, 1, 125, 126, 65_536, 3_000_000] {
        let message = Message::binary(Bytes::from((0..length).map(|n| n as u8).collect::<Vec<_>>()));
        socket.send(message.clone()).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap() == message, "{length} bytes were changed");
    }
    in_flight(&wire, 1).await;
    socket.close(Some(CloseFrame { code: 1000.into(), reason: "enough".into() })).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message:?}");
    }
    drop(socket);
    in_flight(&wire, 0).await;
    assert_eq!(wire.pool.backends()[0].load().count(Outcome::Success), 1);
}

#[tokio::test]
async fn each_direction_ends_by_itself_and_the_other_goes_on() {
    // It says something when it has heard all.
    let listener = |mut stream: TcpStream| async move {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        stream.write_all(&heard).await.unwrap();
        stream.write_all(b" was all").await.unwrap();
    };
    let wire = switching(listener).await;
    let mut stream = wire.connect().await;
    stream.write_all(ASKS.as_bytes()).await.unwrap();
    let head = until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!((header(&head, "connection"), header(&head, "x-end")), (vec!["upgrade"], vec!["1"]));
    // Nothing of this is a request.
    stream.write_all(b"GET / HTTP/1.1\n\0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(to_end(&mut stream).await, "GET / HTTP/1.1\n\0\r\n\r\n was all");
    in_flight(&wire, 0).await;

    // The other way round: it has said all, and goes on listening.
    let speaker = |mut stream: TcpStream| async move {
        stream.write_all(b"that is all").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"heard");
    };
    let wire = switching(speaker).await;
    let mut stream = wire.connect().await;
    stream.write_all(ASKS.as_bytes()).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    assert_eq!(to_end(&mut stream).await, "that is all");
    in_flight(&wire, 1).await;
    stream.write_all(b"heard").await.unwrap();
    drop(stream);
    in_flight(&wire, 0).await;
    assert_eq!(wire.pool.backends()[0].load().count(Outcome::Success), 1);
}

#[tokio::test]
async fn the_backend_is_asked_for_what_is_on_the_list_and_for_nothing_else() {
    let wire = Wire::answering(OK).await;
    let asks = |lines: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    };
    for (lines, upgrade) in [
        ("Connection: Upgrade\r\nUpgrade: websocket", &["websocket"][..]),
        ("Connection: Upgrade\r\nUpgrade: WebSocket", &["websocket"]),
        ("Connection: Upgrade\r\nUpgrade: h2c, websocket", &["websocket"]),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x", &[]),
        ("Connection: Upgrade\r\nUpgrade: TLS/1.0", &[]),
        ("Connection: Upgrade\r\nUpgrade: websocketx", &[]),
        ("Connection: Upgrade", &[]),
        // Nobody on this hop asked.
        ("Upgrade: websocket", &[]),
    ] {
        // It does not switch: what follows is a request.
        let answer = wire.send(asks(lines)).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{lines}: {answer}");
        let seen = wire.seen();
        assert_eq!(header(&seen[0], "upgrade"), upgrade, "{lines}");
        assert_eq!(header(&seen[0], "connection"), if upgrade.is_empty() { &[][..] } else { &["upgrade"] }, "{lines}");
        assert!(header(&seen[0], "http2-settings").is_empty());
    }
    let with_body = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello";
    let seen = wire.passes(with_body).await;
    assert!(header(&seen, "upgrade").is_empty() && seen.ends_with("hello"), "{seen}");
    let seen = wire.passes("GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert!(header(&seen, "upgrade").is_empty(), "{seen}");

    let none = Wire::with(OK, Limits::default(), |proxy| proxy.upgrade(UpgradeLayer::none())).await;
    none.send(asks("Connection: Upgrade\r\nUpgrade: websocket")).await;
    assert!(header(&none.seen()[0], "upgrade").is_empty());
}

#[tokio::test]
async fn a_backend_that_switches_unasked_or_to_something_else_is_a_502() {
    let wire = Wire::answering(SWITCHES).await;
    for lines in ["X: 1", "Upgrade: websocket", "Connection: Upgrade\r\nUpgrade: h2c"] {
        let answer = wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nGET / HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{lines}: {answer}");
    }
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let wire = Wire::answering(answer).await;
        let mut stream = wire.connect().await;
        stream.write_all(ASKS.as_bytes()).await.unwrap();
        let head = until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{answer}: {head}");
    }
}

#[tokio::test]
async fn what_follows_a_request_that_asks_is_read_strictly_until_the_backend_has_switched() {
    let wire = Wire::answering(OK).await;
    let answer = wire.send(format!("{ASKS}GET / HTTP/1.1\nHost: a\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 400 "), "{answer}");
    assert_eq!(wire.seen().len(), 1);
}

#[tokio::test]
async fn a_tunnel_in_which_nobody_speaks_is_closed() {
    let silent = |mut stream: TcpStream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    let idle = UpgradeLayer::new().idle_timeout(Duration::from_millis(50));
    let wire = Wire::handling_with(
        Limits::default(),
        |proxy| proxy.upgrade(idle),
        move |mut stream| async move {
            wire::request(&mut stream).await;
            _ = stream.write_all(SWITCHES.as_bytes()).await;
            silent(stream).await;
        },
    )
    .await;
    let mut stream = wire.connect().await;
    stream.write_all(ASKS.as_bytes()).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    assert_eq!(to_end(&mut stream).await, "");
    in_flight(&wire, 0).await;
}

#[tokio::test]
async fn a_websocket_begins_over_http2_as_well() {
    let wire = echo(Limits::default()).await;
    let stream = wire.connect().await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut client = {
        // The settings that allow it come with the first frames.
        while !client.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.ready().await.unwrap()
    };
    let ask = |protocol: &'static str| {
        let request = Request::connect(format!("http://{}/chat", wire.front)).header("sec-websocket-version", "13");
        request.extension(h2::ext::Protocol::from_static(protocol)).body(()).unwrap()
    };
    let (answer, mut send) = client.send_request(ask("websocket"), false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("sec-websocket-accept") && !answer.headers().contains_key("upgrade"));
    // A text of two letters, masked with zeros, and back without a mask.
    send.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false).unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), &b"\x81\x02hi"[..]);
    in_flight(&wire, 1).await;
    send.send_data(Bytes::new(), true).unwrap();
    while let Some(Ok(data)) = body.data().await {
        _ = body.flow_control().release_capacity(data.len());
    }
    in_flight(&wire, 0).await;

    let (answer, _send) = client.send_request(ask("h2c"), false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 501);
    driving.abort();
}

#[tokio::test]
async fn an_answer_over_http2_of_a_backend_that_does_not_switch_is_no_tunnel() {
    // To a client any success says that what follows is the other protocol (RFC 8441, section 4).
    for (status, expected) in [("200 OK", 502), ("204 No Content", 502), ("403 Forbidden", 403)] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok");
        let answer = if status.starts_with("204") { format!("HTTP/1.1 {status}\r\n\r\n") } else { answer };
        let wire = Wire::answering(answer.leak()).await;
        let (client, connection) = h2::client::handshake(wire.connect().await).await.unwrap();
        let driving = tokio::spawn(connection);
        while !client.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let request = Request::connect(format!("http://{}/chat", wire.front)).header("sec-websocket-version", "13");
        let request = request.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap();
        let (answer, _send) = client.ready().await.unwrap().send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), expected, "{status}");
        assert_eq!(answer.headers().contains_key("content-type"), expected == 403, "{status}");
        in_flight(&wire, 0).await;
        driving.abort();
    }
}

#[tokio::test]
async fn a_websocket_over_http2_is_no_idle_connection() {
    let idle = Duration::from_millis(500);
    let wire = echo(Limits { idle, ..Limits::default() }).await;
    let (client, connection) = h2::client::handshake(wire.connect().await).await.unwrap();
    let driving = tokio::spawn(connection);
    while !client.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let request = Request::connect(format!("http://{}/chat", wire.front)).header("sec-websocket-version", "13");
    let request = request.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap();
    let (answer, mut send) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let mut body = answer.await.unwrap().into_body();
    // It has been asked to end meanwhile, and would have been put out.
    tokio::time::sleep(idle * 4).await;
    send.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), &b"\x81\x02hi"[..]);
    driving.abort();
}

#[tokio::test]
async fn a_body_that_reads_like_a_switch_switches_nothing() {
    // The client may have put it there itself.
    let body = |mut stream: TcpStream| async move {
        while wire::request(&mut stream).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
        }
    };
    let wire = Wire::handling(Limits::default(), body).await;
    for upgrade in ["websocket", "x"] {
        let mut stream = wire.connect().await;
        let asks = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n");
        stream.write_all(asks.as_bytes()).await.unwrap();
        until(&mut stream, "Protocols\r\n\r\n").await;
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\nContent-Length: 0\r\n\r\n").await.unwrap();
        let answer = to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    }
}
