//! HTTP/1.1 in, HTTP/2 out: what a backend of HTTP/2 gets, and what it may say that a client of HTTP/1.1 must not get.

#[path = "common/wire.rs"]
mod wire;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_balancer::http::ClientConfig;
use wire::{Wire, header, limits::Limits};

/// A request as it arrived: its head, its body and its trailers.
type Seen = Arc<Mutex<Vec<(Request<()>, Vec<u8>, Option<HeaderMap>)>>>;

/// The backend does with each connection what `handle` does.
async fn over<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> Wire
where
    F: Future<Output = ()> + Send + 'static,
{
    Wire::handling_with(Limits::default(), |proxy| proxy.client(ClientConfig::new().http2()), handle).await
}

/// Answers each request with `answer`, a body and trailers.
async fn answering(answer: fn() -> (Response<()>, Option<&'static str>, HeaderMap)) -> (Wire, Seen) {
    let seen = Seen::default();
    let told = Arc::clone(&seen);
    let wire = over(move |stream| {
        let told = Arc::clone(&told);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let (head, mut from) = request.into_parts();
                    let mut body = Vec::new();
                    while let Some(Ok(data)) = from.data().await {
                        body.extend_from_slice(&data);
                    }
                    let trailers = from.trailers().await.unwrap();
                    told.lock().unwrap().push((Request::from_parts(head, ()), body, trailers));
                    let (head, body, trailers) = answer();
                    let mut to = respond.send_response(head, body.is_none()).unwrap();
                    if let Some(body) = body {
                        to.send_data(Bytes::from_static(body.as_bytes()), trailers.is_empty()).unwrap();
                        if !trailers.is_empty() {
                            to.send_trailers(trailers).unwrap();
                        }
                    }
                });
            }
        }
    })
    .await;
    (wire, seen)
}

fn ok() -> (Response<()>, Option<&'static str>, HeaderMap) {
    (Response::new(()), Some("ok"), HeaderMap::new())
}

#[tokio::test]
async fn a_request_arrives_as_one_of_http2() {
    let (wire, seen) = answering(ok).await;
    let answer = wire
        .send(
            "POST /a%2Fb/../c?q HTTP/1.1\r\nHost: shop.example\r\nConnection: close, X-Hop, TE, Host\r\nX-Hop: 1\r\n\
             Keep-Alive: 1\r\nProxy-Connection: 1\r\nProxy-Authorization: x\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nCookie: a=1; b=2\r\nX-End: 1\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (head, body, trailers) = seen.lock().unwrap().remove(0);
    assert_eq!((head.method().as_str(), body), ("POST", b"hello".to_vec()));
    assert_eq!(head.uri().to_string(), format!("http://{}/a%2Fb/../c?q", wire.backend));
    let headers = head.headers();
    for hop in [
        "host",
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "http2-settings",
        "transfer-encoding",
        "content-length",
    ] {
        assert!(!headers.contains_key(hop), "{hop} crossed: {headers:?}");
    }
    for (name, value) in [
        ("te", "trailers"),
        ("cookie", "a=1; b=2"),
        ("x-end", "1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "shop.example"),
    ] {
        assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
    }
    assert_eq!(trailers.unwrap()["x-sum"], "1");
}

#[tokio::test]
async fn bodies_keep_the_length_that_they_say_whatever_the_method() {
    let (wire, seen) = answering(ok).await;
    for method in ["GET", "HEAD", "POST", "OPTIONS"] {
        for (framing, body, length) in [
            ("X: 1", "", None),
            ("Content-Length: 5", "hello", Some("5")),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", None),
        ] {
            wire.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n{body}")).await;
            let (head, arrived, _) = seen.lock().unwrap().remove(0);
            let said = head.headers().get("content-length").map(|length| length.to_str().unwrap());
            // Of nothing it may be said that it is nothing.
            let said = said.filter(|length| *length != "0" || !arrived.is_empty());
            assert_eq!(head.method(), method);
            assert_eq!((said, arrived.is_empty()), (length, body.is_empty()), "{method} {framing}");
        }
    }
}

#[tokio::test]
async fn an_answer_arrives_as_one_of_http1() {
    let ask = |method: &str| format!("{method} / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
    let (wire, _) = answering(|| {
        let head = Response::builder().header("content-length", "2").header("x-end", "1").body(()).unwrap();
        (head, Some("ok"), HeaderMap::new())
    })
    .await;
    let answer = wire.send(ask("GET")).await;
    assert_eq!((header(&answer, "content-length"), header(&answer, "x-end")), (vec!["2"], vec!["1"]));
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");

    let (wire, _) = answering(|| {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        (Response::builder().header("trailer", "x-sum").body(()).unwrap(), Some("ok"), trailers)
    })
    .await;
    let answer = wire.send(ask("GET")).await;
    assert!(answer.ends_with("\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"), "{answer}");

    let (wire, _) = answering(|| {
        let head = Response::builder().header("content-length", "7").body(()).unwrap();
        (head, None, HeaderMap::new())
    })
    .await;
    let answer = wire.send(ask("HEAD")).await;
    assert_eq!(header(&answer, "content-length"), ["7"]);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

/// A literal field without indexing and without Huffman.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0, name.len() as u8][..], name, &[value.len() as u8], value].concat()
}

/// A backend that answers each request with these bytes for the block of its head, and then these for its body.
async fn raw(block: Vec<u8>, body: &'static [u8]) -> Wire {
    ended_by(block, body, 1, false).await
}

/// The same, with these flags on the frame of the body, of which 1 is the end of the stream; and then it may be reset, with no error.
async fn ended_by(block: Vec<u8>, body: &'static [u8], body_flags: u8, reset: bool) -> Wire {
    over(move |mut stream| {
        let block = block.clone();
        async move {
            let mut preface = [0; 24];
            if stream.read_exact(&mut preface).await.is_err() {
                return;
            }
            _ = stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
            let mut head = [0; 9];
            while stream.read_exact(&mut head).await.is_ok() {
                let [high, middle, low, kind, flags, stream_id @ ..] = head;
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                if stream.read_exact(&mut vec![0; length]).await.is_err() {
                    return;
                }
                let frame = |kind: u8, flags: u8, payload: &[u8]| {
                    [&[0, 0, payload.len() as u8, kind, flags], &stream_id[..], payload].concat()
                };
                let answer = match kind {
                    // Settings, which are to be acknowledged.
                    4 if flags == 0 => frame(4, 1, &[]),
                    1 => {
                        let reset = if reset { frame(3, 0, &[0; 4]) } else { vec![] };
                        [frame(1, 4, &block), frame(0, body_flags, body), reset].concat()
                    }
                    _ => continue,
                };
                _ = stream.write_all(&answer).await;
            }
        }
    })
    .await
}

const ASKS: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn what_http1_would_read_otherwise_does_not_come_back() {
    const OK: u8 = 0x88;
    let with = |field: Vec<u8>| [&[OK][..], &field].concat();
    let answer = raw(with(literal(b"x", b"1")), b"ok").await.send(ASKS).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && header(&answer, "x") == ["1"], "the case that is fine: {answer}");
    for block in [
        with(literal(b"x", b"1\r\nEvil: 1")),
        with(literal(b"x", b"1\nEvil: 1")),
        with(literal(b"x", b"1\0Evil")),
        with(literal(b"x\r\nevil", b"1")),
        with(literal(b"x: evil", b"1")),
        with(literal(b"Evil", b"1")),
        with(literal(b"", b"Evil")),
        with(literal(b"connection", b"close")),
        with(literal(b"transfer-encoding", b"chunked")),
        with(literal(b"keep-alive", b"1")),
        with(literal(b"proxy-connection", b"close")),
        with(literal(b"upgrade", b"websocket")),
        with(literal(b"content-length", b"+2")),
        with(literal(b"content-length", b"2, 3")),
        with([literal(b"content-length", b"2"), literal(b"content-length", b"3")].concat()),
        with(literal(b":status", b"200")),
        with([literal(b"x", b"1"), literal(b":status", b"200")].concat()),
        with(literal(b":evil", b"1")),
        literal(b":status", b"20"),
        literal(b":status", b"2 0"),
        literal(b":status", b"200 OK\r\nEvil: 1\r\n"),
        literal(b":status", b""),
        literal(b"x", b"1"),
        vec![0xff; 20],
    ] {
        let shown = String::from_utf8_lossy(&block).into_owned();
        let answer = raw(block, b"ok").await.send(ASKS).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("\r\n\r\nBad gateway"), "{shown:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {answer}");
        assert!(!answer.to_lowercase().contains("evil"), "{shown:?}: {answer}");
    }
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_does_not_look_whole() {
    for length in ["5", "0", "3"] {
        let block = [&[0x88][..], &literal(b"content-length", length.as_bytes())].concat();
        let answer = raw(block, b"ok").await.send(ASKS).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        // Either it is none, or there is less of it than it says, and nothing beyond that.
        let is_cut = header(head, "content-length") == [length]
            && header(head, "transfer-encoding").is_empty()
            && "ok".starts_with(body)
            && body.len() < length.parse::<usize>().unwrap().max(1);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 502 ") || is_cut, "{length}: {answer}");
    }
}

#[tokio::test]
async fn an_answer_is_whole_where_it_says_so_and_not_where_its_stream_is_reset() {
    let all = async |flags, reset| {
        let wire = ended_by(vec![0x88], b"partial", flags, reset).await;
        let (mut client, connection) = h2::client::handshake(wire.connect().await).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get(format!("http://{}/", wire.front)).body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        let all = async {
            let mut body = answer.await?.into_body();
            while body.data().await.transpose()?.is_some() {}
            Ok::<_, h2::Error>(())
        };
        let is_whole = all.await.is_ok();
        connection.abort();
        (wire.send(ASKS).await, is_whole)
    };
    // RFC 9113, section 8.1.
    let (http1, is_whole) = all(1, true).await;
    assert!(http1.ends_with("\r\n7\r\npartial\r\n0\r\n\r\n") && is_whole, "{is_whole} {http1}");
    let (http1, is_whole) = all(0, true).await;
    assert!(!http1.ends_with("0\r\n\r\n") && !is_whole, "{is_whole} {http1}");
}

#[tokio::test]
async fn an_early_answer_is_whole_though_the_stream_is_reset_for_the_rest_of_the_request() {
    // RFC 9113, section 8.1.
    let wire = ended_by(vec![0x88], b"partial", 1, true).await;
    let answer = wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n7\r\npartial\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_the_clients_delay_whatever_the_backend_speaks() {
    let limits = Limits { stall: Duration::from_millis(200), ..Limits::default() };
    let wire = Wire::handling_with(
        limits,
        |proxy| proxy.client(ClientConfig::new().http2()),
        |stream| async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let mut held = Vec::new();
            while let Some(Ok(request)) = connection.accept().await {
                held.push(request);
            }
        },
    )
    .await;
    let answer = wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
