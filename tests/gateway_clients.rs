//! The side of the clients: where a request goes, who asks, and how long nobody is waited for. By files, with the real binary.

mod common;

use bytes::Bytes;
use common::{
    Server, answers_with,
    gateway::{ConfigFile, Gateway, binary, free_port},
    get, says, send,
};
use http::{Request, header};
use http_body_util::Full;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};
use tower::ServiceExt;

/// A request of `GET path` for `host`.
async fn get_of(gateway: &Gateway, host: &str, path: &str) -> (u16, String) {
    let request = Request::get(format!("{}{path}", gateway.url)).header(header::HOST, host);
    send(request.body(Full::default()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_route_wins_and_none_is_a_404() {
    let names = ["any", "api", "deep", "shop", "below", "far"];
    let mut servers = Vec::new();
    let mut pools = String::new();
    for name in names {
        let server = Server::http(says(name)).await;
        pools += &format!("[pools.{name}]\nbackends = [\"{}\"]\nhealth = \"off\"\n", server.url());
        servers.push(server);
    }
    let file = ConfigFile::new(&format!(
        r#"{pools}
        [[routes]]
        path_prefix = "/"
        host = "example.com"
        pool = "any"
        [[routes]]
        path_prefix = "/api/"
        pool = "api"
        [[routes]]
        path_prefix = "/api/deep"
        pool = "deep"
        [[routes]]
        host = "Shop.example.com"
        pool = "shop"
        [[routes]]
        host = "*.example.com"
        pool = "below"
        [[routes]]
        host = "*.far.example.com"
        path_prefix = "/api"
        pool = "far"
        "#
    ));
    let gateway = Gateway::by(&file);
    for (host, path, pool) in [
        ("example.com", "/", "any"),
        ("EXAMPLE.com:8080", "/x?y", "any"),
        ("example.com.", "/", "any"),
        // By host before by path.
        ("example.com", "/api/x", "any"),
        ("other.org", "/api", "api"),
        ("other.org", "/api?x", "api"),
        ("other.org", "/api/x", "api"),
        ("other.org", "/api/deep", "deep"),
        ("other.org", "/api/deep/er", "deep"),
        ("other.org", "/api/deeper", "api"),
        ("shop.example.com", "/api/deep", "shop"),
        ("a.example.com", "/", "below"),
        ("a.b.example.com", "/", "below"),
        ("a.far.example.com:1", "/api", "far"),
        ("a.far.example.com", "/", "below"),
    ] {
        assert_eq!(get_of(&gateway, host, path).await, (200, pool.to_owned()), "{host}{path}");
    }
    for (host, path) in
        [("other.org", "/"), ("other.org", "/apis"), ("notexample.com", "/"), ("xample.com", "/"), ("com", "/")]
    {
        assert_eq!(get_of(&gateway, host, path).await, (404, "Not found".to_owned()), "{host}{path}");
    }
    // Whoever refuses a CONNECT, what follows is no request.
    let address = gateway.url.strip_prefix("http://").unwrap().to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let follows = "GET /api HTTP/1.1\r\nHost: a\r\n\r\n";
        write!(stream, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n{follows}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("\r\n\r\nNot found"), "{answer}");
    // HTTP/2 has the name in :authority.
    let request = Request::get(format!("{}/api", gateway.url)).body(Full::<Bytes>::default()).unwrap();
    let h2 = tower_balancer::http::ClientConfig::new().http2().build();
    let response = h2.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_found_by_the_path_that_the_backend_gets() {
    let tells = |name: &'static str| {
        answers_with(move |request| async move {
            let target = request.uri().path_and_query().map_or("", |target| target.as_str());
            http::Response::new(Full::<Bytes>::from(format!("{name} {target}")))
        })
    };
    let (any, api) = (Server::http(tells("any")).await, Server::http(tells("api")).await);
    let file = ConfigFile::new(&format!(
        "[pools.any]\nbackends = [{:?}]\nhealth = \"off\"\n[pools.api]\nbackends = [{:?}]\nhealth = \"off\"\n\
         [[routes]]\npath_prefix = \"/api\"\npool = \"api\"\n[[routes]]\npool = \"any\"",
        any.url(),
        api.url()
    ));
    let gateway = Gateway::by(&file);
    let address: SocketAddr = gateway.url.strip_prefix("http://").unwrap().parse().unwrap();
    for (target, pool) in [
        ("/api/x", "api"),
        // Nothing is decoded, put together or taken apart, neither for one nor for the other.
        ("/api/../secret", "api"),
        ("/api/%2e%2e/secret", "api"),
        ("/api/;/..//secret", "api"),
        ("/%61pi/x", "any"),
        ("/API/x", "any"),
        ("//api/x", "any"),
        ("/./api/x", "any"),
        ("/x/../api/x", "any"),
        ("/%2fapi/x", "any"),
        ("/api%2fx", "any"),
        ("/api%3fx", "any"),
        ("/api;x", "any"),
        ("/?/api/x", "any"),
    ] {
        let ask = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = tokio::task::spawn_blocking(ask).await.unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{pool} {target}")), "{target}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_who_the_client_is_and_another_does_not() {
    let echo = answers_with(|request| async move {
        let who = ["x-forwarded-for", "x-forwarded-proto"]
            .map(|name| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned());
        http::Response::new(Full::<Bytes>::from(who.join(" ")))
    });
    let curious = Server::http(echo).await;
    let pool = format!("[pools.web]\nbackends = [\"{}\"]\nhealth = \"off\"", curious.url());
    let claims = |gateway: &Gateway| {
        let request = Request::get(&gateway.url).header("x-forwarded-for", "1.1.1.1, 2.2.2.2, 127.0.0.9");
        send(request.header("x-forwarded-proto", "https").body(Full::default()).unwrap())
    };
    let trusting = format!("[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"fd00::/8\"]\n{pool}");
    let listed = "1.1.1.1, 2.2.2.2, 127.0.0.9, 127.0.0.1 https";
    assert_eq!(claims(&Gateway::by(&ConfigFile::new(&trusting))).await, (200, listed.into()));
    assert_eq!(claims(&Gateway::by(&ConfigFile::new(&pool))).await, (200, "127.0.0.1 http".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_addresses_are_listened_on_and_clients_are_not_waited_for_without_end() {
    let server = Server::http(says("one")).await;
    let second = free_port();
    let text = format!(
        "[server.limits]\nheader_read_timeout = \"300ms\"\nidle_timeout = \"900ms\"\n[pools.web]\nbackends = [\"{}\"]",
        server.url()
    );
    let file = ConfigFile::new(&text);
    let listen = format!("127.0.0.1:{second}");
    let gateway = Gateway::start(&["--listen", &listen, "--admin", "off", "--config", file.path()]);
    assert_eq!(get(&gateway.url).await, (200, "one".into()));
    assert_eq!(get(format!("http://{listen}")).await, (200, "one".into()));

    let address: SocketAddr = listen.parse().unwrap();
    let ends = move |begin: &'static [u8]| {
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(begin).unwrap();
            let mut answer = Vec::new();
            // An end, orderly or not, and no more of the answer.
            _ = stream.read_to_end(&mut answer).inspect_err(|error| assert_ne!(error.kind(), ErrorKind::WouldBlock));
            String::from_utf8(answer).unwrap()
        })
    };
    assert_eq!(ends(b"").await.unwrap(), "");
    assert!(ends(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap().starts_with("HTTP/1.1 408 "));
    let answered = ends(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("one"), "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_most_connections_the_next_is_told_so() {
    let server = Server::http(says("one")).await;
    let text = format!("[server.limits]\nmax_connections = 1\n[pools.web]\nbackends = [\"{}\"]", server.url());
    let gateway = Gateway::by(&ConfigFile::new(&text));
    let first = common::client();
    let ask = || Request::get(&gateway.url).body(Full::<Bytes>::default()).unwrap();
    let response = first.clone().oneshot(ask()).await.unwrap();
    _ = http_body_util::BodyExt::collect(response.into_body()).await;
    // The first keeps its connection. The next is told before it asks.
    let address: SocketAddr = gateway.url.strip_prefix("http://").unwrap().parse().unwrap();
    let status = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(tokio::task::spawn_blocking(status).await.unwrap(), "503");
    drop(first);
    // Its place is free once the gateway has noticed.
    for _ in 0..200 {
        if tokio::task::spawn_blocking(status).await.unwrap() == "200" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place of the first is still taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_the_time_of_the_file_and_heads_have_their_size() {
    let silent = Server::http(answers_with(|_| async {
        std::future::pending::<()>().await;
        http::Response::new(Full::<Bytes>::default())
    }))
    .await;
    let text = format!(
        "[server.limits]\nrequest_timeout = \"200ms\"\nmax_header_bytes = 8192\n[pools.web]\nbackends = [\"{}\"]\nhealth = \"tcp\"",
        silent.url()
    );
    let gateway = Gateway::by(&ConfigFile::new(&text));
    assert_eq!(get(&gateway.url).await, (504, "Gateway timeout".into()));
    let long = Request::get(&gateway.url).header("x-long", "x".repeat(20_000));
    assert_eq!(send(long.body(Full::default()).unwrap()).await.0, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http2_that_waits_for_its_first_request_has_begun_no_head() {
    let server = Server::http(says("one")).await;
    let text = format!("[server.limits]\nheader_read_timeout = \"50ms\"\n[pools.web]\nbackends = [{:?}]", server.url());
    let gateway = Gateway::by(&ConfigFile::new(&text));
    let address = gateway.url.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let running = tokio::spawn(connection);
    // The settings are exchanged, and then there is nothing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let request = Request::get(&gateway.url).body(()).unwrap();
    let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    running.abort();
}

/// A network of its own, in which the name server never answers; in it a gateway, and one request to it.
const WITHOUT_NAMES: &str = r#"
command -v curl >/dev/null && ip link set lo up && ip route add 192.0.2.1/32 dev lo && mount --bind "$1" /etc/resolv.conf || exit 9
"$2" --listen 127.0.0.1:3000 --admin off --config "$3" >/dev/null &
gateway=$!
refused=7 ended=$refused
while [ $ended = $refused ]; do
    status=$(curl --silent --output /dev/null --max-time 60 --data x --write-out '%{http_code}' http://127.0.0.1:3000/)
    ended=$?
done
printf %s "$status"
(sleep 8 >/dev/null 2>&1; printf ' and stays') &
watch=$!
kill $gateway
wait $gateway
kill $watch
exit 0
"#;

#[test]
fn a_name_that_nobody_looks_up_is_a_backend_that_cannot_be_reached_in_time() {
    let servers = ConfigFile::new("nameserver 192.0.2.1\n");
    let file = ConfigFile::new("[pools.web]\nbackends = [\"http://slow.example:80\"]\nhealth = \"off\"\n");
    let arguments = [servers.path(), binary().to_str().unwrap(), file.path()].map(str::to_owned);
    let run = Command::new("unshare").args(["-rmn", "sh", "-c", WITHOUT_NAMES, "sh"]).args(arguments).output();
    let Some(output) = run.ok().filter(|output| !matches!(output.status.code(), Some(1 | 9 | 127))) else {
        return eprintln!("SKIPPED: there are no networks of one's own, or no curl");
    };
    // A second to connect, and once more; the resolver goes on for ten, and nobody waits for it at the end either.
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(["502", "503", "504"].contains(&&*status), "{status:?}");
}
