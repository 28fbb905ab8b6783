//! What the gateway tells Prometheus, with the real binary: the numbers, their table, the alerts and the dashboard.

mod common;

use common::{
    Server,
    gateway::{ConfigFile, Gateway, free_port},
    gateway_load::Load,
    get, says, until, waits,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_balancer::metrics::FAMILIES;

/// Samples: `name{labels}` and the value.
struct Scrape {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(admin: &str) -> Self {
        let (status, text) = get(format!("http://{admin}/metrics")).await;
        assert_eq!(status, 200);
        let sample = |line: &str| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            (sample.to_owned(), value.parse().unwrap())
        };
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect();
        Self { text, samples }
    }

    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("{sample} is not in\n{}", self.text))
    }

    /// The sum over all samples of a metric with this among their labels.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let is_one = |sample: &str| sample.split('{').next() == Some(name) && sample.contains(label);
        self.samples.iter().filter(|(sample, _)| is_one(sample)).map(|(_, value)| value).sum()
    }
}

/// A gateway over these backends, and the address of its admin server.
fn over(backends: &[&str], server: &str) -> (Gateway, String) {
    let admin = format!("127.0.0.1:{}", free_port());
    let health = r#"health = { interval = "200ms" }"#;
    let config = format!("[server]\nadmin = \"{admin}\"\n{server}\n[pools.web]\n{health}\nbackends = {backends:?}\n");
    (Gateway::start(&["--config", ConfigFile::new(&config).path()]), admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_is_seen_in_the_numbers_and_so_is_its_return() {
    let (stays, dies) = (Server::http(says("stays")).await, Server::http(says("dies")).await);
    let (good, bad) = (stays.url(), dies.url());
    let (gateway, admin) = over(&[&good, &bad], "workers = 2");
    for _ in 0..6 {
        assert_eq!(get(&gateway.url).await.0, 200);
    }
    let labels = |url: &str| format!(r#"pool="web",backend="{url}""#);
    let before = Scrape::of(&admin).await;
    assert_eq!(before.value(r#"gateway_responses_total{pool="web",code="200"}"#), 6.0);
    assert_eq!(before.value(r#"balancer_pool_picks_total{pool="web"}"#), 6.0);
    assert_eq!(before.sum("balancer_backend_outcomes_total", r#"outcome="success""#), 6.0);
    assert_eq!(before.sum("balancer_backend_response_seconds_count", ""), 6.0);
    assert_eq!(before.sum("balancer_backend_response_seconds_bucket", r#"le="+Inf""#), 6.0);
    assert_eq!(before.value(r#"gateway_response_seconds_count{pool="web"}"#), 6.0);
    // A rate begins with what was there before.
    assert_eq!(before.value(r#"gateway_responses_total{pool="web",code="502"}"#), 0.0);
    assert_eq!(before.value(&format!(r#"balancer_backend_state{{{},state="healthy"}}"#, labels(&bad))), 1.0);
    assert!(before.value(r#"gateway_connections_total"#) >= 6.0);
    assert_eq!(before.value(r#"gateway_pool_info{pool="web",strategy="round_robin"}"#), 1.0);

    let address = dies.kill().await;
    for _ in 0..4 {
        assert_eq!(get(&gateway.url).await.0, 200);
    }
    let out = || async {
        let now = Scrape::of(&admin).await;
        now.value(&format!(r#"balancer_backend_state{{{},state="healthy"}}"#, labels(&bad))) == 0.0
    };
    until(out).await;
    let during = Scrape::of(&admin).await;
    assert_eq!(during.value(r#"balancer_pool_available{pool="web"}"#), 1.0);
    assert_eq!(during.value(r#"gateway_responses_total{pool="web",code="200"}"#), 10.0);
    // Whoever noticed it first: a request, which was tried again elsewhere, or a check.
    let faults = during
        .value(&format!(r#"balancer_backend_outcomes_total{{{},outcome="connect_fault"}}"#, labels(&bad)))
        + during.value(&format!(r#"balancer_backend_outcomes_total{{{},outcome="reset"}}"#, labels(&bad)))
        + during.value(&format!(r#"balancer_backend_outcomes_total{{{},outcome="lost"}}"#, labels(&bad)));
    assert_eq!(during.value(r#"balancer_pool_retries_total{pool="web"}"#), faults);
    until(|| async {
        let failed = format!(r#"balancer_backend_checks_total{{{},result="failed"}}"#, labels(&bad));
        Scrape::of(&admin).await.value(&failed) >= 1.0
    })
    .await;

    let _again = Server::http_at(address, says("dies")).await;
    until(|| async { Scrape::of(&admin).await.value(r#"balancer_pool_available{pool="web"}"#) == 2.0 }).await;
    let after = Scrape::of(&admin).await;
    for (sample, value) in &during.samples {
        let name = sample.split('{').next().unwrap();
        if name.ends_with("_total") || name.ends_with("_bucket") || name.ends_with("_count") {
            assert!(after.samples[sample] >= *value, "{sample} fell from {value} to {}", after.samples[sample]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_in_line_is_counted_while_he_does_and_what_he_waits_is_his_time() {
    let (slow, may) = waits().await;
    let admin = format!("127.0.0.1:{}", free_port());
    let limits = "limits = { max_in_flight = 1, max_waiting = 2, wait = \"20s\" }\nhealth = \"off\"\nhedge = \"off\"";
    let config = format!("[server]\nadmin = \"{admin}\"\n[pools.web]\n{limits}\nbackends = [{:?}]\n", slow.url());
    let gateway = Gateway::start(&["--config", ConfigFile::new(&config).path()]);
    let waiting = || async { Scrape::of(&admin).await.value(r#"gateway_waiting{pool="web"}"#) };
    assert_eq!(waiting().await, 0.0);
    let requests: Vec<_> = (0..3).map(|_| tokio::spawn(get(gateway.url.clone()))).collect();
    until(|| async { waiting().await == 2.0 }).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        may.add_permits(1);
    }
    for request in requests {
        assert_eq!(request.await.unwrap().0, 200);
    }
    assert_eq!(waiting().await, 0.0);
    // One has waited once, one twice, one three times; the backend has answered each at once.
    let seen = Scrape::of(&admin).await;
    let below = |name: &str, le: &str| seen.sum(&format!("{name}_bucket"), &format!(r#"le="{le}""#));
    assert_eq!(below("gateway_response_seconds", "0.5"), 0.0);
    assert!(below("gateway_response_seconds", "1") < 3.0);
    let (clients, backend) =
        (seen.sum("gateway_response_seconds_sum", ""), seen.sum("balancer_backend_response_seconds_sum", ""));
    assert!(clients > 1.5 * backend, "{clients} and {backend}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_nobody_and_who_finds_no_route_is_counted_by_the_reason() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let admin = format!("127.0.0.1:{}", free_port());
    let config = format!(
        "[server]\nadmin = \"{admin}\"\n[pools.web]\nhealth = \"off\"\nbackends = [{url:?}]\n[[routes]]\npath_prefix = \"/web\"\npool = \"web\"\n"
    );
    let gateway = Gateway::start(&["--config", ConfigFile::new(&config).path()]);
    // It cannot be reached, and after that there is nobody.
    let answers = [get(format!("{}/web", gateway.url)).await.0, get(format!("{}/web", gateway.url)).await.0];
    assert_eq!(answers, [502, 503]);
    assert_eq!(get(format!("{}/other", gateway.url)).await.0, 404);
    let seen = Scrape::of(&admin).await;
    assert_eq!(seen.value(r#"gateway_own_responses_total{pool="web",reason="unreachable"}"#), 1.0);
    assert_eq!(seen.value(r#"gateway_own_responses_total{pool="web",reason="unavailable"}"#), 1.0);
    assert_eq!(
        seen.value(&format!(r#"balancer_backend_ejections_total{{pool="web",backend="{url}",cause="transport"}}"#)),
        1.0
    );
    assert!(seen.value(r#"balancer_pool_unavailable_total{pool="web",reason="all_unhealthy"}"#) >= 1.0);
    assert_eq!(seen.value("gateway_unrouted_total"), 1.0);
    assert_eq!(seen.value(r#"gateway_responses_total{pool="web",code="502"}"#), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_that_a_client_meets_is_counted_with_its_name() {
    let server = Server::http(says("one")).await;
    let limits = "limits = { max_connections = 3, header_read_timeout = \"300ms\", idle_timeout = \"300ms\" }";
    let (gateway, admin) = over(&[&server.url()], limits);
    let address = gateway.url.strip_prefix("http://").unwrap().to_owned();
    let limit = |name: &str| format!(r#"gateway_limits_total{{limit="{name}"}}"#);
    let send = |bytes: String| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            _ = stream.write_all(bytes.as_bytes()).await;
            let mut answer = String::new();
            _ = stream.read_to_string(&mut answer).await;
            answer
        }
    };
    // Half a head; a head and then nothing; one that is too long; no HTTP.
    assert!(send("GET / HTTP/1.1\r\nHost:".to_owned()).await.starts_with("HTTP/1.1 408 "));
    assert!(send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()).await.starts_with("HTTP/1.1 200 "));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(100_000));
    send(long).await;
    assert!(send("what is this?\r\n\r\n".to_owned()).await.starts_with("HTTP/1.1 400 "));
    // More than there are places for.
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(TcpStream::connect(&address).await.unwrap());
    }
    until(|| async { Scrape::of(&admin).await.value(&limit("max_connections")) >= 3.0 }).await;
    drop(held);
    let seen = Scrape::of(&admin).await;
    for name in ["header_read_timeout", "idle_timeout", "max_header_bytes"] {
        assert!(seen.value(&limit(name)) >= 1.0, "{name}\n{}", seen.text);
    }
    assert_eq!(seen.value("gateway_malformed_total"), 1.0);
    until(|| async { Scrape::of(&admin).await.value("gateway_connections") == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_outlive_a_reload_and_reloads_are_counted() {
    let server = Server::http(says("one")).await;
    let admin = format!("127.0.0.1:{}", free_port());
    let text = |strategy: &str| {
        format!("[server]\nadmin = {admin:?}\n[pools.web]\nstrategy = {strategy:?}\nbackends = [{:?}]\n", server.url())
    };
    let config = ConfigFile::new(&text("round_robin"));
    let gateway = Gateway::start(&["--config", config.path()]);
    let is_right = || async { Scrape::of(&admin).await.value("gateway_config_last_reload_successful") == 1.0 };
    assert!(is_right().await);
    // Somebody looks at the file now and then as well, so it may be read once more than it is asked for.
    let read = |text: String, sample: &'static str| {
        config.replace(&text);
        gateway.signal("-HUP");
        let admin = &admin;
        until(move || async move { Scrape::of(admin).await.samples.get(sample).is_some_and(|value| *value >= 1.0) })
    };
    for (strategy, sample) in [
        ("random", r#"gateway_pool_info{pool="web",strategy="random"}"#),
        ("nonsense", r#"gateway_reloads_total{result="refused"}"#),
        ("least_request", r#"gateway_pool_info{pool="web",strategy="least_request"}"#),
    ] {
        assert_eq!(get(&gateway.url).await.0, 200);
        read(text(strategy), sample).await;
        until(|| async { is_right().await == (strategy != "nonsense") }).await;
    }
    assert_eq!(get(&gateway.url).await.0, 200);
    let seen = Scrape::of(&admin).await;
    assert_eq!(seen.value(r#"gateway_responses_total{pool="web",code="200"}"#), 4.0);
    assert_eq!(seen.value(r#"balancer_pool_picks_total{pool="web"}"#), 4.0);
    assert!(seen.value(r#"gateway_reloads_total{result="taken_up"}"#) >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_was_gone_for_a_moment_is_counted_again() {
    let server = Server::http(says("one")).await;
    let admin = format!("127.0.0.1:{}", free_port());
    let text = |pool: &str| {
        let server_table = format!("[server]\nadmin = {admin:?}\nworkers = 1\nlog = \"off\"");
        format!("{server_table}\n[pools.{pool}]\nhealth = \"off\"\nbackends = [{:?}]\n", server.url())
    };
    let config = ConfigFile::new(&text("web"));
    let port = free_port();
    let mut command = Command::new(common::gateway::binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--config", config.path()]);
    let gateway = Gateway::spawn(command, port);
    until(|| async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await;
    let load = Load::on(&gateway.url, 6);
    let counted = || async {
        let seen = Scrape::of(&admin).await;
        seen.samples.get(r#"gateway_responses_total{pool="web",code="200"}"#).copied().unwrap_or_default()
    };
    // A worker that has something to do may see the last of these only.
    for _ in 0..100 {
        for pool in ["other", "web"] {
            config.replace(&text(pool));
            gateway.signal("-HUP");
        }
        until(|| async { Scrape::of(&admin).await.sum("gateway_pool_info", r#"pool="web""#) == 1.0 }).await;
        let before = counted().await;
        until(|| async { counted().await > before }).await;
    }
    assert!(load.end().await.1.is_empty());
}

/// The rows of the tables: of the library's metrics and of the gateway's own.
fn table() -> BTreeMap<String, (String, String)> {
    let library = FAMILIES
        .iter()
        .map(|family| (family.name().to_owned(), (family.kind().as_str().to_owned(), family.labels().join(","))));
    let own = include_str!("../examples/gateway/metrics/mod.rs").lines().filter_map(|line| {
        let columns: Vec<_> =
            line.strip_prefix("//! | `")?.split('|').map(|column| column.trim().replace(['`', ' '], "")).collect();
        Some((columns[0].clone(), (columns[1].clone(), columns[3].clone())))
    });
    library.chain(own).collect()
}

/// All that a gateway may tell: its metrics with their kinds and labels.
async fn exposed() -> (Scrape, BTreeMap<String, (String, String)>) {
    let server = Server::http(says("one")).await;
    let (gateway, admin) = over(&[&server.url()], "");
    get(&gateway.url).await;
    let scrape = Scrape::of(&admin).await;
    let mut exposed = BTreeMap::new();
    for line in scrape.text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else { continue };
        let sample = scrape.samples.keys().find(|sample| {
            let of = sample.split('{').next().unwrap();
            of == name || kind == "histogram" && of == format!("{name}_count")
        });
        let labels = sample.unwrap_or_else(|| panic!("{name} has no sample")).split_once('{').unwrap_or_default().1;
        let labels: Vec<_> = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0)).collect();
        exposed.insert(name.to_owned(), (kind.to_owned(), labels.join(",")));
    }
    (scrape, exposed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_name_what_is_exposed_and_nothing_else() {
    let (_, mut exposed) = exposed().await;
    let mut table = table();
    // No limit is set, so there is none.
    assert!(table.remove("balancer_backend_limit").is_some() && exposed.remove("balancer_backend_limit").is_none());
    assert!(table.len() > 30, "the reader of the table is broken: {table:?}");
    assert_eq!(exposed, table);
}

/// Whether `promtool` is there. Where not, what is to be checked with it is not.
fn promtool() -> bool {
    let is_there = Command::new("promtool").arg("--version").output().is_ok();
    if !is_there {
        eprintln!("SKIPPED: there is no promtool: apt-get install prometheus");
    }
    is_there
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_against_the_metrics() {
    if !promtool() {
        return;
    }
    let (scrape, _) = exposed().await;
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(scrape.text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{}", scrape.text);
}

#[test]
fn promtool_passes_the_alerts_and_their_tests() {
    if !promtool() {
        return;
    }
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway");
        let output = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}

/// The words in queries that look like metrics of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let is_ours = |word: &&str| ["balancer_", "gateway_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    let plain = |word: &str| {
        let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| word.strip_suffix(suffix));
        of_histogram.unwrap_or(word).to_owned()
    };
    words.filter(is_ours).map(plain).collect()
}

/// What the panels of the dashboard ask for.
fn queries() -> Vec<String> {
    let dashboard = include_str!("../examples/gateway/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(queries.len() > 10);
    queries
}

#[test]
fn promtool_can_read_what_the_dashboard_asks_for() {
    if !promtool() {
        return;
    }
    let rule = |(number, query): (usize, String)| {
        let query = query.replace("$__rate_interval", "5m").replace("$pool", "web");
        format!("  - record: query_{number}\n    expr: {query:?}\n")
    };
    let rules: String = queries().into_iter().enumerate().map(rule).collect();
    let file = ConfigFile::new(&format!("groups:\n- name: dashboard\n  rules:\n{rules}"));
    let output = Command::new("promtool").args(["check", "rules", file.path()]).output().unwrap();
    assert!(output.status.success(), "{}\n{rules}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let table = table();
    let alerts = include_str!("../examples/gateway/alerts.yml");
    let expressions: String = alerts.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    for text in queries().iter().chain([&expressions]) {
        let metrics = metrics_in(text);
        assert!(!metrics.is_empty(), "{text} asks for none");
        for name in metrics {
            assert!(table.contains_key(&name), "{name}, in {text}, is not exposed");
        }
    }
}
