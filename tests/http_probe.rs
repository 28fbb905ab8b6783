//! What an HTTP probe asks, and what it takes for well, over real sockets.

mod common;

use common::{Server, answers_with};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_balancer::{backend::Origin, health::Probe, http::HttpProbe};

async fn ask(server: &Server, probe: HttpProbe) -> Result<String, String> {
    probe.check(server.url().parse().unwrap()).await.map_err(|error| error.to_string())
}

/// Answers with `status` and `body`.
async fn server(status: u16, body: impl Into<bytes::Bytes>) -> Server {
    let body = body.into();
    let answer = move |_: Request<axum::body::Body>| {
        let body = Full::<bytes::Bytes>::from(body.clone());
        async move { Response::builder().status(status).body(body).unwrap() }
    };
    Server::http(answers_with(answer)).await
}

/// Answers each connection with `bytes`, whatever it says, and leaves it open.
async fn raw(bytes: impl Into<Vec<u8>>) -> Server {
    let bytes: Arc<[u8]> = bytes.into().into();
    Server::raw(move |mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            _ = stream.read(&mut [0; 1024]).await;
            _ = stream.write_all(&bytes).await;
            std::future::pending().await
        }
    })
    .await
}

#[tokio::test]
async fn it_asks_what_it_is_told_to() {
    let asked = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&asked);
    let server = Server::http(answers_with(move |request| {
        let (head, _) = request.into_parts();
        let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        *seen.lock().unwrap() =
            Some((head.method.clone(), head.uri.to_string(), text("host"), text("user-agent"), text("x-mine")));
        async { Response::new(Full::<bytes::Bytes>::default()) }
    }))
    .await;
    let mine = HeaderName::from_static("x-mine");

    ask(&server, HttpProbe::new()).await.unwrap();
    let host = server.address.to_string();
    let agent = Some("tower-balancer health check".to_owned());
    assert_eq!(asked.lock().unwrap().take().unwrap(), (Method::GET, "/".into(), Some(host), agent.clone(), None));

    let probe = HttpProbe::new()
        .method(Method::HEAD)
        .path("/health?deep=%2F".parse().unwrap())
        .host(HeaderValue::from_static("shop.example"))
        .header(mine.clone(), HeaderValue::from_static("1"))
        .header(mine, HeaderValue::from_static("2"));
    ask(&server, probe).await.unwrap();
    let (host, mine) = (Some("shop.example".into()), Some("2".into()));
    assert_eq!(asked.lock().unwrap().take().unwrap(), (Method::HEAD, "/health?deep=%2F".into(), host, agent, mine));

    // Another port of the same host.
    let target: Origin = "http://127.0.0.1:1".parse().unwrap();
    HttpProbe::new().port(server.address.port()).check(target).await.unwrap();
    assert_eq!(asked.lock().unwrap().take().unwrap().2, Some(server.address.to_string()));
}

#[tokio::test]
async fn it_expects_the_statuses_it_is_told_to() {
    for (status, by_default, told) in
        [(200, true, true), (204, true, false), (301, false, true), (429, false, true), (503, false, false)]
    {
        let server = server(status, "").await;
        assert_eq!(ask(&server, HttpProbe::new()).await.is_ok(), by_default, "{status}");
        let probe = HttpProbe::new().status(200..=200).status(300..=399).status(429..=429);
        let answer = ask(&server, probe).await;
        let words = format!("status: {status}");
        assert_eq!(answer, if told { Ok(words) } else { Err(words) });
    }
}

#[tokio::test]
async fn it_looks_for_what_must_be_in_the_body() {
    let ready = server(200, "{\"ready\":true}").await;
    let probe = |text: &'static str| HttpProbe::new().body_contains(text);
    assert_eq!(ask(&ready, probe("\"ready\":true")).await.as_deref(), Ok("status: 200"));
    assert_eq!(ask(&ready, probe("")).await.as_deref(), Ok("status: 200"));
    assert_eq!(ask(&ready, probe("READY")).await.unwrap_err(), "status: 200, without \"READY\" in its body");
    assert_eq!(ask(&server(500, "ready").await, probe("ready")).await.unwrap_err(), "status: 500");
    assert!(ask(&server(200, "").await, probe("ready")).await.is_err());

    // In the first 64 KiB, wherever the pieces end.
    let long = |before: usize| server(200, "-".repeat(before) + "ready");
    assert!(ask(&long(65_531).await, probe("ready")).await.is_ok());
    assert!(ask(&long(65_532).await, probe("ready")).await.is_err());
    let pieces = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n-re\r\n1\r\na\r\n2\r\ndy\r\n";
    let endless = raw(pieces).await;
    assert_eq!(ask(&endless, probe("ready")).await.as_deref(), Ok("status: 200"), "the rest is not waited for");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure_with_its_cause() {
    let short = Server::raw(|mut stream| async move {
        _ = stream.read(&mut [0; 1024]).await;
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nready").await;
    })
    .await;
    assert_eq!(ask(&short, HttpProbe::new()).await.as_deref(), Ok("status: 200"), "the body does not matter");
    assert_eq!(ask(&short, HttpProbe::new().body_contains("ready")).await.as_deref(), Ok("status: 200"));
    assert!(ask(&short, HttpProbe::new().body_contains("well")).await.is_err());

    let closed = Server::raw(|stream| async move { drop(stream) }).await;
    assert!(ask(&closed, HttpProbe::new()).await.is_err());
}

/// Speaks HTTP/2 alone, and answers with what it was asked for.
async fn http2_alone(body: &'static [u8]) -> (Server, Arc<Mutex<Vec<Request<()>>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let server = Server::raw(move |stream| {
        let seen = Arc::clone(&seen);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                seen.lock().unwrap().push(request.map(drop));
                let mut body_to = respond.send_response(Response::new(()), false).unwrap();
                body_to.send_data(bytes::Bytes::from_static(body), true).unwrap();
            }
        }
    })
    .await;
    (server, asked)
}

#[tokio::test]
async fn it_speaks_what_it_is_told_to() {
    let (server, asked) = http2_alone(b"ready").await;
    for probe in [HttpProbe::new(), HttpProbe::new().auto()] {
        assert!(ask(&server, probe).await.is_err(), "nobody says what it likes");
    }
    let probe = HttpProbe::new().http2().path("/health?deep=%2F".parse().unwrap());
    assert_eq!(ask(&server, probe.clone()).await.as_deref(), Ok("status: 200"));
    let probe = probe.method(Method::HEAD).host(HeaderValue::from_static("shop.example:80"));
    assert_eq!(ask(&server, probe.status(200..=200)).await.as_deref(), Ok("status: 200"));
    let elsewhere: Origin = "http://127.0.0.1:1".parse().unwrap();
    HttpProbe::new().http2().port(server.address.port()).check(elsewhere).await.unwrap();
    let asked: Vec<_> = std::mem::take(&mut *asked.lock().unwrap());
    let asked: Vec<_> = asked.iter().map(|request| (request.method().as_str(), request.uri().to_string())).collect();
    let at = |authority: &str, path: &str| format!("http://{authority}{path}");
    let own = server.address.to_string();
    let expected = [
        ("GET", at(&own, "/health?deep=%2F")),
        ("HEAD", at("shop.example:80", "/health?deep=%2F")),
        ("GET", at(&own, "/")),
    ];
    assert_eq!(asked, expected);

    // Who does not speak it is not well.
    let (http1, broken) = (server_of_http1().await, raw("what is this?\r\n").await);
    assert_eq!(ask(&http1, HttpProbe::new().auto()).await.as_deref(), Ok("status: 200"));
    for server in [&http1, &broken] {
        assert!(ask(server, HttpProbe::new().http2()).await.is_err());
    }
}

async fn server_of_http1() -> Server {
    raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await
}

#[tokio::test]
async fn over_http2_it_looks_as_far_into_the_body() {
    const LONG: &[u8] = &{
        let mut body = [b'-'; 65_536];
        (body[65_531], body[65_532], body[65_533], body[65_534], body[65_535]) = (b'r', b'e', b'a', b'd', b'y');
        body
    };
    let probe = |text: &'static str| HttpProbe::new().http2().body_contains(text);
    // It is more than what may be sent before somebody has read some of it.
    let (long, _) = http2_alone(LONG).await;
    assert_eq!(ask(&long, probe("ready")).await.as_deref(), Ok("status: 200"));
    assert_eq!(ask(&long, probe("READY")).await.unwrap_err(), "status: 200, without \"READY\" in its body");
}
