use super::*;
use tokio::io::AsyncReadExt;

/// What the parser above gets to read where these pieces arrive one by one.
async fn read(pieces: &[&[u8]]) -> (Vec<u8>, io::Result<()>) {
    let mut builder = tokio_test::io::Builder::new();
    pieces.iter().filter(|piece| !piece.is_empty()).for_each(|piece| _ = builder.read(piece));
    let mut strict = Strict::new(builder.build());
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    let result = loop {
        match strict.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(error) => break Err(error),
        }
    };
    // What was not read because of an offence is no mistake of the test's.
    std::mem::forget(strict);
    (got, result)
}

const FINE: &[&str] = &[
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost:a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t12 \r\n\r\n\nGET\n#\n\0\n\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:0\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "POST / HTTP/1.0\r\ntransfer-ENCODING:  Chunked\t\r\nHost: a\r\n\r\n3\r\n\n\n\n\r\nA;n=\"v v\"\r\n0123456789\r\n\
     0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n\n\n whatever \n",
];

/// Each of these is refused at the end of the line before the bar, which stands for nothing.
const REFUSED_IN_HEAD: &[&str] = &[
    "GET / HTTP/1.1|\n",
    "|\nGET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a|\nX: 1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n|\n",
    "GET / HTTP/1.1\r\nX: 1\r\n\r|\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r|\n\r\n",
    "GET /#f HTTP/1.1\r|\n\r\n",
    "GET /\u{e9} HTTP/1.1\r|\n\r\n",
    "P / HTTP/1.0\r\ncontent-length: 1\r\ncontent-length: 1\r|\n\r\n",
    "P / HTTP/1.0\r\ncontent-length: 1\r\n\r\n\nGET / HTTP/1.1|\n",
    "P / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n|\n",
];

#[tokio::test]
async fn what_is_well_formed_passes_however_it_is_cut() {
    for request in FINE {
        let bytes = request.as_bytes();
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let (got, result) = read(&[first, second]).await;
            assert_eq!(got, bytes, "{request:?} cut at {cut}");
            assert!(result.is_ok());
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(read(&single).await.0, bytes);
    }
}

#[tokio::test]
async fn what_is_refused_in_a_head_ends_before_the_end_of_its_line_however_it_is_cut() {
    for request in REFUSED_IN_HEAD {
        let (before, after) = request.split_once('|').unwrap();
        let bytes = &[before.as_bytes(), after.as_bytes()].concat()[..];
        let expected = [before.as_bytes(), UNACCEPTABLE].concat();
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let (got, result) = read(&[first, second]).await;
            assert_eq!(got, expected, "{request:?} cut at {cut}");
            assert!(result.is_ok());
        }
    }
}

#[tokio::test]
async fn lengths_that_can_be_read_in_two_ways_are_refused() {
    for length in
        ["", "+5", "-5", "5,5", "5, 6", "5 5", "0x5", "05", "00", "5\u{b}", "\"5\"", "99999999999999999999", "1e3"]
    {
        let head = format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        assert!(read(&[head.as_bytes()]).await.0.ends_with(UNACCEPTABLE), "{length:?}");
    }
}

#[tokio::test]
async fn codings_other_than_chunked_are_refused() {
    for coding in [
        "",
        "xchunked",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "chunked;q=1",
        "\"chunked\"",
        "\u{b}chunked",
        ",chunked",
        "chunked,",
        "ch\tunked",
    ] {
        let head = format!("POST / HTTP/1.0\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert!(read(&[head.as_bytes()]).await.0.ends_with(UNACCEPTABLE), "{coding:?}");
    }
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let head = format!("POST / HTTP/1.0\r\n{both}\r\n\r\n");
        assert!(read(&[head.as_bytes()]).await.0.ends_with(UNACCEPTABLE), "{both:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_badly_chunked_breaks_where_it_is() {
    const HEAD: &str = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, passes) in [
        ("\r\n", "\r"),
        ("0x5\r\nhello\r\n", "0x5\r"),
        ("+5\r\nhello\r\n", "+5\r"),
        ("-5\r\nhello\r\n", "-5\r"),
        (" 5\r\nhello\r\n", " 5\r"),
        ("5 \r\nhello\r\n", "5 \r"),
        ("5_0\r\nhello\r\n", "5_0\r"),
        ("5;\r\nhello\r\n", "5;\r"),
        ("5;a\rb\r\nhello\r\n", "5;a\rb\r"),
        ("5;a=\0\r\nhello\r\n", "5;a=\0\r"),
        ("5\nhello\r\n", "5"),
        ("5\r\nhelloworld\r\n", "5\r\nhelloworld\r"),
        ("5\r\nhello\n0\r\n\r\n", "5\r\nhello"),
        ("10000000000000005\r\nhello\r\n", "10000000000000005\r"),
        ("0\r\n\n", "0\r\n"),
        ("0\r\nX: 1\n\r\n", "0\r\nX: 1"),
        ("0\r\nContent-Length: 5\r\n\r\n", "0\r\nContent-Length: 5\r"),
        ("0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r"),
        ("0\r\nHost: b\r\n\r\n", "0\r\nHost: b\r"),
    ] {
        let (got, result) = read(&[HEAD.as_bytes(), body.as_bytes()]).await;
        assert_eq!(got, [HEAD, passes].concat().as_bytes(), "{body:?}");
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData, "{body:?}");
    }
}

#[tokio::test]
async fn where_it_was_asked_for_and_said_anything_passes_and_not_for_what_is_written() {
    use tokio::io::AsyncWriteExt;
    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    for (asks, says, expected) in [
        ("Upgrade: x\r\n", true, &b"\n\n"[..]),
        ("Upgrade: x\r\n", false, UNACCEPTABLE),
        ("X: x\r\n", true, UNACCEPTABLE),
    ] {
        let asks = format!("GET / HTTP/1.1\r\nHost: a\r\n{asks}\r\n");
        let io = tokio_test::io::Builder::new().read(asks.as_bytes()).write(ANSWER).read(b"\n\n").build();
        let mut strict = Strict::new(io);
        let mut buffer = [0; 4096];
        assert_eq!(strict.read(&mut buffer).await.unwrap(), asks.len());
        if says {
            strict.switch().switched();
        }
        strict.write_all(ANSWER).await.unwrap();
        let read = strict.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], expected);
    }
}
