//! HTTP/2 in, HTTP/1.1 out: what one has and the other must not get.

#[path = "common/wire.rs"]
mod wire;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, request::Builder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::{OK, Wire, header};

async fn client(wire: &Wire) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(wire.connect().await).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// The status of the answer to this request with this body and these trailers, or the error that the stream ended with.
async fn ask(
    wire: &Wire,
    request: Builder,
    body: Option<&'static str>,
    trailers: Option<HeaderMap>,
) -> Result<u16, h2::Error> {
    let (answer, mut stream) = client(wire).await.send_request(request.body(()).unwrap(), body.is_none())?;
    if let Some(body) = body {
        stream.send_data(Bytes::from(body), trailers.is_none())?;
    }
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers)?;
    }
    Ok(answer.await?.status().as_u16())
}

fn to(wire: &Wire, path: &str) -> Builder {
    Request::builder().method("POST").uri(format!("http://{}{path}", wire.front))
}

#[tokio::test]
async fn a_request_arrives_as_one_of_http1() {
    let wire = Wire::answering(OK).await;
    let request =
        to(&wire, "/a%2Fb?q").header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers").header("x", "1");
    assert_eq!(ask(&wire, request, Some("hello"), None).await.unwrap(), 200);
    let seen = wire.seen().remove(0);
    assert!(
        seen.starts_with("POST /a%2Fb?q HTTP/1.1\r\n") && seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "{seen}"
    );
    assert_eq!(header(&seen, "cookie"), ["a=1; b=2"]);
    assert_eq!(header(&seen, "host"), [wire.backend.to_string()]);
    assert_eq!(header(&seen, "x-forwarded-host"), [wire.front.to_string()]);
    assert_eq!(
        (header(&seen, "te"), header(&seen, "x"), header(&seen, "transfer-encoding")),
        (vec!["trailers"], vec!["1"], vec!["chunked"])
    );
    assert!(header(&seen, "via")[0].starts_with("2 "), "{seen}");
}

#[tokio::test]
async fn a_length_that_the_data_do_not_have_is_an_error_and_no_request() {
    let wire = Wire::answering(OK).await;
    for (length, body) in [
        ("3", Some("hello")),
        ("10", Some("hello")),
        ("5", None),
        ("+5", Some("hello")),
        ("5, 5", Some("hello")),
        ("05", Some("hello")),
    ] {
        let result = ask(&wire, to(&wire, "/").header("content-length", length), body, None).await;
        assert!(!matches!(result, Ok(200)), "{length} {body:?}: {result:?}");
        assert_eq!(wire.seen(), [""; 0], "{length} {body:?}");
    }
    // More than a length can be, by the letters and before any data.
    let huge = to(&wire, "/").header("content-length", "9223372036854775808");
    let (answer, _data) = client(&wire).await.send_request(huge.body(()).unwrap(), false).unwrap();
    assert_eq!(answer.await.unwrap().status(), 400);
    assert_eq!(wire.seen(), [""; 0]);
    let twice = to(&wire, "/").header("content-length", "5").header("content-length", "5");
    assert!(!matches!(ask(&wire, twice, Some("hello"), None).await, Ok(200)));
    assert_eq!(wire.seen(), [""; 0]);
    assert_eq!(ask(&wire, to(&wire, "/").header("content-length", "5"), Some("hello"), None).await.unwrap(), 200);
    assert!(wire.seen()[0].ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn headers_of_a_connection_are_an_error_and_no_request() {
    let wire = Wire::answering(OK).await;
    for (name, value) in [
        ("connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "1"),
        ("proxy-connection", "x"),
        ("te", "gzip"),
    ] {
        let result = ask(&wire, to(&wire, "/").header(name, value), None, None).await;
        assert!(!matches!(result, Ok(200)), "{name}: {result:?}");
        assert_eq!(wire.seen(), [""; 0], "{name}");
    }
}

#[tokio::test]
async fn whom_it_is_for_is_said_once() {
    let wire = Wire::answering(OK).await;
    let same = wire.front.to_string();
    assert_eq!(ask(&wire, to(&wire, "/").header("host", same), None, None).await.unwrap(), 200);
    wire.seen();
    for other in ["other.example", "", "a b", "user@a"] {
        assert_eq!(ask(&wire, to(&wire, "/").header("host", other), None, None).await.unwrap(), 400, "{other:?}");
    }
    let user = Request::get(format!("http://user:password@{}/", wire.front));
    assert!(!matches!(ask(&wire, user, None, None).await, Ok(200)));
    assert_eq!(wire.seen(), [""; 0]);
}

#[tokio::test]
async fn an_answer_without_content_says_no_length() {
    for answer in
        ["HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"]
    {
        let wire = Wire::answering(answer).await;
        let request = to(&wire, "/").body(()).unwrap();
        let (answer, _) = client(&wire).await.send_request(request, true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("content-length")), (204, None));
    }
}

#[tokio::test]
async fn methods_and_targets_are_as_in_http1() {
    let wire = Wire::answering(OK).await;
    for method in ["TRACE", "get"] {
        assert_eq!(ask(&wire, to(&wire, "/").method(method), None, None).await.unwrap(), 501, "{method}");
    }
    let connect = Request::connect(wire.front.to_string());
    assert_eq!(ask(&wire, connect, None, None).await.unwrap(), 501);
    let long = format!("/{}", "x".repeat(8 * 1024));
    assert_eq!(ask(&wire, to(&wire, &long), None, None).await.unwrap(), 414);
}

#[tokio::test]
async fn trailers_pass_where_they_were_announced() {
    let wire = Wire::answering(OK).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    trailers.insert("content-length", "3".parse().unwrap());
    let request = to(&wire, "/").header("trailer", "x-sum, content-length").header("te", "trailers");
    assert_eq!(ask(&wire, request, Some("hello"), Some(trailers)).await.unwrap(), 200);
    let seen = wire.seen().remove(0);
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
}

/// A literal field without indexing and without Huffman.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0, name.len() as u8][..], name, &[value.len() as u8], value].concat()
}

#[tokio::test]
async fn fields_that_http1_would_read_otherwise_do_not_get_through() {
    use tokio::io::AsyncWriteExt;
    let wire = Wire::answering(OK).await;
    // GET and http are in the static table.
    let pseudo = |path: &[u8], authority: &[u8]| {
        [&[0x82, 0x86][..], &literal(b":path", path), &literal(b":authority", authority)].concat()
    };
    let fine = pseudo(b"/", b"a");
    let cases = [
        [&fine[..], &literal(b"x", b"1\r\nEvil: 1")].concat(),
        [&fine[..], &literal(b"x", b"1\nEvil: 1")].concat(),
        [&fine[..], &literal(b"x", b"1\0")].concat(),
        [&fine[..], &literal(b"x\r\nevil", b"1")].concat(),
        [&fine[..], &literal(b"x: y", b"1")].concat(),
        [&fine[..], &literal(b"X", b"1")].concat(),
        [&fine[..], &literal(b"x", b" 1")].concat(),
        [&fine[..], &literal(b"x", b"1\t")].concat(),
        [&fine[..], &literal(b"x", b"1"), &literal(b"x", b"2 ")].concat(),
        [&fine[..], &literal(b"", b"1")].concat(),
        [&fine[..], &literal(b":path", b"/2")].concat(),
        [&fine[..], &literal(b":evil", b"1")].concat(),
        [&fine[..], &literal(b"x", b"1"), &literal(b":method", b"GET")].concat(),
        pseudo(b"/ HTTP/1.1\r\nEvil: 1", b"a"),
        pseudo(b"/ a", b"a"),
        pseudo(b"/\xc3\xa9", b"a"),
        pseudo(b"/?\xc3\xa9", b"a"),
        pseudo(b"", b"a"),
        pseudo(b"a", b"a"),
        pseudo(b"/", b"a\r\nEvil: 1"),
        pseudo(b"/", b"a b"),
        pseudo(b"/", b"user@a"),
        pseudo(b"/", b"a/b"),
        pseudo(b"/", b"[:::::::]"),
        // For nobody (RFC 9113 §8.3.1).
        [&[0x82, 0x86][..], &literal(b":path", b"/")].concat(),
        [&[0x86][..], &literal(b":path", b"/"), &literal(b":method", b"GET / HTTP/1.1\r\nEvil: 1\r\n")].concat(),
        [&[0x86][..], &literal(b":path", b"/"), &literal(b":method", b"")].concat(),
    ];
    let send = async |block: &[u8]| {
        let mut stream = wire.connect().await;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        // HEADERS with END_STREAM and END_HEADERS on stream 1, then GOAWAY.
        bytes.extend([&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1], block].concat());
        stream.write_all(&bytes).await.unwrap();
        stream.write_all(b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0").await.unwrap();
        wire::to_end(&mut stream).await;
    };
    send(&fine).await;
    assert_eq!(wire.seen().len(), 1, "the case that is fine");
    // As it was in HTTP/1.1.
    send(&[&[0x82, 0x86][..], &literal(b":path", b"/"), &literal(b"host", b"a")].concat()).await;
    assert_eq!(header(&wire.seen()[0], "x-forwarded-host"), ["a"]);
    // Of no resource.
    send(
        &[&[0x86][..], &literal(b":method", b"OPTIONS"), &literal(b":path", b"*"), &literal(b":authority", b"a")]
            .concat(),
    )
    .await;
    assert!(wire.seen()[0].starts_with("OPTIONS * HTTP/1.1\r\n"));
    send(&pseudo(b"*", b"a")).await;
    assert_eq!(wire.seen(), [""; 0], "GET *");
    for case in cases {
        send(&case).await;
        assert_eq!(wire.seen(), [""; 0], "{:?}", String::from_utf8_lossy(&case));
    }
}

#[tokio::test]
async fn a_request_is_whole_where_it_says_so_and_not_where_its_stream_is_reset() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for whole in [true, false] {
        let (seen, mut all) = tokio::sync::mpsc::unbounded_channel();
        let wire = Wire::handling(Default::default(), move |mut stream| {
            let seen = seen.clone();
            async move {
                // It answers before it has got all, and goes on.
                wire::until(&mut stream, "\r\n7\r\npartial\r\n").await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
                let mut rest = Vec::new();
                while !rest.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut rest).await.is_ok_and(|read| read > 0) {}
                _ = seen.send(String::from_utf8(rest).unwrap());
            }
        })
        .await;
        let request = to(&wire, "/").body(()).unwrap();
        let (answer, mut upload) = client(&wire).await.send_request(request, false).unwrap();
        upload.send_data(Bytes::from("partial"), false).unwrap();
        let _answer = answer.await.unwrap();
        if whole {
            upload.send_data(Bytes::new(), true).unwrap();
        } else {
            upload.send_reset(h2::Reason::NO_ERROR);
        }
        assert_eq!(all.recv().await.unwrap(), if whole { "0\r\n\r\n" } else { "" });
    }
}

#[tokio::test]
async fn trailers_have_no_pseudo_headers() {
    let frame =
        |kind: u8, flags: u8, payload: &[u8]| [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat();
    const POST_TO_A: &[u8] = &[0x83, 0x86, 0x84, 0x01, 0x01, b'a'];
    const FIELD: &[u8] = b"\0\x01x\x011";
    // Another `:method`, as a literal.
    const METHOD: &[u8] = b"\x42\x03200";
    for (trailers, is_answered) in [(FIELD.to_vec(), true), ([METHOD, FIELD].concat(), false)] {
        let wire = Wire::answering(OK).await;
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        let request = [begin, frame(1, 4, POST_TO_A), frame(0, 0, b"hello"), frame(1, 5, &trailers)].concat();
        let mut stream = wire.connect().await;
        stream.write_all(&request).await.unwrap();
        let (mut read, mut bytes) = (Vec::new(), [0; 1024]);
        // Until the answer's content, or the end.
        while let Ok(1..) = stream.read(&mut bytes).await.inspect(|&length| read.extend_from_slice(&bytes[..length])) {
            if read.windows(2).any(|window| window == b"ok") {
                break;
            }
        }
        assert_eq!(read.windows(2).any(|window| window == b"ok"), is_answered);
        assert!(is_answered || wire.seen().iter().all(|seen| !seen.ends_with("0\r\n\r\n")), "{:?}", wire.seen());
    }
}
