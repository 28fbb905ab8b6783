//! HTTP/1.1 on the wire: bytes go in at the gateway's server, and both ends are looked at.

#[path = "common/wire.rs"]
mod wire;

use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_balancer::backend::Outcome;
use wire::{OK, Wire, header, limits::Limits, to_end, until};

/// A request with these lines after its first.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n")
}

/// A request with these lines beside `Host`, and this body.
fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")
}

// ---- what is refused, and never forwarded

#[tokio::test]
async fn lines_that_do_not_end_in_crlf_are_refused() {
    let wire = Wire::answering(OK).await;
    for request in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        wire.refuses(request, 400).await;
    }
}

#[tokio::test]
async fn lines_that_are_no_fields_are_refused() {
    let wire = Wire::answering(OK).await;
    for lines in [
        "X: 1\r\n folded",
        "X: 1\r\n\tfolded",
        "X:\r\n folded",
        "X : 1",
        "X\t: 1",
        " X: 1",
        ": 1",
        "no colon",
        "X[1]: 1",
        "X\u{e9}: 1",
        "X\0: 1",
        "X\u{7f}: 1",
        "X\u{b}: 1",
        "X: 1\0",
        "X: 1\u{1}2",
        "X: 1\u{b}",
        "X: 1\u{7f}",
        "X: \u{1b}[0m",
    ] {
        wire.refuses(get(&format!("Host: a\r\n{lines}")), 400).await;
        wire.refuses(get(&format!("{lines}\r\nHost: a")), 400).await;
    }
    wire.refuses("GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", 400).await;
}

#[tokio::test]
async fn a_host_is_there_once_and_is_one() {
    let wire = Wire::answering(OK).await;
    for lines in [
        "X: 1",
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host: a\r\nX: 1\r\nhost: a",
        "Host:",
        "Host: ",
        "Host: a b",
        "Host: a,b",
        "Host: user@a",
        "Host: user:password@a",
        "Host: a/path",
        "Host: a?q",
        "Host: a#f",
        "Host: http://a",
        "Host: a:port",
        "Host: a:80:80",
        "Host: a:-1",
        "Host: [::1",
        "Host: [a::g]",
        "Host: [:::::::]",
        "Host: [1:2:3]",
        "Host: [v1.a]",
        "Host: a%zz",
        "Host: a%2",
        "Host: a%",
        "Host: \"a\"",
        "Host: a\\b",
        "Host: \u{e9}",
    ] {
        wire.refuses(get(lines), 400).await;
    }
    for lines in [
        "Host: a:80",
        "Host: a.example",
        "Host: a!$&'()*+;=b",
        "Host: a%20b:80",
        "Host: [::1]:80",
        "Host: [::ffff:127.0.0.1]",
        "Host: 127.0.0.1",
        "host:a",
        "HOST: \t a \t",
    ] {
        wire.passes(get(&format!("{lines}\r\nConnection: close"))).await;
    }
    // Before 1.1 there was none.
    wire.passes("GET / HTTP/1.0\r\n\r\n").await;
}

#[tokio::test]
async fn a_length_is_there_once_and_in_digits() {
    let wire = Wire::answering(OK).await;
    for length in [
        "+5",
        "-5",
        "-0",
        "5,5",
        "5, 5",
        "5, 6",
        ",5",
        "5 5",
        "0x5",
        "5h",
        "5.0",
        "5e0",
        "05",
        "",
        "\"5\"",
        "five",
        "\u{b}5",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999",
        "18446744073709551615",
    ] {
        wire.refuses(post(&format!("Content-Length: {length}"), "hello"), 400).await;
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 0\r\ncontent-length: 5",
        "Content-Length : 5",
        "Content-Length: 5\r\n 0",
        "Content-Length\t: 5",
    ] {
        wire.refuses(post(lines, "hello"), 400).await;
    }
    let seen = wire.passes(post("Content-Length: \t 5 \t\r\nConnection: close", "hello")).await;
    assert_eq!(header(&seen, "content-length"), ["5"]);
    assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
}

#[tokio::test]
async fn a_transfer_coding_is_chunked_and_nothing_else_and_alone() {
    let wire = Wire::answering(OK).await;
    const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";
    for coding in [
        "xchunked",
        "chunked, chunked",
        "chunked, gzip",
        "gzip, chunked",
        "gzip",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "",
        "\"chunked\"",
        "'chunked'",
        "chunked;a=b",
        ",chunked",
        "chunked,",
        "chun\tked",
        "\u{b}chunked",
        "chunked\u{c}",
        "\0chunked",
        "chunked\u{a0}",
        "x, chunked",
    ] {
        wire.refuses(post(&format!("Transfer-Encoding: {coding}"), BODY), 400).await;
    }
    for lines in [
        "Content-Length: 15\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 15",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: junk\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: junk",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\n , gzip",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
    ] {
        wire.refuses(post(lines, BODY), 400).await;
    }
    wire.refuses(format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}"), 400).await;
    let seen = wire.passes(post("Transfer-encoding: \t CHUNKED \t\r\nConnection: close", BODY)).await;
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
    // Another header, whatever some make of it: it does not get as far as them.
    let seen = wire
        .passes(
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent_Length: 3\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(!seen.to_lowercase().contains("_encoding") && !seen.to_lowercase().contains("_length"), "{seen}");
}

#[tokio::test]
async fn a_body_that_is_badly_chunked_is_refused_and_not_forwarded_as_a_whole() {
    let wire = Wire::answering(OK).await;
    for body in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\0\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\\\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\0\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\r\nhello\r\n0\r\n\r\n",
        "5;a=b=c\r\nhello\r\n0\r\n\r\n",
        "5;a b c\r\nhello\r\n0\r\n\r\n",
        "5;a \r\nhello\r\n0\r\n\r\n",
        "5;a[b]=c\r\nhello\r\n0\r\n\r\n",
        "5;a;\r\nhello\r\n0\r\n\r\n",
        "5;;a\r\nhello\r\n0\r\n\r\n",
        "5;\"a\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX: 1\n\r\n",
        "5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\nHost: b\r\n\r\n",
    ] {
        let answer = wire.send(post("Transfer-Encoding: chunked", body)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer:?}");
        assert_eq!(wire.seen(), [""; 0], "{body:?} reached the backend");
    }
    let long = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    assert!(wire.send(post("Transfer-Encoding: chunked", &long)).await.starts_with("HTTP/1.1 400 "));
    for extensions in [
        ";a=b;c=\"d e\"",
        ";!x",
        " ; a = b\t;c\t=\t\"\"",
        ";a;b;c=1",
        ";a=\"\\\"\\\\ ;=[]\";b",
        ";a=\"\u{e9}\\\u{e9}\"",
    ] {
        let body = format!("0005{extensions}\r\nhello\r\n000{extensions}\r\n\r\n");
        let seen = wire.passes(post("Transfer-Encoding: chunked\r\nConnection: close", &body)).await;
        assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{extensions}: {seen}");
    }
}

#[tokio::test]
async fn trailers_pass_where_they_were_announced_and_change_nothing_of_the_head() {
    let wire = Wire::answering(OK).await;
    let body = "5\r\nhello\r\n0\r\nX-Sum: 1\r\nAuthorization: x\r\nX-Other: 2\r\n\r\n";
    let seen = wire
        .passes(post("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\nTE: trailers\r\nConnection: close, TE", body))
        .await;
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{seen}");
    assert_eq!((header(&seen, "authorization"), header(&seen, "te")), (vec![], vec!["trailers"]));
}

#[tokio::test]
async fn request_lines_that_are_none_are_refused() {
    let wire = Wire::answering(OK).await;
    for line in [
        "GET /",
        "GET",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/\tHTTP/1.1",
        "GET / a HTTP/1.1",
        " GET / HTTP/1.1",
        "GET HTTP/1.1",
        "/ HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/3",
        "GET / HTTP/0.9",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP 1.1",
        "G(T / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "\u{e9} / HTTP/1.1",
        "GET: / HTTP/1.1",
        "GET /#f HTTP/1.1",
        "GET /a?q#f HTTP/1.1",
        "GET # HTTP/1.1",
        "G#T /#f HTTP/1.1",
        "G#T\u{e9} / HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET a HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "POST * HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///path HTTP/1.1",
        "GET http://user@a/ HTTP/1.1",
        "GET http://u:p@a/ HTTP/1.1",
        "GET ftp://a/ HTTP/1.1",
        "GET http://a:b/ HTTP/1.1",
        "GET ../a HTTP/1.1",
        "GET \\ HTTP/1.1",
        "OPTIONS a:80 HTTP/1.1",
    ] {
        wire.refuses(format!("{line}\r\nHost: a\r\n\r\n"), 400).await;
    }
    wire.refuses([&b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"[..]].concat(), 400).await;
    wire.refuses([&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..]].concat(), 400).await;
    wire.refuses("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400).await;
}

#[tokio::test]
async fn methods_that_are_not_for_a_proxy_are_not_implemented() {
    let wire = Wire::answering(OK).await;
    for line in ["get / HTTP/1.1", "Get / HTTP/1.1", "TRACE / HTTP/1.1", "CONNECT a:443 HTTP/1.1", "CONNECT a HTTP/1.1"]
    {
        let answer = wire.send(format!("{line}\r\nHost: a\r\nConnection: close\r\nCookie: secret\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 501 ") && !answer.contains("secret"), "{line}: {answer}");
        assert_eq!(wire.seen(), [""; 0]);
    }
    for method in ["PROPFIND", "FOO#BAR"] {
        let seen = wire.passes(format!("{method} /dav HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(seen.starts_with(&format!("{method} /dav HTTP/1.1\r\n")), "{seen}");
    }
    // What follows was meant for whom it would have been connected to.
    wire.refuses("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 501).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_own_status() {
    let wire = Wire::answering(OK).await;
    let long = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(bytes));
    wire.passes(long(8 * 1024 - 1)).await;
    wire.refuses(long(8 * 1024), 414).await;
    wire.refuses(long(60 * 1024), 414).await;
    wire.refuses(long(100 * 1024), 414).await;
    let second = wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{}", long(100 * 1024))).await;
    assert!(second.starts_with("HTTP/1.1 200 ") && second.contains("okHTTP/1.1 414 "), "{second}");
    assert_eq!(wire.seen().len(), 1);
    wire.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024)), 431).await;
    wire.refuses(format!("GET / HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "x".repeat(64 * 1024)), 431).await;
    wire.refuses(get(&format!("Host: a\r\n{}", "X: 1\r\n".repeat(101).trim_end())), 431).await;
    wire.passes(get(&format!("Host: a\r\nConnection: close\r\n{}", "X: 1\r\n".repeat(98).trim_end()))).await;
}

#[tokio::test]
async fn an_answer_whose_body_is_none_from_the_beginning_is_none() {
    let asks = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for body in ["Z\r\n", "5\nhello\r\n0\r\n\r\n", "-1\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let wire = Wire::answering(answer.leak()).await;
        let answer = wire.send(asks).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{body:?}: {answer:?}");
        // It can be reached, and may be well but for this.
        assert!(wire.pool.backends()[0].is_eligible(), "{body:?}");
    }
    // Later it is cut off.
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZ\r\n";
    let answer = Wire::answering(answer).await.send(asks).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n5\r\nhello\r\n"), "{answer:?}");
}

#[tokio::test]
async fn to_a_client_of_http_1_0_a_reset_shows_that_an_answer_is_cut_off() {
    for (end, is_whole) in [("0\r\n\r\n", true), ("Z\r\n", false)] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n{end}");
        let wire = Wire::answering(answer.leak()).await;
        let mut stream = wire.connect().await;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let ended = stream.read_to_string(&mut answer).await;
        assert_eq!(ended.is_ok(), is_whole, "{ended:?} {answer:?}");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.0 200 ") && header(&answer, "transfer-encoding").is_empty()
        );
    }
}

#[tokio::test]
async fn an_expectation_is_met_or_refused() {
    let wire = Wire::answering(OK).await;
    wire.refuses(get("Host: a\r\nExpect: the-best\r\nConnection: close"), 417).await;
    wire.refuses(get("Host: a\r\nExpect: 100-continue, the-best\r\nConnection: close"), 417).await;

    let mut stream = wire.connect().await;
    stream
        .write_all(post("Content-Length: 5\r\nExpect: 100-Continue\r\nConnection: close", "").as_bytes())
        .await
        .unwrap();
    let told = until(&mut stream, "\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 100 "), "{told}");
    stream.write_all(b"hello").await.unwrap();
    assert!(to_end(&mut stream).await.starts_with("HTTP/1.1 200 "));
    assert!(wire.seen()[0].ends_with("\r\n\r\nhello"));
}

#[tokio::test]
async fn nothing_is_expected_before_1_1() {
    let wire = Wire::answering(OK).await;
    for expectation in ["100-continue", "the-best"] {
        let request = format!("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: {expectation}\r\n\r\nhello");
        let seen = wire.passes(request).await;
        assert!(header(&seen, "expect").is_empty() && seen.ends_with("\r\n\r\nhello"), "{seen}");
    }
}

// ---- what passes, and how

#[tokio::test]
async fn targets_pass_byte_for_byte() {
    let wire = Wire::answering(OK).await;
    for target in [
        "/",
        "//",
        "/a/../b/./c//d",
        "/%2e%2e/%2F%00%0d%0a",
        "/?",
        "/??a=b&c[]=d",
        "/a;b=c",
        "/~a!$&'()*+,=:@",
        "/{a}|b",
        "/a%zz",
        "*",
    ] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let seen = wire.passes(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(seen.starts_with(&format!("{method} {target} HTTP/1.1\r\n")), "{target}: {seen}");
    }
    for (target, origin_form) in [
        ("http://b.example/p?q", "/p?q"),
        ("HTTP://b.example", "/"),
        ("http://b.example:80/", "/"),
        ("https://b.example?q", "/?q"),
    ] {
        let seen = wire.passes(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(seen.starts_with(&format!("GET {origin_form} HTTP/1.1\r\n")), "{target}: {seen}");
        assert_eq!(header(&seen, "host"), [wire.backend.to_string()]);
        assert!(header(&seen, "x-forwarded-host")[0].starts_with("b.example"), "{seen}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_do_not_cross_and_nothing_else_can_be_nominated_away() {
    let wire = Wire::answering(OK).await;
    let seen = wire
        .passes(post(
            "Connection: close, Host, Content-Length, Transfer-Encoding, X-Forwarded-For, Via\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: 1\r\nProxy-Connection: 1\r\nProxy-Authorization: x\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
             X-End: 1\r\nContent-Length: 5",
            "hello",
        ))
        .await;
    for hop in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert!(header(&seen, hop).is_empty(), "{hop} crossed: {seen}");
    }
    assert_eq!(header(&seen, "host"), [wire.backend.to_string()]);
    assert_eq!(header(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!((header(&seen, "x-end"), header(&seen, "via").len()), (vec!["1"], 1));
    assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
    wire.refuses(get("Host: a\r\nConnection: x y"), 400).await;
    wire.refuses(get("Host: a\r\nConnection: \"close\""), 400).await;
}

#[tokio::test]
async fn a_get_or_head_with_a_body_keeps_it() {
    let wire = Wire::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for (framing, body, arrives) in [
            ("Content-Length: 5", "hello", "\r\n\r\nhello"),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let seen = wire
                .passes(format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n{body}"))
                .await;
            assert!(seen.ends_with(arrives), "{method}: {seen}");
        }
    }
    let seen = wire.passes("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(seen.ends_with("\r\n\r\n"), "{seen}");
}

#[tokio::test]
async fn requests_in_one_write_are_answered_in_order() {
    let echo = |mut stream: TcpStream| async move {
        while let Some(request) = wire::request(&mut stream).await {
            let path = request.split(' ').nth(1).unwrap().to_owned();
            // The first is the slowest.
            tokio::time::sleep(Duration::from_millis(if path == "/1" { 50 } else { 0 })).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
            _ = stream.write_all(answer.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits::default(), echo).await;
    let requests = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n\
        GET /smuggled HTTP/1.1\r\nHost: \r\nPOST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = wire.send(requests).await;
    let paths: Vec<_> = answer.split("\r\n\r\n").skip(1).map(|body| body.split("HTTP/").next().unwrap()).collect();
    assert_eq!(paths, ["/1", "/2", "/3", "/4"], "{answer}");
    // What is refused comes last, after all before it were answered.
    let answer = wire
        .send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("/1HTTP/1.1 400 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
}

#[tokio::test]
async fn who_half_closes_after_a_whole_request_is_answered() {
    let slow = |mut stream: TcpStream| async move {
        while wire::request(&mut stream).await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            _ = stream.write_all(OK.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits::default(), slow).await;
    for request in [get("Host: a"), post("Content-Length: 5", "hello")] {
        let mut stream = wire.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_request_that_ends_in_the_middle_is_not_forwarded_as_a_whole() {
    let wire = Wire::answering(OK).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(),
        post("Content-Length: 10", "hello"),
        post("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        post("Transfer-Encoding: chunked", "5\r\nhel"),
    ] {
        let mut stream = wire.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer:?}");
        assert_eq!(wire.seen(), [""; 0], "{request:?} reached the backend whole");
    }
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_leaves_nothing_that_could_be_taken_for_a_request() {
    // It does not wait for the body, and does not read it.
    let hasty = |mut stream: TcpStream| async move {
        until(&mut stream, "\r\n\r\n").await;
        _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    let wire = Wire::handling(Limits::default(), hasty).await;
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut stream = wire.connect().await;
    // Of the body comes only a part, later.
    let head = post(&format!("Content-Length: {}", body.len() + 100), "");
    stream.write_all(head.as_bytes()).await.unwrap();
    until(&mut stream, "no").await;
    _ = stream.write_all(body.as_bytes()).await;
    _ = stream.shutdown().await;
    let rest = to_end(&mut stream).await;
    assert!(!rest.contains("HTTP/1.1 "), "the body was answered: {rest:?}");
}

#[tokio::test]
async fn a_final_answer_where_a_go_on_was_expected_spoils_no_connection() {
    let picky = |mut stream: TcpStream| async move {
        while let Some(request) = wire::request(&mut stream).await {
            let answer =
                if request.starts_with("POST") { "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno" } else { OK };
            _ = stream.write_all(answer.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits::default(), picky).await;
    for _ in 0..3 {
        let request = post("Content-Length: 5\r\nExpect: 100-continue\r\nConnection: close", "hello");
        let answer = wire.send(request).await;
        assert!(answer.contains("HTTP/1.1 403 ") && answer.ends_with("no"), "{answer:?}");
        let answer = wire.send(get("Host: a\r\nConnection: close")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer:?}");
    }
}

// ---- what comes back

#[tokio::test]
async fn answers_without_a_body_have_none_whatever_the_backend_sends() {
    for (answer, method, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HEAD", "200"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HEAD", "200"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "GET", "204"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", "GET", "304"),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "GET", "204"),
    ] {
        let wire = Wire::answering(answer).await;
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\n\r\n{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        );
        let came = wire.send(request).await;
        assert_eq!(came.matches(&format!("HTTP/1.1 {status} ")).count(), 2, "{answer:?}: {came:?}");
        assert!(!came.contains("hello") && came.ends_with("\r\n\r\n"), "{answer:?}: {came:?}");
        // There it would say how long no content is (RFC 9110 §8.6).
        assert!(status != "204" || header(&came, "content-length").is_empty(), "{answer:?}: {came:?}");
    }
}

#[tokio::test]
async fn what_comes_before_the_answer_does_not_take_its_place() {
    for before in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
    ] {
        let wire = Wire::answering(format!("{before}{OK}").leak()).await;
        let answer = wire.send(get("Host: a\r\nConnection: close")).await;
        assert!(answer.contains("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer:?}");
    }
}

#[tokio::test]
async fn answers_that_are_none_become_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: 1\rY: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
        "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "ok\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding:\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 600 What\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let wire = Wire::answering(answer).await;
        let came = wire.send(get("Host: a\r\nConnection: close")).await;
        assert!(
            came.starts_with("HTTP/1.1 502 ") && came.to_lowercase().ends_with("\r\n\r\nbad gateway"),
            "{answer:?}: {came:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_may_have_a_hundred_lines() {
    for (lines, status) in [(99, "200"), (100, "502")] {
        let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "X: 1\r\n".repeat(lines));
        let wire = Wire::answering(answer.leak()).await;
        let came = wire.send(get("Host: a\r\nConnection: close")).await;
        assert!(came.starts_with(&format!("HTTP/1.1 {status} ")), "{lines}: {came}");
        assert!(wire.pool.backends()[0].is_eligible());
    }
}

#[tokio::test]
async fn a_status_that_is_none_is_a_fault_of_the_backend() {
    let wire = Wire::answering("HTTP/1.1 600 What\r\nContent-Length: 2\r\n\r\nok").await;
    wire.send(get("Host: a\r\nConnection: close")).await;
    let backend = wire.pool.backends().remove(0);
    let load = backend.load();
    assert_eq!((load.count(Outcome::BackendFault), load.completed()), (1, 1), "{load:?}");
}

#[tokio::test]
async fn a_length_said_twice_is_said_once_and_without_zeros_before_it() {
    for lines in ["Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2, 2", "Content-Length: 02"] {
        let wire = Wire::answering(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nok").leak()).await;
        let answer = wire.send(get("Host: a\r\nConnection: close")).await;
        assert_eq!(header(&answer, "content-length"), ["2"], "{answer:?}");
    }
    for zero in ["0", "00"] {
        let wire = Wire::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {zero}\r\n\r\n").leak()).await;
        let answer = wire.send(get("Host: a\r\nConnection: close")).await;
        assert_eq!(header(&answer, "content-length"), ["0"], "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_arrives_whole() {
    for version in ["1.0", "1.1"] {
        let wire = Wire::answering(format!("HTTP/{version} 200 OK\r\nConnection: close\r\n\r\nhello").leak()).await;
        let answer = wire.send(get("Host: a\r\nConnection: close")).await;
        assert!(answer.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{answer:?}");
        let answer = wire.send("GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_of_1_0_is_not_told_of_another_request_where_only_the_end_ends_the_answer() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let keep_alive = |then: &str| format!("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n{then}");
    let answer = Wire::answering(CHUNKED).await.send(keep_alive("")).await;
    assert!(header(&answer, "connection").is_empty() && answer.ends_with("\r\n\r\nok"), "{answer:?}");
    // With a length, it goes on.
    let answer = Wire::answering(OK).await.send(keep_alive("GET / HTTP/1.0\r\n\r\n")).await;
    assert_eq!(header(&answer, "connection"), ["keep-alive"], "{answer:?}");
    assert_eq!(answer.matches("\r\n\r\nok").count(), 2, "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
    ] {
        let wire = Wire::answering(answer).await;
        let came = wire.send(get("Host: a\r\nConnection: close")).await;
        let length = header(&came, "content-length").first().map(|length| length.parse::<usize>().unwrap());
        let body = came.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let whole = length.map_or(body.ends_with("0\r\n\r\n"), |length| body.len() == length);
        assert!(came.starts_with("HTTP/1.1 502 ") || !whole, "{answer:?}: {came:?}");
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_are_nobodys_answer() {
    const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let wire = Wire::answering(format!("{OK}{SMUGGLED}").leak()).await;
    for _ in 0..5 {
        let answer = wire.send(get("Host: a\r\nConnection: close")).await;
        assert!(answer.ends_with("\r\n\r\nok"), "{answer:?}");
    }
    // Nor are those that come later, when nobody has asked.
    let late = |mut stream: TcpStream| async move {
        while wire::request(&mut stream).await.is_some() {
            _ = stream.write_all(OK.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            _ = stream.write_all(SMUGGLED.as_bytes()).await;
        }
    };
    let wire = Wire::handling(Limits::default(), late).await;
    for _ in 0..3 {
        let answer = wire.send(get("Host: a\r\nConnection: close")).await;
        assert!(answer.ends_with("\r\n\r\nok"), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

#[tokio::test]
async fn hop_by_hop_headers_of_an_answer_do_not_cross() {
    let wire = Wire::answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n\
         Upgrade: h2c\r\nProxy-Connection: x\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let mut stream = wire.connect().await;
    stream.write_all(get("Host: a").as_bytes()).await.unwrap();
    let answer = until(&mut stream, "ok").await;
    for hop in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade", "proxy-connection", "connection"] {
        assert!(header(&answer, hop).is_empty(), "{hop} crossed: {answer}");
    }
    assert_eq!(header(&answer, "x-end"), ["1"]);
}

// ---- whatever is sent

/// Requests, and pieces that make other requests of them.
const SEEDS: &[&str] = &[
    "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X\r\nUpgrade: websocket\r\nX: 1\r\n\r\n",
];
const PIECES: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "#",
    "5",
    "0",
    "\u{b}",
    "\u{e9}",
    "chunked",
    "Content-Length: 3\r\n",
    "Host: b\r\n",
    "Transfer-Encoding: chunked\r\n",
    "0\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "X: 1\r\n",
    " folded\r\n",
    "HTTP/1.0",
    "Connection: close, Host\r\n",
];

#[tokio::test]
async fn whatever_is_sent_what_arrives_is_a_request_that_can_be_read_in_one_way() {
    let wire = Wire::with(OK, Limits { head_time: Duration::from_secs(1), ..Limits::default() }, |proxy| proxy).await;
    let mut rng = tower_balancer::Rng::new(9112);
    for _ in 0..1_000 {
        let mut bytes = SEEDS[rng.below(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..=rng.below(3) {
            let (from, until) = (rng.below(bytes.len() + 1), rng.below(4));
            let until = bytes.len().min(from + until);
            let piece = if rng.below(4) > 0 { PIECES[rng.below(PIECES.len())].as_bytes() } else { b"" };
            bytes.splice(from..until, piece.iter().copied());
        }
        let mut stream = wire.connect().await;
        // In two parts, cut somewhere.
        let (first, second) = bytes.split_at(rng.below(bytes.len() + 1));
        _ = stream.write_all(first).await;
        tokio::task::yield_now().await;
        _ = stream.write_all(second).await;
        _ = stream.shutdown().await;
        let shown = String::from_utf8_lossy(&bytes);
        println!("{shown:?} {}", first.len());
        let answer = to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{shown:?}: {answer:?}");
        for seen in wire.seen() {
            let head = seen.split("\r\n\r\n").next().unwrap();
            assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']), "{shown:?}: {seen:?}");
            assert!(!head.split(' ').nth(1).unwrap().contains('#'), "{shown:?}: {seen:?}");
            let framed = header(&seen, "content-length").len() + header(&seen, "transfer-encoding").len();
            assert!(framed <= 1 && header(&seen, "host") == [wire.backend.to_string()], "{shown:?}: {seen:?}");
            assert!(
                head.lines().skip(1).all(|line| line.split_once(": ").is_some() || line.ends_with(':')),
                "{shown:?}: {seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_a_trailer_says_of_the_client_or_the_next_hop_does_not_pass() {
    let wire = Wire::answering(OK).await;
    let named = "X-Sum, X-Forwarded-For, X_Forwarded_For, Forwarded, X-Real-IP, Via, Connection, Proxy-Authorization";
    let lines = "X-Sum: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
                 X-Real-IP: 6.6.6.6\r\nVia: 1.1 evil\r\nConnection: close\r\nProxy-Authorization: evil\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: {named}\r\n\r\n\
         2\r\nhi\r\n0\r\n{lines}\r\n"
    );
    let seen = wire.passes(request).await;
    let (_, trailers) = seen.split_once("\r\n0\r\n").unwrap();
    assert_eq!(trailers.to_lowercase(), "x-sum: 1\r\n\r\n", "{seen}");
}
