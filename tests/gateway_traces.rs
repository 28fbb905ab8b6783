//! What the gateway tells of single requests, with the real binary: spans to a collector, and lines of a sample.

mod common;

use common::{
    Server, answers, answers_with,
    gateway::{ConfigFile, Gateway, free_port, run},
    get, says, until,
};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use std::{
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A collector that reads what it gets, strictly, and keeps the spans.
struct Collector {
    server: Server,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    async fn start() -> Self {
        let spans = Arc::<Mutex<Vec<Value>>>::default();
        let kept = Arc::clone(&spans);
        let server = Server::http(answers_with(move |request| {
            let kept = Arc::clone(&kept);
            async move {
                assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
                assert_eq!(request.headers()["content-type"], "application/json");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let message: Value = serde_json::from_slice(&body).unwrap();
                for resource in message["resourceSpans"].as_array().unwrap() {
                    assert_eq!(attribute(&resource["resource"], "service.name"), "gateway");
                    for scope in resource["scopeSpans"].as_array().unwrap() {
                        assert_eq!(scope["scope"]["name"], "tower-balancer");
                        kept.lock().unwrap().extend(scope["spans"].as_array().unwrap().iter().cloned());
                    }
                }
                Response::new(Full::<bytes::Bytes>::from("{}"))
            }
        }))
        .await;
        Self { server, spans }
    }

    /// The spans that there are, once there are so many.
    async fn spans(&self, number: usize) -> Vec<Value> {
        until(|| async { self.spans.lock().unwrap().len() >= number }).await;
        self.spans.lock().unwrap().clone()
    }
}

/// An attribute, as text.
fn attribute(of: &Value, key: &str) -> String {
    let attributes = of["attributes"].as_array().unwrap();
    let Some(found) = attributes.iter().find(|attribute| attribute["key"] == key) else { return String::new() };
    let value = found["value"].as_object().unwrap();
    assert_eq!(value.len(), 1, "{found}");
    // Numbers of 64 bits are text as well.
    value.get("stringValue").or(value.get("intValue")).and_then(Value::as_str).unwrap().to_owned()
}

fn config(admin: &str, server: &str, backends: &[&str]) -> ConfigFile {
    ConfigFile::new(&format!(
        "[server]\nadmin = {admin:?}\n{server}\n[pools.web]\nhealth = \"off\"\nbackends = {backends:?}\n"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_span_for_the_request_and_one_for_each_attempt() {
    let collector = Collector::start().await;
    let told = Arc::<Mutex<Vec<String>>>::default();
    let writes = Arc::clone(&told);
    let well = Server::http(answers_with(move |request| {
        writes.lock().unwrap().push(request.headers()["traceparent"].to_str().unwrap().to_owned());
        async { Response::new(Full::<bytes::Bytes>::from("well")) }
    }))
    .await;
    let (dead, well) = (format!("http://127.0.0.1:{}", free_port()), (well.url(), well));
    let otlp = format!("otlp = {:?}", collector.server.url());
    let gateway = Gateway::by(&config("off", &otlp, &[&dead, &well.0]));
    assert_eq!(get(format!("{}/path?secret=1", gateway.url)).await.0, 200);

    let spans = collector.spans(3).await;
    let of_kind = |kind: u64| spans.iter().filter(move |span| span["kind"] == kind).collect::<Vec<_>>();
    let ([request], [first, second]) = (&of_kind(2)[..], &of_kind(3)[..]) else { panic!("{spans:#?}") };
    let hex = |value: &Value, digits: usize| {
        let text = value.as_str().unwrap();
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let nanos = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
    for span in &spans {
        assert!(hex(&span["traceId"], 32) && hex(&span["spanId"], 16), "{span}");
        assert!(nanos(&span["startTimeUnixNano"]) <= nanos(&span["endTimeUnixNano"]), "{span}");
        assert_eq!((&span["traceId"], &span["name"]), (&request["traceId"], &"GET".into()));
        assert_eq!((attribute(span, "url.path"), attribute(span, "pool")), ("/path".into(), "web".into()));
        assert!(!span.to_string().contains("secret"), "{span}");
    }
    assert_eq!((&request["parentSpanId"], attribute(request, "http.response.status_code")), (&"".into(), "200".into()));
    assert_eq!(request["status"], serde_json::json!({}));
    for attempt in [first, second] {
        assert_eq!(attempt["parentSpanId"], request["spanId"]);
        assert!(nanos(&attempt["startTimeUnixNano"]) >= nanos(&request["startTimeUnixNano"]));
        assert!(nanos(&attempt["endTimeUnixNano"]) <= nanos(&request["endTimeUnixNano"]));
    }
    assert_eq!((attribute(first, "backend"), attribute(first, "error.type")), (dead, "connect_fault".into()));
    assert_eq!(first["status"], serde_json::json!({ "code": 2 }));
    assert_eq!((attribute(second, "backend"), attribute(second, "outcome")), (well.0.clone(), "success".into()));
    assert_eq!(attribute(second, "http.request.resend_count"), "1");
    let trace = [&second["traceId"], &second["spanId"]].map(|id| id.as_str().unwrap());
    assert_eq!(*told.lock().unwrap(), [format!("00-{}-{}-01", trace[0], trace[1])]);

    // What is there at the end is sent as well.
    assert_eq!(get(&gateway.url).await.0, 200);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(collector.spans(5).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_does_not_answer_keeps_nobody_waiting_and_costs_spans() {
    let silent = Server::raw(|mut stream| async move {
        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let server = Server::http(says("one")).await;
    let admin = format!("127.0.0.1:{}", free_port());
    let otlp = format!("log = \"off\"\notlp = {:?}", silent.url());
    let config = config(&admin, &otlp, &[&server.url()]);
    let port = free_port();
    let mut command = Command::new(common::gateway::binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--config", config.path()]);
    let gateway = Gateway::spawn(command, port);
    until(|| async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await;
    // Two spans each: more than the queue has room for.
    let client = common::client();
    for _ in 0..2_500 {
        let request = http::Request::get(&gateway.url).body(Full::default()).unwrap();
        let response = tower::ServiceExt::oneshot(client.clone(), request).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let metrics = get(format!("http://{admin}/metrics")).await.1;
    let count = |result: &str| {
        let sample = format!("gateway_spans_total{{result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&sample)).unwrap_or_else(|| panic!("{metrics}"));
        line.parse::<u64>().unwrap()
    };
    assert_eq!(count("sent"), 0);
    assert!((1..=5_000).contains(&count("dropped")), "{}", count("dropped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_traces_that_begin_here_a_share_is_recorded_and_those_of_others_as_they_say() {
    let collector = Collector::start().await;
    let server = Server::http(says("one")).await;
    let otlp = format!("trace_sample = 0\notlp = {:?}", collector.server.url());
    let gateway = Gateway::by(&config("off", &otlp, &[&server.url()]));
    for _ in 0..20 {
        assert_eq!(get(&gateway.url).await.0, 200);
    }
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = http::Request::get(&gateway.url).header("traceparent", parent).body(Full::default()).unwrap();
    assert_eq!(common::send(request).await.0, 200);
    assert_eq!(gateway.stop(), Some(0));
    let spans = collector.spans(2).await;
    assert_eq!(spans.len(), 2, "{spans:#?}");
    assert!(spans.iter().all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c"));
    assert!(spans.iter().any(|span| span["parentSpanId"] == "b7ad6b7169203331"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_goes_well_the_log_tells_a_sample_and_of_what_does_not_everything() {
    let (well, ill) =
        (Server::http(says("well")).await, Server::http(answers(StatusCode::INTERNAL_SERVER_ERROR)).await);
    let dead = format!("http://127.0.0.1:{}", free_port());
    let over = |share: &str, url: &str| Gateway::by(&config("off", &format!("log_sample = {share}"), &[url]));
    // All lines about requests.
    let told = |gateway: Gateway| {
        gateway.signal("-TERM");
        let mut lines = Vec::new();
        loop {
            match gateway.line("") {
                line if line.starts_with("INFO: Stopped") => return lines,
                line if line.starts_with("INFO: ") || line.starts_with("HEALTH: ") => {}
                // Its file is gone.
                line if line.starts_with("ERROR: Configuration not reloaded") => {}
                line => lines.push(line),
            }
        }
    };
    for (share, least, most) in [("0", 0, 0), ("\"50%\"", 60, 140), ("1.0", 200, 200)] {
        let gateway = over(share, &well.url());
        for _ in 0..200 {
            assert_eq!(get(&gateway.url).await.0, 200);
        }
        let lines = told(gateway);
        let [requests, responses] =
            ["REQUEST: ", "RESPONSE: "].map(|kind| lines.iter().filter(|line| line.starts_with(kind)).count());
        assert!((least..=most).contains(&requests) && requests == responses, "{share}: {requests} {responses}");
        assert_eq!(lines.len(), requests + responses);
    }
    let gateway = over("0", &ill.url());
    assert_eq!(get(&gateway.url).await.0, 500);
    let lines = told(gateway);
    assert!(
        matches!(&lines[..], [line] if line.starts_with("RESPONSE: GET / <- ") && line.contains("[500]")),
        "{lines:?}"
    );
    let gateway = over("0", &dead);
    assert_eq!(get(&gateway.url).await.0, 502);
    let lines = told(gateway);
    let [attempt, request] = &lines[..] else { panic!("{lines:?}") };
    assert!(attempt.starts_with("ERROR: Backend failed after ") && attempt.contains("Connection refused"), "{attempt}");
    assert_eq!(request, "ERROR: Bad gateway - Connection refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paths_that_clients_choose_are_cut_in_spans() {
    let collector = Collector::start().await;
    let server = Server::http(says("one")).await;
    let otlp = format!("log = \"off\"\notlp = {:?}", collector.server.url());
    let port = free_port();
    let config = config("off", &otlp, &[&server.url()]);
    let mut command = Command::new(common::gateway::binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--config", config.path()]);
    let gateway = Gateway::spawn(command, port);
    until(|| async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await;
    assert_eq!(get(format!("{}/{}", gateway.url, "x".repeat(7_000))).await.0, 200);
    for span in collector.spans(2).await {
        assert_eq!(attribute(&span, "url.path"), format!("/{}", "x".repeat(1_023)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_log_has_each_decision_told_beside_the_rest() {
    let server = Server::http(says("one")).await;
    let start = |said: &str| {
        let port = free_port();
        let mut command = Command::new(common::gateway::binary());
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "off", "--backend", &server.url()]);
        command.env("RUST_LOG", said).stderr(Stdio::piped());
        Gateway::spawn(command, port)
    };
    let gateway = start("tower_balancer::pick=trace");
    gateway.line("INFO: Load balancer running on port ");
    gateway.line("HEALTH: HEALTHY");
    assert_eq!(get(&gateway.url).await.0, 200);
    gateway.line(&format!("INFO: picked {} of 1 candidates", server.url()));
    gateway.line("REQUEST: GET / ");

    let mut gateway = start("pick=loud");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut gateway.child.stderr.take().unwrap(), &mut told).unwrap();
    assert_eq!(
        told.trim(),
        "gateway: invalid RUST_LOG \"pick=loud\": expected a level, or targets such as tower_balancer::pick=trace"
    );
    assert_eq!(gateway.code(), Some(1));
}

/// Is killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_costs_lines_and_neither_memory_nor_an_orderly_end() {
    let server = Server::http(says("one")).await;
    let (admin, port) = (format!("127.0.0.1:{}", free_port()), free_port());
    let config = config(&admin, "", &[&server.url()]);
    let mut command = Command::new(common::gateway::binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--config", config.path()]).stdout(Stdio::piped());
    let mut gateway = Process(command.spawn().unwrap());
    until(|| async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await;
    // On one connection, without waiting for answers.
    let ask = |path: String, times: usize| async move {
        let (mut answers, mut requests) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        let asking = tokio::spawn(async move {
            let request = format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
            for _ in 1..times {
                requests.write_all(request.as_bytes()).await.unwrap();
            }
            let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            requests.write_all(last.as_bytes()).await.unwrap();
        });
        let mut told = String::new();
        answers.read_to_string(&mut told).await.unwrap();
        asking.await.unwrap();
        assert_eq!(told.matches("HTTP/1.1 200 ").count(), times);
    };
    // Two lines each, and far fewer of them than there is room for.
    ask("x".repeat(7_000), 1_000).await;
    let metrics = get(format!("http://{admin}/metrics")).await.1;
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("gateway_log_lines_dropped_total ")).unwrap();
    assert!(dropped.parse::<u64>().unwrap() > 100, "{dropped}");
    // And more than there is room for.
    ask(String::new(), 20_000).await;
    assert!(Command::new("kill").arg(gateway.0.id().to_string()).status().unwrap().success());
    until(|| {
        let has_ended = gateway.0.try_wait().unwrap().is_some();
        async move { has_ended }
    })
    .await;
    assert_eq!(gateway.0.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_no_collector_is_named_with_what_was_expected() {
    for url in ["127.0.0.1:4318", "https://127.0.0.1:4318", "http://", "collector"] {
        let file = config("off", &format!("otlp = {url:?}"), &["http://a:1"]);
        let output = run(&["--config", file.path(), "--check"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}");
        let expected = format!("server.otlp: invalid URL {url:?}: expected that of a collector, without TLS, such as ");
        assert!(error.contains(&expected), "{error}");
    }
}
