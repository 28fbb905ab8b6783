//! TLS towards backends: real handshakes, with servers that are what they should be and with others.

mod common;
#[path = "common/tls.rs"]
mod tls;

use bytes::Bytes;
use common::{
    Server, answers_with,
    gateway::{ConfigFile, Gateway},
    says,
};
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tls::{Authority, Backend, Identity, Speaks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ProtocolVersion,
        version::{TLS12, TLS13},
    },
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::{BoxError, Layer, ServiceExt};
use tower_balancer::{
    BackendPool, HealthChecker, ReverseProxy,
    feedback::{Classify, Fault},
    health::Probe,
    http::{Client, ClientConfig, GrpcProbe, HttpClassify, HttpLoadProbe, HttpProbe, ReportLoadLayer, TlsConfig},
    probing::LoadProbe,
};

type Ours = Client<Full<Bytes>>;

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().ca(&authority.pem).unwrap()
}

/// With time for handshakes on a machine that has other things to do.
fn config() -> ClientConfig {
    ClientConfig::new().connect_timeout(Duration::from_secs(30))
}

async fn send(client: &Ours, url: &str) -> Result<String, BoxError> {
    let request = Request::get(url).body(Full::default()).unwrap();
    let answer = client.clone().oneshot(request).await?;
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

/// The innermost words.
fn words(error: &BoxError) -> String {
    let mut error: &dyn std::error::Error = &**error;
    let mut words = error.to_string();
    while let Some(source) = error.source() {
        error = source;
        words = format!("{words}: {error}");
    }
    words
}

fn fault(error: &BoxError) -> Fault {
    Classify::<Response<()>>::error(&HttpClassify, &**error)
}

/// What a request asked for, as the backend saw it.
async fn mirror(speaks: &Speaks<'_>) -> Backend {
    let service = answers_with(|request: Request<axum::body::Body>| async move {
        let host = request.headers().get("host").map_or("", |host| host.to_str().unwrap());
        let text = format!("{:?} {} {} host={host}", request.version(), request.method(), request.uri());
        Response::new(Full::<Bytes>::from(text))
    });
    Backend::serving(speaks, service).await
}

// ---- who is trusted

#[tokio::test]
async fn a_backend_is_known_by_the_name_or_the_address_in_its_url() {
    let authority = Authority::new();
    for (name, asked_for) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let backend = Backend::serving(&Speaks::as_(authority.signs(name)), says("yes")).await;
        let client: Ours = config().tls(trusting(&authority)).build();
        assert_eq!(send(&client, &backend.url(name)).await.unwrap(), "yes");
        let seen = backend.handshakes().remove(0);
        assert_eq!(
            (seen.version, seen.asked_for.as_deref(), seen.protocol.as_deref(), seen.identified),
            (ProtocolVersion::TLSv1_3, asked_for, Some("http/1.1"), false)
        );
    }
}

#[tokio::test]
async fn one_that_is_not_who_it_should_be_is_one_that_cannot_be_reached() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let expired = ours.signs_with("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let unborn = ours.signs_with("localhost", |params| params.not_before = rcgen::date_time_ymd(3001, 1, 1));
    for (identity, expected) in [
        (ours.signs("other.example"), "certificate not valid for name \"localhost\""),
        (theirs.signs("localhost"), "UnknownIssuer"),
        (expired, "certificate expired"),
        (unborn, "certificate not valid yet"),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let service = answers_with(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Response::new(Full::<Bytes>::default()) }
        });
        let bad = Backend::serving(&Speaks::as_(identity), service).await;
        let client: Ours = config().tls(trusting(&ours)).build();
        let error = send(&client, &bad.url("localhost")).await.unwrap_err();
        assert!(words(&error).contains(expected), "{}", words(&error));
        assert_eq!(fault(&error), Fault::CONNECT);

        // Nothing was sent, so that even what must not be sent twice goes elsewhere; and the client is told nothing of it.
        let good = Backend::serving(&Speaks::as_(ours.signs("localhost")), says("good")).await;
        let pool = BackendPool::new([bad.url("localhost"), good.url("localhost")]).unwrap();
        let proxy = ReverseProxy::builder(&pool).client(config().tls(trusting(&ours))).build();
        for _ in 0..4 {
            let request = Request::post("/").body(Full::<Bytes>::from("once")).unwrap();
            let answer = proxy.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        let health = pool.backends()[0].health();
        assert!(health.cause().unwrap().contains(expected), "{:?}", health.cause());

        let pool = BackendPool::new([bad.url("localhost")]).unwrap();
        let proxy = ReverseProxy::builder(&pool).client(config().tls(trusting(&ours))).build();
        let answer = proxy.oneshot(Request::new(Full::<Bytes>::default())).await.unwrap();
        assert_eq!(answer.status(), 502);
        let told = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&told).contains("ertificate"), "{told:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn whom_nobody_was_named_for_the_system_trusts_or_not() {
    let backend = Backend::serving(&Speaks::as_(Authority::new().signs("localhost")), says("yes")).await;
    let client: Ours = config().build();
    let error = send(&client, &backend.url("localhost")).await.unwrap_err();
    // Where the system has no roots at all, that is what is said.
    assert!(words(&error).contains("UnknownIssuer") || words(&error).contains("of the system"), "{}", words(&error));
    assert_eq!(fault(&error), Fault::CONNECT);
}

#[tokio::test]
async fn a_name_of_its_own_is_expected_and_asked_for() {
    let authority = Authority::new();
    let backend = mirror(&Speaks::as_(authority.signs("backends.internal"))).await;
    let tls = trusting(&authority).server_name("backends.internal").unwrap();
    let client: Ours = config().tls(tls).build();
    let seen = send(&client, &backend.url("127.0.0.1")).await.unwrap();
    // Who is meant by the request stays what it was.
    assert_eq!(seen, format!("HTTP/1.1 GET / host=127.0.0.1:{}", backend.port()));
    assert_eq!(backend.handshakes()[0].asked_for.as_deref(), Some("backends.internal"));
}

// ---- who we are

#[tokio::test]
async fn a_backend_that_wants_a_certificate_gets_ours_and_takes_no_other() {
    let (authority, clients) = (Authority::new(), Authority::new());
    for version in [&TLS13, &TLS12] {
        for config in [config(), config().http2(), config().auto()] {
            let identity = authority.signs("localhost");
            let speaks = Speaks { versions: &[version], clients_of: Some(&clients), ..Speaks::as_(identity) };
            let backend = Backend::serving(&speaks, says("welcome")).await;
            let Identity { chain, key } = clients.signs("gateway");
            let tls = trusting(&authority).identity(chain, key).unwrap();
            let client: Ours = config.clone().tls(tls).build();
            assert_eq!(send(&client, &backend.url("localhost")).await.unwrap(), "welcome");
            assert!(backend.handshakes()[0].identified);

            let stranger = Authority::new().signs("gateway");
            let strange = trusting(&authority).identity(stranger.chain, stranger.key).unwrap();
            for tls in [trusting(&authority), strange] {
                let client: Ours = config.clone().tls(tls).build();
                let error = send(&client, &backend.url("localhost")).await.unwrap_err();
                assert!(words(&error).contains("received fatal alert: "), "{version:?}: {}", words(&error));
                assert_eq!(fault(&error), Fault::CONNECT, "{version:?} {config:?}: {error:?}");
            }
            assert_eq!(backend.handshakes(), []);
        }
    }
}

// ---- what is spoken

#[tokio::test]
async fn both_sides_agree_on_a_protocol_or_there_is_no_connection() {
    let authority = Authority::new();
    let (http1, http2, auto) = (config(), config().http2(), config().auto());
    let (both, one, two) = (["h2", "http/1.1"], ["http/1.1"], ["h2"]);
    for (protocols, config, expected) in [
        (&both[..], &http1, Some("HTTP/1.1")),
        (&both, &http2, Some("HTTP/2.0")),
        (&both, &auto, Some("HTTP/2.0")),
        (&one, &http1, Some("HTTP/1.1")),
        (&one, &http2, None),
        (&one, &auto, Some("HTTP/1.1")),
        (&two, &http1, None),
        (&two, &http2, Some("HTTP/2.0")),
        (&two, &auto, Some("HTTP/2.0")),
        (&[], &http1, Some("HTTP/1.1")),
        (&[], &http2, None),
        (&[], &auto, Some("HTTP/1.1")),
    ] {
        let backend = mirror(&Speaks { protocols, ..Speaks::as_(authority.signs("localhost")) }).await;
        let client: Ours = config.clone().tls(trusting(&authority)).build();
        let url = format!("{}/a?b", backend.url("localhost"));
        let host = format!("localhost:{}", backend.port());
        for _ in 0..2 {
            let answer = send(&client, &url).await;
            match expected {
                Some("HTTP/1.1") => assert_eq!(answer.unwrap(), format!("HTTP/1.1 GET /a?b host={host}")),
                Some(_) => assert_eq!(answer.unwrap(), format!("HTTP/2.0 GET {url} host=")),
                None => assert_eq!(fault(&answer.unwrap_err()), Fault::CONNECT, "{protocols:?} {config:?}"),
            }
        }
        assert!(backend.handshakes().len() <= 1, "{protocols:?} {config:?}: it was not kept");
    }
}

#[tokio::test]
async fn many_at_once_to_one_that_may_choose_are_all_answered() {
    let authority = Authority::new();
    for (protocols, connections) in [(&["h2"][..], 1..=1), (&["http/1.1"], 1..=51)] {
        let backend = mirror(&Speaks { protocols, ..Speaks::as_(authority.signs("localhost")) }).await;
        let client: Ours = config().auto().tls(trusting(&authority)).build();
        let url = backend.url("localhost");
        let all = futures_util::future::join_all((0..50).map(|_| send(&client, &url))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        let opened = backend.handshakes().len();
        assert!(connections.contains(&opened), "{protocols:?}: {opened}");
        // In turn, one does.
        for _ in 0..5 {
            send(&client, &url).await.unwrap();
        }
        assert_eq!(backend.handshakes(), []);
    }
}

#[tokio::test]
async fn in_the_clear_a_choice_is_http1() {
    let server = Server::http(answers_with(|request: Request<axum::body::Body>| async move {
        Response::new(Full::<Bytes>::from(format!("{:?}", request.version())))
    }))
    .await;
    let client: Ours = config().auto().build();
    assert_eq!(send(&client, &server.url()).await.unwrap(), "HTTP/1.1");
}

#[tokio::test]
async fn the_same_authority_with_and_without_tls_is_two_backends() {
    let authority = Authority::new();
    let backend = Backend::serving(&Speaks::as_(authority.signs("localhost")), says("yes")).await;
    let client: Ours = config().tls(trusting(&authority)).build();
    assert_eq!(send(&client, &backend.url("localhost")).await.unwrap(), "yes");
    assert!(send(&client, &backend.url("localhost").replace("https", "http")).await.is_err());
    assert_eq!(send(&client, &backend.url("localhost")).await.unwrap(), "yes");
}

// ---- sessions and time

#[tokio::test]
async fn a_second_connection_resumes_the_session_of_the_first() {
    let authority = Authority::new();
    for (version, named) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let speaks = Speaks { versions: &[version], ..Speaks::as_(authority.signs("localhost")) };
        let service = answers_with(|_| async {
            Response::builder().header("connection", "close").body(Full::<Bytes>::from("yes")).unwrap()
        });
        let backend = Backend::serving(&speaks, service).await;
        let client: Ours = config().tls(trusting(&authority)).build();
        for resumed in [false, true, true] {
            send(&client, &backend.url("localhost")).await.unwrap();
            let seen = backend.handshakes().remove(0);
            assert_eq!((seen.version, seen.resumed), (named, resumed));
        }
        // Another client has sessions of its own.
        let other: Ours = config().tls(trusting(&authority)).build();
        send(&other, &backend.url("localhost")).await.unwrap();
        assert!(!backend.handshakes()[0].resumed);
    }
}

#[tokio::test]
async fn one_that_does_not_speak_tls_or_not_in_time_cannot_be_reached() {
    let silent = Server::raw(|mut stream| async move {
        _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let plain = Server::http(says("hello")).await;
    let authority = Authority::new();
    let hasty = config().connect_timeout(Duration::from_millis(100));
    for (server, config, expected) in
        [(silent, hasty, "no TLS within 100ms"), (plain, config(), "received corrupt message")]
    {
        let client: Ours = config.tls(trusting(&authority)).build();
        let error = send(&client, &server.url().replace("http:", "https:")).await.unwrap_err();
        assert!(words(&error).contains(expected), "{}", words(&error));
        assert_eq!(fault(&error), Fault::CONNECT);
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_not_taken_for_whole() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::from(Arc::new(Speaks::as_(authority.signs("localhost")).config()));
    for ends in [true, false] {
        let acceptor = acceptor.clone();
        let server = Server::raw(move |stream| {
            let accepting = acceptor.accept(stream);
            async move {
                let mut stream = accepting.await.unwrap();
                _ = stream.read(&mut [0; 1024]).await;
                // Its length is what comes before the end.
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
                stream.flush().await.unwrap();
                if ends {
                    stream.shutdown().await.unwrap();
                }
                // Else anybody on the way may have ended it.
            }
        })
        .await;
        let client: Ours = config().tls(trusting(&authority)).build();
        let answer = send(&client, &format!("https://localhost:{}", server.address.port())).await;
        assert_eq!(answer.is_ok(), ends, "{answer:?}");
    }
}

/// A server of openssl's, which is stopped when this is dropped.
struct Openssl(Child);

impl Drop for Openssl {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[tokio::test]
async fn versions_before_1_2_are_not_spoken() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: there is no openssl to be a server of TLS 1.1");
        return;
    }
    let authority = Authority::new();
    let files = Files::new("old");
    files.write("server", &authority.signs("localhost"));
    let port = common::gateway::free_port();
    let serve = |version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-quiet", version, "-cipher", "ALL:@SECLEVEL=0"]);
        command.args(["-accept", &format!("127.0.0.1:{port}"), "-cert", &files.path("server.pem")]);
        command.args(["-key", &files.path("server.key")]).stdout(Stdio::null()).stderr(Stdio::null());
        Openssl(command.spawn().unwrap())
    };
    let client: Ours = config().tls(trusting(&authority)).build();
    let ask = async || send(&client, &format!("https://localhost:{port}")).await;
    // The same server is reached with a version that is spoken.
    let modern = serve("-tls1_2");
    common::until(async || ask().await.is_ok()).await;
    drop(modern);
    let _old = serve("-tls1_1");
    common::until(async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    let error = ask().await.unwrap_err();
    assert!(words(&error).contains("received fatal alert: ProtocolVersion"), "{}", words(&error));
    assert_eq!(fault(&error), Fault::CONNECT);
}

// ---- what goes over it

#[tokio::test]
async fn a_grpc_call_ends_with_its_trailers() {
    let authority = Authority::new();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Orders", tonic_health::ServingStatus::Serving).await;
    for protocols in [&["h2"][..], &["h2", "http/1.1"]] {
        let speaks = Speaks { protocols, ..Speaks::as_(authority.signs("localhost")) };
        let backend = Backend::serving(&speaks, service.clone()).await;
        let pool = BackendPool::new([backend.url("localhost")]).unwrap();
        let config = config().auto().tls(trusting(&authority));
        let proxy = ReverseProxy::builder(&pool).client(config).build();
        let mut health = HealthClient::with_origin(proxy, "http://front".parse().unwrap());
        let ask = |service: &str| HealthCheckRequest { service: service.into() };
        let reply = health.check(ask("shop.Orders")).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving);
        let status = health.check(ask("nobody")).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::NotFound);
        // A stream that does not end.
        let mut watch = health.watch(ask("shop.Orders")).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        assert_eq!(backend.handshakes().len(), 1);
    }
}

#[tokio::test]
async fn websocket_goes_through_also_where_others_go_over_http2() {
    let authority = Authority::new();
    let service = answers_with(|mut request: Request<axum::body::Body>| async move {
        if request.headers().get("upgrade").is_none_or(|protocol| protocol != "websocket") {
            return Response::new(Full::<Bytes>::from(format!("{:?}", request.version())));
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let stream = TokioIo::new(upgrade.await.unwrap());
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            let (mut out, mut back) = socket.split();
            while let Some(Ok(message)) = back.next().await {
                if message.is_binary() && out.send(message).await.is_err() {
                    return;
                }
            }
        });
        let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
        let key = request.headers()["sec-websocket-key"].as_bytes();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key);
        answer.header("sec-websocket-accept", accept).body(Full::default()).unwrap()
    });
    let backend = Backend::serving(&Speaks::as_(authority.signs("localhost")), service).await;
    let pool = BackendPool::new([backend.url("localhost")]).unwrap();
    let config = config().auto().tls(trusting(&authority));
    let proxy = ReverseProxy::builder(&pool).client(config).build();
    let front = Server::raw(move |stream| {
        let service = hyper_util::service::TowerToHyperService::new(proxy.clone());
        async move {
            let server = hyper::server::conn::http1::Builder::new();
            _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        }
    })
    .await;
    let (status, body) = common::get(front.url()).await;
    assert_eq!((status, &*body), (200, "HTTP/2.0"));
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/", front.address)).await.unwrap();
    for length in [0, 125, 65_536, 1_000_000] {
        let message = Message::binary(vec![7; length]);
        socket.send(message.clone()).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap() == message, "{length} bytes were changed");
    }
    let protocols: Vec<_> = backend.handshakes().into_iter().filter_map(|seen| seen.protocol).collect();
    assert_eq!(protocols, ["h2", "http/1.1"]);
}

#[tokio::test]
async fn who_asks_to_switch_takes_nobody_out_that_has_http2_alone() {
    let authority = Authority::new();
    let backend = mirror(&Speaks { protocols: &["h2"], ..Speaks::as_(authority.signs("localhost")) }).await;
    let pool = BackendPool::new([backend.url("localhost")]).unwrap();
    let config = config().auto().tls(trusting(&authority));
    let client: Ours = config.build();
    let asks = Request::get(backend.url("localhost")).header("connection", "upgrade").header("upgrade", "websocket");
    let answer = client.oneshot(asks.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_takes_the_form_of_what_is_spoken() {
    let authority = Authority::new();
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let service = answers_with(|request: Request<axum::body::Body>| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Full::<Bytes>::from(body))
        });
        let speaks = Speaks { protocols, ..Speaks::as_(authority.signs("localhost")) };
        let backend = Backend::serving(&speaks, service).await;
        let client: Client<axum::body::Body> = config().auto().tls(trusting(&authority)).build();
        for method in [Method::GET, Method::POST] {
            let pieces = futures_util::stream::iter(["a", "b"].map(Ok::<_, std::io::Error>));
            let request = Request::builder().method(method).uri(backend.url("localhost"));
            let request = request.body(axum::body::Body::from_stream(pieces)).unwrap();
            let answer = client.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ab", "{protocols:?}");
        }
    }
}

// ---- probes

#[tokio::test]
async fn probes_see_what_requests_see() {
    let authority = Authority::new();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let web = Backend::serving(&Speaks::as_(authority.signs("localhost")), says("well")).await;
    let grpc = Backend::serving(&Speaks::as_(authority.signs("localhost")), service).await;
    let at = |backend: &Backend, host: &str| backend.url(host).parse().unwrap();

    let (http, health) = (HttpProbe::new().tls(trusting(&authority)), GrpcProbe::new().tls(trusting(&authority)));
    assert_eq!(http.check(at(&web, "localhost")).await.unwrap(), "status: 200");
    assert_eq!(health.check(at(&grpc, "localhost")).await.unwrap(), "SERVING");
    for seen in [web.handshakes(), grpc.handshakes()] {
        assert!(!seen[0].resumed);
    }
    // Each handshake is a whole one, so that a certificate that has expired is noticed.
    http.check(at(&web, "localhost")).await.unwrap();
    assert!(!web.handshakes()[0].resumed);

    let reporting = ReportLoadLayer::new().utilization(|| 0.5).layer(says("busy"));
    let reporting = Backend::serving(&Speaks::as_(authority.signs("localhost")), reporting).await;
    let load = HttpLoadProbe::new("/".parse().unwrap()).tls(trusting(&authority));
    assert!(load.ask(at(&reporting, "localhost")).await.is_ok());
    assert!(load.ask(at(&reporting, "127.0.0.1")).await.is_err());

    // They speak what requests speak, as far as the backend lets them.
    for (protocols, http1, http2, auto) in
        [(&["h2"][..], false, true, true), (&["http/1.1"], true, false, true), (&["h2", "http/1.1"], true, true, true)]
    {
        let speaks = Speaks { protocols, ..Speaks::as_(authority.signs("localhost")) };
        let backend = Backend::serving(&speaks, says("well")).await;
        for (probe, well) in [(http.clone(), http1), (http.clone().http2(), http2), (http.clone().auto(), auto)] {
            assert_eq!(probe.check(at(&backend, "localhost")).await.is_ok(), well, "{protocols:?} {probe:?}");
        }
        let last = backend.handshakes().pop().unwrap().protocol;
        assert_eq!(last.as_deref(), Some(protocols[0]));
    }

    let error = http.check(at(&web, "127.0.0.1")).await.unwrap_err();
    assert!(error.to_string().contains("certificate not valid for name"), "{error}");
    let pool = BackendPool::new([web.url("127.0.0.1"), grpc.url("127.0.0.1")]).unwrap();
    HealthChecker::new(&pool, GrpcProbe::new().tls(trusting(&authority))).check_all().await;
    for backend in pool.backends() {
        assert!(backend.health().cause().unwrap().contains("certificate not valid for name"));
    }
}

// ---- the gateway

/// A directory that goes when this does.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tower-balancer-upstream-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, identity: &Identity) {
        fs::write(self.0.join(format!("{name}.pem")), &identity.chain).unwrap();
        fs::write(self.0.join(format!("{name}.key")), &identity.key).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A gateway over TLS on both sides, and whom its clients and it trust.
struct Both {
    files: Files,
    front: Authority,
    back: Authority,
}

impl Both {
    fn new(name: &str) -> Self {
        let (files, front, back) = (Files::new(name), Authority::new(), Authority::new());
        files.write("front", &front.signs("127.0.0.1"));
        fs::write(files.path("ca.pem"), &back.pem).unwrap();
        Self { files, front, back }
    }

    fn gateway(&self, checked_by: &str, backend: &str, more: &str) -> (Gateway, ConfigFile) {
        let path = |name| self.files.path(name);
        let file = ConfigFile::new(&format!(
            "[server]\ntls = {{ cert = {:?}, key = {:?} }}\n[pools.web]\nbackends = [{backend:?}]\n\
             health = {{ kind = {checked_by:?}, interval = \"100ms\", timeout = \"10s\" }}\n\
             upstream = {{ protocol = \"auto\", connect_timeout = \"30s\", tls = {{ ca = {:?}, {more} }} }}\n",
            path("front.pem"),
            path("front.key"),
            path("ca.pem"),
        ));
        (Gateway::by(&file), file)
    }

    fn client(&self) -> Ours {
        config().auto().tls(trusting(&self.front)).build()
    }
}

async fn status(client: &Ours, url: &str) -> u16 {
    let request = Request::get(url).body(Full::default()).unwrap();
    client.clone().oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_speaks_tls_on_both_sides_and_says_who_it_is() {
    let both = Both::new("both");
    both.files.write("client", &both.back.signs("gateway"));
    let speaks = Speaks { clients_of: Some(&both.back), ..Speaks::as_(both.back.signs("backends.internal")) };
    let backend = mirror(&speaks).await;
    let (cert, key) = (both.files.path("client.pem"), both.files.path("client.key"));
    let more = format!("server_name = \"backends.internal\", cert = {cert:?}, key = {key:?}");
    let (gateway, _file) = both.gateway("http", &backend.url("127.0.0.1"), &more);
    gateway.line("HEALTH: HEALTHY");
    let url = gateway.url.replace("http:", "https:");
    let seen = send(&both.client(), &url).await.unwrap();
    assert!(seen.starts_with("HTTP/2.0 GET https://127.0.0.1"), "{seen}");
    let handshakes = backend.handshakes();
    assert!(handshakes.iter().all(|seen| seen.identified && seen.asked_for.as_deref() == Some("backends.internal")));
    assert!(handshakes.iter().any(|seen| seen.protocol.as_deref() == Some("h2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_passes_grpc_from_tls_to_tls() {
    let both = Both::new("grpc");
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.Orders", tonic_health::ServingStatus::Serving).await;
    let backend = Backend::serving(&Speaks::as_(both.back.signs("localhost")), service).await;
    let (gateway, _file) = both.gateway("grpc", &backend.url("localhost"), "");
    gateway.line("HEALTH: HEALTHY");
    let client: Client<tonic::body::Body> = config().http2().tls(trusting(&both.front)).build();
    let front = gateway.url.replace("http:", "https:").parse().unwrap();
    let mut health = HealthClient::with_origin(client, front);
    let ask = |service: &str| HealthCheckRequest { service: service.into() };
    let reply = health.check(ask("shop.Orders")).await.unwrap().into_inner();
    assert_eq!(reply.status(), ServingStatus::Serving);
    assert_eq!(health.check(ask("nobody")).await.unwrap_err().code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_trusts_another_authority_when_it_is_told_to_read_its_files_again() {
    let both = Both::new("reload");
    let backend = Backend::serving(&Speaks::as_(both.back.signs("localhost")), says("yes")).await;
    let (gateway, _file) = both.gateway("http", &backend.url("localhost"), "");
    let (client, url) = (both.client(), gateway.url.replace("http:", "https:"));
    assert_eq!(status(&client, &url).await, 200);

    fs::write(both.files.path("ca.pem"), "nothing").unwrap();
    gateway.signal("-HUP");
    let problem = gateway.line("ERROR: Configuration not reloaded");
    assert!(problem.contains("pools.web.upstream.tls.ca: ") && problem.contains("invalid CA"), "{problem}");
    assert_eq!(status(&client, &url).await, 200);

    fs::write(both.files.path("ca.pem"), Authority::new().pem).unwrap();
    gateway.signal("-HUP");
    gateway.line("INFO: Configuration reloaded");
    gateway.line("HEALTH: UNHEALTHY");
    let refused = status(&client, &url).await;
    assert!(refused == 502 || refused == 503, "{refused}");

    fs::write(both.files.path("ca.pem"), &both.back.pem).unwrap();
    gateway.signal("-HUP");
    gateway.line("INFO: Configuration reloaded");
    common::until(async || status(&client, &url).await == 200).await;
}
