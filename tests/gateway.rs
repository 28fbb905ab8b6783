//! The gateway example as its user meets it: the real binary, real processes, the lines it prints.

mod common;

use common::{
    Server,
    gateway::{ConfigFile, Gateway, binary, free_port, run},
    get, says,
};
use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;
use tower_balancer::http::ClientConfig;

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_turns_and_tells_of_it_in_the_seeds_words() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let gateway = Gateway::start(&["--admin", "off", "--backend", &one, "--backend", &two]);
    gateway.line(&format!("INFO: Backend servers: {one}, {two}"));
    gateway.line("INFO: Health checker started (checking every 5s)");
    let mut healthy = [gateway.line("HEALTH: HEALTHY "), gateway.line("HEALTH: HEALTHY ")];
    healthy.sort();
    let mut expected = [&one, &two].map(|url| format!("HEALTH: HEALTHY {url} - status: 200"));
    expected.sort();
    assert_eq!(healthy, expected);

    assert_eq!(get(format!("{}/path?query", gateway.url)).await, (200, "one".into()));
    assert_eq!(gateway.line("REQUEST: "), format!("REQUEST: GET /path -> {one}"));
    let response = gateway.line("RESPONSE: ");
    let milliseconds = response.strip_prefix(&format!("RESPONSE: GET /path <- {one} [200] ")).unwrap();
    assert!(milliseconds.strip_suffix("ms").unwrap().parse::<u64>().is_ok(), "{response}");
    assert_eq!(get(&gateway.url).await, (200, "two".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_learn_who_asks() {
    let echo = common::answers_with(|request| async move {
        let who = ["x-forwarded-for", "x-forwarded-proto"].map(|name| request.headers().get(name).cloned());
        let who = format!("{who:?}");
        http::Response::new(http_body_util::Full::<bytes::Bytes>::from(who))
    });
    let curious = Server::http(echo).await;
    let gateway = Gateway::start(&["--admin", "off", "--backend", &curious.url()]);
    assert_eq!(get(&gateway.url).await, (200, r#"[Some("127.0.0.1"), Some("http")]"#.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_costs_at_most_one_502_is_out_at_once_and_rejoins() {
    let stays = Server::http(says("stays")).await;
    let dies = Server::http(says("dies")).await;
    let (stays_url, url) = (stays.url(), dies.url());
    let gateway =
        Gateway::start(&["--admin", "off", "--health-interval", "300ms", "--backend", &stays_url, "--backend", &url]);
    (0..2).for_each(|_| _ = gateway.line("HEALTH: HEALTHY"));

    let address = dies.kill().await;
    let mut failed = Vec::new();
    for _ in 0..10 {
        let answer = get(&gateway.url).await;
        if answer.0 != 200 {
            failed.push(answer);
        }
    }
    assert!(failed.len() <= 1, "{failed:?}");
    assert!(failed.iter().all(|answer| *answer == (502, "Bad gateway".into())), "{failed:?}");
    let told = gateway.line("HEALTH: UNHEALTHY");
    // Refused, or broken off where it was being checked.
    let causes = ["Connection refused", "Connection reset by peer", "connection closed before message completed"];
    assert!(causes.iter().any(|cause| told == format!("HEALTH: UNHEALTHY {url} - {cause}")), "{told}");

    let _again = Server::http_at(address, says("dies")).await;
    assert_eq!(gateway.line("HEALTH: HEALTHY"), format!("HEALTH: HEALTHY {url} - status: 200"));
    let answers = [get(&gateway.url).await.1, get(&gateway.url).await.1];
    assert!(answers.contains(&"dies".to_owned()), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_dead_it_says_503_and_so() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&["--admin", "off", "--backend", &url]);
    assert_eq!(gateway.line("HEALTH: "), format!("HEALTH: UNHEALTHY {url} - Connection refused"));
    assert_eq!(get(&gateway.url).await, (503, "No healthy backends available".into()));
    assert_eq!(gateway.line("ERROR: "), "ERROR: No healthy backends available - no backend is healthy");
}

/// One that accepts, reads, and says nothing.
async fn silent() -> Server {
    Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_to_nothing_is_told_of_to_its_end() {
    let silent = silent().await;
    let over = |limits: &str, pool: &str| {
        ConfigFile::new(&format!(
            "[server.limits]\n{limits}\n[pools.web]\nbackends = [{:?}]\nhealth = \"off\"\n{pool}\n",
            silent.url()
        ))
    };
    let impatient = over("request_timeout = \"300ms\"", "retry = { attempts = 1 }");
    let gateway = Gateway::by(&impatient);
    assert_eq!(get(&gateway.url).await, (504, "Gateway timeout".into()));
    let is_cancelled = |line: String| {
        let ends = format!("ms GET / -> {}", silent.url());
        assert!(line.starts_with("INFO: Cancelled after ") && line.ends_with(&ends), "{line}");
    };
    gateway.line("REQUEST: GET / -> ");
    is_cancelled(gateway.line(""));
    assert_eq!(gateway.line(""), "ERROR: Gateway timeout - the request had 300ms, which are over");

    let full = over("", "limits = { max_in_flight_per_backend = 1 }");
    let gateway = Gateway::by(&full);
    let url = gateway.url.clone();
    let client = ClientConfig::new().http2().build();
    let waits = tokio::spawn(async move { client.oneshot(request_for(&url)).await.is_ok() });
    gateway.line("REQUEST: GET / -> ");
    assert_eq!(get(&gateway.url).await, (503, "Too many requests in flight".into()));
    let words = "Too many requests in flight - every backend has as many requests as it may";
    assert_eq!(gateway.line(""), format!("ERROR: {words}"));
    // And the client who waits goes away, as one of HTTP/2 can say.
    waits.abort();
    is_cancelled(gateway.line(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_what_is_in_flight_finish_and_accepts_no_more() {
    let slow = Server::raw(|mut stream| async move {
        // The checker's probe and the request alike: an answer after a while.
        let mut buffer = [0; 1024];
        if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(Duration::from_millis(700)).await;
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
        }
    })
    .await;
    for signal in ["-TERM", "-INT"] {
        let mut gateway = Gateway::start(&["--admin", "off", "--backend", &slow.url()]);
        let url = gateway.url.clone();
        let request = tokio::spawn(async move { get(url).await });
        gateway.line("REQUEST: ");
        gateway.signal(signal);
        gateway.line("INFO: Stopping");
        let address: SocketAddr = gateway.url.strip_prefix("http://").unwrap().parse().unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it still accepts");
        assert_eq!(request.await.unwrap(), (200, "done".into()));
        gateway.line("INFO: Stopped");
        assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_stops_it_is_not_ready_and_a_second_signal_ends_it() {
    let silent = silent().await;
    let admin = format!("127.0.0.1:{}", free_port());
    let mut gateway = Gateway::start(&["--admin", &admin, "--backend", &silent.url()]);
    let url = gateway.url.clone();
    let request = tokio::spawn(async move { common::client().oneshot(request_for(&url)).await.is_err() });
    gateway.line("REQUEST: ");
    assert_eq!(get(format!("http://{admin}/readyz")).await.0, 200);
    gateway.signal("-HUP");
    gateway.line("INFO: Nothing to reload");
    gateway.signal("-TERM");
    gateway.line("INFO: Stopping");
    assert_eq!(get(format!("http://{admin}/readyz")).await.0, 503);
    gateway.signal("-TERM");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(1));
    assert!(request.await.unwrap());
}

fn request_for(url: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    http::Request::get(url).body(Default::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_keeps_no_request_waiting() {
    let server = Server::http(says("one")).await;
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let arguments = ["--listen", &listen, "--admin", "off", "--backend", &server.url()];
    // Its pipe is full after some hundred lines.
    let mut unread = Command::new(binary()).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    common::until(|| async { tokio::net::TcpStream::connect(&listen).await.is_ok() }).await;
    let client = common::client();
    for _ in 0..3_000 {
        let response = client.clone().oneshot(request_for(&format!("http://{listen}"))).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    // Nor does one that is gone.
    drop(unread.stdout.take());
    for _ in 0..100 {
        let response = client.clone().oneshot(request_for(&format!("http://{listen}"))).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert!(unread.try_wait().unwrap().is_none(), "it died of it");
    unread.kill().unwrap();
    unread.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_what_is() {
    let server = Server::http(says("one")).await;
    let dead = format!("http://127.0.0.1:{}", free_port());
    let admin = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&["--admin", &admin, "--backend", &server.url(), "--backend", &dead]);
    (0..2).for_each(|_| _ = gateway.line("HEALTH: "));
    assert_eq!(get(format!("http://{admin}/healthz")).await.0, 200);
    assert_eq!(get(format!("http://{admin}/readyz")).await.0, 200);
    let (_, pools) = get(format!("http://{admin}/pools")).await;
    let pools: serde_json::Value = serde_json::from_str(&pools).unwrap();
    let pool = &pools["pools"][0];
    assert_eq!((&pool["strategy"], &pool["available"]), (&"round_robin".into(), &1.into()));
    let backend = &pool["backends"][1];
    assert_eq!((&backend["url"], &backend["state"]), (&(&*dead).into(), &"unhealthy".into()));
    assert_eq!(backend["reason"], "Connection refused");

    drop(server);
    while get(&gateway.url).await.0 != 503 {}
    assert_eq!(get(format!("http://{admin}/readyz")).await.0, 503);
}

#[test]
fn json_lines_are_json() {
    let arguments = ["--listen", "127.0.0.1:0", "--admin", "off", "--log", "json"];
    let mut gateway = Command::new(binary()).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(gateway.stdout.take().unwrap()).read_line(&mut line).unwrap();
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(event["message"].as_str().unwrap().starts_with("Load balancer running on port"), "{event}");
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_half_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for arguments in [["--listen", &address, "--admin", "off"], ["--listen", "127.0.0.1:0", "--admin", &address]] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(&format!("cannot listen on {address}: Address already in use")), "{error}");
        assert!(!String::from_utf8(output.stdout).unwrap().contains("running"));
    }
}

#[test]
fn a_bad_option_is_named_with_what_was_expected() {
    for (arguments, named) in [
        (&["--backend", "localhost:3001"][..], &[r#""localhost:3001""#, "expected http://host:port"][..]),
        (&["--backend", "http://a:1", "--backend", "http://a:1/"], &["duplicate backend http://a:1"]),
        (&["--strategy", "fastest"], &["fastest", "--strategy", "round_robin, "]),
        (&["--listen", "3000"], &["3000", "--listen", "such as 127.0.0.1:3000"]),
        (&["--admin", "0.0.0.0:3100"], &["0.0.0.0:3100", "loopback"]),
        (&["--admin", "on"], &["--admin", "or off"]),
        (&["--health-interval", "5"], &["--health-interval", "expected a duration such as 5s"]),
        (&["--health-timeout", "0s"], &["--health-timeout", "more than zero"]),
        (&["--health-path", "health"], &["--health-path", "such as /healthz"]),
        (&["--backend", "http://127.0.0.1:3000"], &["http://127.0.0.1:3000 is the gateway itself"]),
        (&["--backend", "http://localhost:3100"], &["is the gateway itself"]),
        (&["--listen", "0.0.0.0:3100"], &["0.0.0.0:3100 and --admin collide"]),
        (&["--workers", "0"], &["--workers", "1..=1024"]),
        (&["--log", "loud"], &["--log", "text, json, off"]),
        (&["--fast"], &["--fast"]),
        (&["--demo", "--backend", "http://a:1"], &["--demo"]),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(named.iter().all(|words| error.contains(words)), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn check_says_what_the_options_mean_and_starts_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--check", "--listen", &address, "--health-interval", "1s"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        &format!("listen           {address}"),
        "admin            127.0.0.1:3100",
        "backend          http://localhost:3003",
        "strategy         round_robin",
        "health           GET / every 1s, 2xx within 3s",
        "warning          the health timeout is longer than the interval",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_in_turn() {
    // The demo's ports are fixed; where something else has one of them there is nothing to see.
    if (3001..=3003).any(|port| TcpListener::bind(("127.0.0.1", port)).is_err()) {
        eprintln!("SKIPPED: one of the ports 3001 to 3003 is in use");
        return;
    }
    let gateway = Gateway::start(&["--admin", "off", "--demo"]);
    gateway.line("INFO: Try it: curl http://127.0.0.1:");
    for port in [3001, 3002, 3003, 3001] {
        assert_eq!(get(&gateway.url).await, (200, format!("Hello from Backend {port}\n")));
    }
}
