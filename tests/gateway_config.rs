//! What the gateway's configuration file says is what it does: the real binary, by files of its own.

mod common;

use bytes::Bytes;
use common::{
    Server, answers_with,
    gateway::{ConfigFile, Gateway, binary, run},
    get, says, send,
};
use http::{Request, header};
use http_body_util::Full;
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};
use tower::ServiceExt;

const EXAMPLE: &str = "examples/gateway/gateway.toml";

/// Exit code, and what was said.
fn check(text: &str) -> (i32, String) {
    let file = ConfigFile::new(text);
    let output = run(&["--check", "--config", file.path()]);
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(said).unwrap().replace(file.path(), "FILE"))
}

/// A request of `GET path` for `host`.
async fn get_of(gateway: &Gateway, host: &str, path: &str) -> (u16, String) {
    let request = Request::get(format!("{}{path}", gateway.url)).header(header::HOST, host);
    send(request.body(Full::default()).unwrap()).await
}

#[test]
fn the_example_file_is_right_and_shows_every_key() {
    let output = run(&["--check", "--config", EXAMPLE]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    // The binary names the keys that it knows where one is not among them.
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    let written: BTreeSet<&str> = example
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let tables = [
        ("", "zzz = 1\n"),
        ("server", "[server]\nzzz = 1\n"),
        ("server.limits", "[server.limits]\nzzz = 1\n"),
        ("pool", "[pools.a]\nzzz = 1\n"),
        ("backend", "[pools.a]\nbackends = [{ url = \"http://a\", zzz = 1 }]\n"),
        ("strategy", "[pools.a]\nstrategy = { name = \"ring\", zzz = 1 }\n"),
        ("health", "[pools.a.health]\nzzz = 1\n"),
        ("outlier", "[pools.a.outlier]\nzzz = 1\n"),
        ("retry", "[pools.a.retry]\nzzz = 1\n"),
        ("hedge", "[pools.a.hedge]\nzzz = 1\n"),
        ("limits", "[pools.a.limits]\nzzz = 1\n"),
        ("adaptive", "[pools.a.limits.adaptive]\nzzz = 1\n"),
        ("session", "[pools.a.session]\nzzz = 1\n"),
        ("upstream", "[pools.a.upstream]\nzzz = 1\n"),
        ("route", "[[routes]]\nzzz = 1\n"),
    ];
    for (table, text) in tables {
        let (code, said) = check(text);
        assert_eq!(code, 2, "{table}");
        let (_, known) = said.split_once("unknown field `zzz`, expected ").unwrap_or_else(|| panic!("{table}: {said}"));
        let keys: Vec<_> = known.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() > 1, "{table}: {said}");
        let missing: Vec<_> = keys.into_iter().filter(|key| !written.contains(key)).collect();
        assert!(missing.is_empty(), "{EXAMPLE} does not show {missing:?} of {table}");
    }
}

#[test]
fn what_is_wrong_is_told_with_file_line_key_and_what_was_expected() {
    let pool = "[pools.web]\nbackends = [\"http://a:1\"]\n";
    for (text, expected) in [
        ("[server\n", "FILE:1: "),
        ("[server]\nworkers = 0", "FILE:2: server.workers: invalid number \"0\": expected 1..=1024"),
        ("[server]\nworker = 1", "FILE:2: server.worker: unknown field `worker`, expected one of `listen`, "),
        ("[server]\nlisten = []", "FILE:2: server.listen: the list is empty: expected one or more"),
        (
            "[server]\nlisten = [\"127.0.0.1:1\",\n\"here\"]",
            "FILE:3: server.listen[1]: invalid address \"here\": expected an IP",
        ),
        (
            "[server]\nadmin = \"0.0.0.0:1\"",
            "FILE:2: server.admin: invalid address \"0.0.0.0:1\": expected a loopback address",
        ),
        ("[server]\ntls = { cert = \"a\", key = \"b\" }", "FILE:2: server.tls: `tls` is not supported in this build"),
        ("[server]\ntrusted_proxies = [\"10.0.0.0/33\"]", "FILE:2: server.trusted_proxies[0]: invalid network"),
        (
            "[server.limits]\nidle_timeout = 5",
            "FILE:2: server.limits.idle_timeout: invalid duration \"5\": expected a duration such as 5s",
        ),
        (
            "[server.limits]\nmax_header_bytes = 100",
            "FILE:2: server.limits.max_header_bytes: invalid size \"100\": expected 8192 to",
        ),
        ("", "FILE: there are no backends: expected a table such as [pools.web]"),
        (
            "[pools.web]\nbackends = [\n  \"http://a:1\",\n  \"a:2\"]",
            "FILE:4: pools.web.backends[1]: invalid backend URL \"a:2\"",
        ),
        (
            "[pools.web]\nbackends = [\"http://a:1\", { url = \"http://A:1/\" }]",
            "FILE:2: pools.web.backends[1].url: duplicate backend http://a:1",
        ),
        (
            "[pools.web]\nbackends = [\"https://a\"]",
            "FILE:2: pools.web.backends[0]: backend https://a: TLS to backends is not supported",
        ),
        (
            "[pools.web]\nbackends = [{ url = \"http://a\", weight = -1 }]",
            "FILE:2: pools.web.backends[0].weight: invalid weight",
        ),
        (
            "[pools.web]\nbackends = [\"http://127.0.0.1:3000\"]",
            "FILE:2: pools.web.backends[0]: backend http://127.0.0.1:3000 is the gateway itself",
        ),
        (
            "[pools.web]\nstrategy = \"fastest\"",
            "FILE:2: pools.web.strategy: unknown strategy \"fastest\": expected one of round_robin, ",
        ),
        (
            "[pools.web]\nstrategy = { name = \"consistent_hash\", algorithm = \"md5\" }",
            "FILE:2: pools.web.strategy.algorithm: unknown algorithm \"md5\": expected one of ring, ",
        ),
        (
            "[pools.web]\nstrategy = { name = \"maglev\", key = \"body\" }",
            "FILE:2: pools.web.strategy.key: invalid key \"body\": expected header:NAME",
        ),
        (
            "[pools.web]\nstrategy = { name = \"random\", key = \"path\" }",
            "FILE:2: pools.web.strategy.key: this is of ring, maglev",
        ),
        (
            "[pools.web]\nstrategy = { name = \"ring\", bounded_load = 0.5 }",
            "FILE:2: pools.web.strategy.bounded_load: expected a factor from 1.0",
        ),
        (
            "[pools.web]\ndiscover = { dns = \"a\" }",
            "FILE:2: pools.web.discover: `discover` is not supported in this build",
        ),
        (
            "[pools.web]\nhealth = { kind = \"tcp\", path = \"/\" }",
            "FILE:2: pools.web.health.path: this is of checks of kind http, and the kind is tcp",
        ),
        (
            "[pools.web]\nhealth = \"icmp\"",
            "FILE:2: pools.web.health: invalid value \"icmp\": expected http, tcp, grpc, off",
        ),
        (
            "[pools.web]\nhealth = { status = [\"2xx\"] }",
            "FILE:2: pools.web.health.status[0]: invalid status \"2xx\": expected one such as 200",
        ),
        (
            "[pools.web]\noutlier = { max_ejected = \"150%\" }",
            "FILE:2: pools.web.outlier.max_ejected: invalid share \"150%\": expected a number from 0 to 1",
        ),
        (
            "[pools.web]\noutlier = { percent = 5 }",
            "FILE:2: pools.web.outlier.percent: this is of the detector failure_percentage",
        ),
        (
            "[pools.web]\nretry = { attempts = 0 }",
            "FILE:2: pools.web.retry.attempts: invalid number \"0\": expected a whole number from 1",
        ),
        ("[pools.web]\nhedge = { share = 0.1 }", "FILE:2: pools.web.hedge.share: this is of kind = \"late\""),
        (
            "[pools.web]\nfail_open = \"wait\"",
            "FILE:2: pools.web.fail_open: nobody could wait: expected limits.max_waiting",
        ),
        (
            "[pools.web]\nlimits = { max_in_flight_per_backend = 5, adaptive = {} }",
            "FILE:2: pools.web.limits.max_in_flight_per_backend: limits.adaptive moves this",
        ),
        (
            "[pools.web]\nsession = { cookie = \"a\", secret = \"b\" }",
            "FILE:2: pools.web.session.secret: invalid session secret: expected 32",
        ),
        (
            "[pools.web]\nsession = { cookie = \"a b\", secret = \"00112233445566778899aabbccddeeff\" }",
            "FILE:2: pools.web.session.cookie: invalid cookie name",
        ),
        (
            "[pools.web]\nupstream = { protocol = \"auto\" }",
            "FILE:2: pools.web.upstream.protocol: auto is not supported in this build: expected http1 or h2",
        ),
        (
            "[pools.web]\nupstream = { tls = { ca = \"a\" } }",
            "FILE:2: pools.web.upstream.tls: `tls` is not supported in this build",
        ),
        (
            &format!("{pool}[[routes]]\npool = \"api\""),
            "FILE:4: routes[0].pool: there is no pool \"api\": expected one of web",
        ),
        (
            &format!("{pool}[[routes]]\nhost = \"a:80\"\npool = \"web\""),
            "FILE:4: routes[0].host: invalid host \"a:80\": expected a host without a port",
        ),
        (
            &format!("{pool}[[routes]]\npath_prefix = \"api\"\npool = \"web\""),
            "FILE:4: routes[0].path_prefix: invalid path prefix",
        ),
        (
            &format!("{pool}[[routes]]\npool = \"web\"\n[[routes]]\npath_prefix = \"/\"\npool = \"web\""),
            "FILE:7: routes[1].pool: another route has the same host and path_prefix",
        ),
        (&format!("{pool}[pools.api]\n"), "FILE: there are several pools and no routes: expected [[routes]]"),
        (
            "[server]\nlisten = \"127.0.0.1:3100\"\n[pools.web]",
            "FILE:2: server.listen: server.listen 127.0.0.1:3100 and --admin collide",
        ),
    ] {
        let (code, said) = check(text);
        assert_eq!(code, 2, "{text}: {said}");
        assert!(said.starts_with(&format!("gateway: {expected}")), "{text}: {said}");
    }
    let nowhere = run(&["--config", "/nowhere.toml"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere.toml: cannot be read: No such file"));
}

#[test]
fn variables_of_the_environment_stand_in_values() {
    let text = r#"
        [server]
        workers = "${TEST_WORKERS}"
        [pools.web] # ${TEST_UNSET} in a comment is nothing
        backends = ["http://${TEST_HOST:-localhost}:${TEST_PORT:-8080}"]
        health = { path = "/a$$b" }
    "#;
    let file = ConfigFile::new(text);
    let check = |workers: Option<&str>| {
        let mut command = Command::new(binary());
        command.args(["--check", "--config", file.path()]).env("TEST_PORT", "9090").env("TEST_HOST", "");
        if let Some(workers) = workers {
            command.env("TEST_WORKERS", workers);
        }
        command.output().unwrap()
    };
    let said = String::from_utf8(check(Some("3")).stdout).unwrap();
    for line in ["workers          3\n", "backend          http://localhost:9090\n", "GET /a$b every"] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    for (workers, expected) in [
        (None, ":3: server.workers: the environment variable TEST_WORKERS is not set"),
        (Some("many"), ":3: server.workers: invalid number \"many\": expected 1..=1024"),
    ] {
        let output = check(workers);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    for wrong in ["$HOST", "${HOST", "${}", "${a b}"] {
        let (code, said) = self::check(&format!("[server]\nlisten = \"{wrong}\""));
        assert_eq!(code, 2);
        assert!(said.contains("FILE:2: server.listen: ") && said.contains("expected ${NAME}"), "{said}");
    }
}

#[test]
fn flags_go_over_the_file() {
    let file = ConfigFile::new(
        "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 7\n[pools.web]\nbackends = [\"http://a\"]\nstrategy = \"random\"",
    );
    let flags = ["--listen", "127.0.0.1:2", "--strategy", "maglev", "--key", "path", "--health-interval", "9s"];
    let output = Command::new(binary()).args(["--check", "--config", file.path()]).args(flags).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for line in ["listen           127.0.0.1:2\n", "workers          7\n", "strategy         maglev\n", "every 9s"] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    let pools = ConfigFile::new("[pools.a]\n[pools.b]\n[[routes]]\npool = \"a\"");
    let output = run(&["--check", "--config", pools.path(), "--backend", "http://a"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--backend: the file has 2 pools"));
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let three = "backends = [{ url = \"http://a\", weight = 3 }, \"http://b\", \"http://c\"]";
    for (text, warning) in [
        (format!("[pools.web]\n{three}\noutlier = {{ max_ejected = \"10%\" }}"), "max_ejected 10 % of 3 backends = 0"),
        (format!("[pools.web]\n{three}\noutlier = {{ max_ejected = 0 }}"), "max_ejected 0 % of 3 backends = 0: nobody"),
        (
            format!("[pools.web]\n{three}\nretry = {{ attempts = 3 }}\nhedge = \"late\""),
            "retries x hedges = up to 6 attempts",
        ),
        (format!("[pools.web]\n{three}\nretry = {{ attempts = 4 }}"), "4 attempts on 3 backends"),
        (
            format!("[pools.web]\n{three}\nretry = {{ budget = 0, min_per_second = 0 }}"),
            "the budget of the retries is nothing",
        ),
        (
            format!("[pools.web]\n{three}\nhealth = {{ timeout = \"6s\" }}"),
            "the health timeout is longer than the interval",
        ),
        (format!("[pools.web]\n{three}\nstrategy = \"maglev\""), "maglev goes by key, and there is no strategy.key"),
        (format!("[pools.web]\n{three}\n"), "weights do nothing under round_robin"),
        (
            format!("[pools.web]\n{three}\nupstream = {{ protocol = \"h2\", max_idle = 3 }}"),
            "upstream.max_idle does nothing over h2",
        ),
        (
            format!("[pools.web]\n{three}\nupstream = {{ protocol = \"h2\" }}"),
            "health checks of kind http speak HTTP/1.1",
        ),
        (
            format!("[pools.web]\n{three}\nlimits = {{ wait = \"1s\" }}"),
            "limits.wait and limits.max_waiting do nothing without each other",
        ),
        (
            format!("[pools.web]\n{three}\nlimits = {{ wait = \"1s\", max_waiting = 5 }}"),
            "requests wait also while no backend is well",
        ),
        (
            "[pools.web]\nbackends = [{ url = \"http://a\", zone = \"b\" }]".into(),
            "zones do nothing: server.zone is not set",
        ),
        (
            "[server]\nzone = \"a\"\n[pools.web]\nbackends = [{ url = \"http://a\", zone = \"b\" }]".into(),
            "no backend is in zone a",
        ),
        ("[pools.web]\nbackends = [{ url = \"http://a\", priority = 2 }]".into(), "no backend has priority 0"),
        ("[pools.web]\nbackends = [{ url = \"http://a\", weight = 0 }]".into(), "all weights are 0"),
        ("[pools.web]".into(), "there are no backends: every request is answered 503"),
        (format!("[pools.web]\n{three}\n[pools.b]\n{three}\n[[routes]]\npool = \"b\""), "no route leads to pool web"),
        (format!("[server]\nshutdown_grace = \"1s\"\n[pools.web]\n{three}"), "server.shutdown_grace is over before"),
        (
            format!("[server.limits]\nrequest_timeout = \"1s\"\n[pools.web]\n{three}"),
            "server.limits.request_timeout is over before",
        ),
        (format!("[server]\ntrusted_proxies = [\"::/0\"]\n[pools.web]\n{three}"), "trusted_proxies has everyone"),
    ] {
        let (code, said) = check(&text);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&format!("warning          {warning}")), "{warning:?} is missing in\n{said}");
    }
    let (_, said) = check("[pools.web]\nbackends = [\"http://a\", \"http://b\"]");
    assert!(!said.contains("warning"), "{said}");
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
    // HTTP/2 has the name in :authority.
    let request = Request::get(format!("{}/api", gateway.url)).body(Full::<Bytes>::default()).unwrap();
    let h2 = tower_balancer::http::ClientConfig::new().http2().build();
    let response = h2.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_full_sheds_at_once_or_after_a_wait() {
    let slow = Server::http(answers_with(|_| async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        http::Response::new(Full::<Bytes>::from("done"))
    }))
    .await;
    let url = slow.url();
    for (limits, answered) in [
        ("max_in_flight = 1", 1),
        ("max_in_flight = 1, max_waiting = 1, wait = \"5s\"", 2),
        ("max_in_flight = 1, max_waiting = 2, wait = \"5s\"", 3),
        ("max_in_flight = 1, max_waiting = 2, wait = \"10ms\"", 1),
        ("max_in_flight_per_backend = 1", 1),
        ("max_in_flight_per_backend = 1, max_waiting = 2, wait = \"5s\"", 3),
    ] {
        let text =
            format!("[pools.web]\nbackends = [\"{url}\"]\nhealth = \"off\"\nhedge = \"off\"\nlimits = {{ {limits} }}");
        let gateway = Gateway::by(&ConfigFile::new(&text));
        let ask = || async {
            common::client().oneshot(Request::get(&gateway.url).body(Full::default()).unwrap()).await.unwrap()
        };
        let responses: Vec<_> = futures_util::future::join_all([ask(), ask(), ask()]).await;
        let ok = responses.iter().filter(|response| response.status() == 200).count();
        assert_eq!(ok, answered, "{limits}");
        let shed = responses.iter().filter(|response| response.status() == 503);
        assert!(shed.clone().all(|response| response.headers().contains_key(header::RETRY_AFTER)), "{limits}");
        assert_eq!(ok + shed.count(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standbys_get_nothing_and_zones_stay_at_home_until_they_must() {
    let servers =
        [Server::http(says("here")).await, Server::http(says("far")).await, Server::http(says("standby")).await];
    let [here, far, standby] = servers.each_ref().map(Server::url);
    let file = ConfigFile::new(&format!(
        r#"
        [server]
        zone = "a"
        [pools.web]
        backends = [
            {{ url = "{here}", zone = "a" }},
            {{ url = "{far}", zone = "b" }},
            {{ url = "{standby}", zone = "a", priority = 1 }},
        ]
        health = {{ interval = "200ms", timeout = "100ms" }}
        "#
    ));
    let gateway = Gateway::by(&file);
    for _ in 0..20 {
        assert_eq!(get(&gateway.url).await, (200, "here".into()));
    }
    let [here, far, _standby] = servers;
    here.kill().await;
    common::until(|| async { get(&gateway.url).await.1 == "far" }).await;
    far.kill().await;
    common::until(|| async { get(&gateway.url).await.1 == "standby" }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_and_a_key_finds_its_backend() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await, Server::http(says("three")).await];
    let backends = servers.each_ref().map(|server| format!("{:?}", server.url())).join(", ");
    let file = ConfigFile::new(&format!(
        r#"
        [pools.session]
        backends = [{backends}]
        session = {{ cookie = "stay", secret = "00112233445566778899aabbccddeeff", secure = true, max_age = "1h" }}
        [pools.key]
        backends = [{backends}]
        strategy = {{ name = "consistent_hash", algorithm = "rendezvous", key = "query:user", bounded_load = 0 }}
        [[routes]]
        path_prefix = "/session"
        pool = "session"
        [[routes]]
        path_prefix = "/key"
        pool = "key"
        "#
    ));
    let gateway = Gateway::by(&file);
    let request = Request::get(format!("{}/session", gateway.url)).body(Full::<Bytes>::default()).unwrap();
    let response = common::client().oneshot(request).await.unwrap();
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("stay=") && cookie.contains("Secure") && cookie.contains("Max-Age=3600"), "{cookie}");
    let token = cookie.split(';').next().unwrap();
    let with_cookie = || Request::get(format!("{}/session", gateway.url)).header(header::COOKIE, token);
    let first = send(with_cookie().body(Full::default()).unwrap()).await;
    for _ in 0..6 {
        assert_eq!(send(with_cookie().body(Full::default()).unwrap()).await, first);
    }
    let mut owners = BTreeSet::new();
    for user in 0..20 {
        let url = format!("{}/key?user={user}", gateway.url);
        let owner = get(&url).await;
        assert_eq!(get(&url).await, owner);
        owners.insert(owner.1);
    }
    assert_eq!(owners.len(), 3);
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
    // The last that is no proxy of ours: what stands before it may be made up.
    assert_eq!(claims(&Gateway::by(&ConfigFile::new(&trusting))).await, (200, "2.2.2.2 https".into()));
    assert_eq!(claims(&Gateway::by(&ConfigFile::new(&pool))).await, (200, "127.0.0.1 http".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_addresses_are_listened_on_and_clients_are_not_waited_for_without_end() {
    let server = Server::http(says("one")).await;
    let second = common::gateway::free_port();
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
            _ = stream
                .read_to_end(&mut answer)
                .inspect_err(|error| assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock));
            String::from_utf8(answer).unwrap()
        })
    };
    assert_eq!(ends(b"").await.unwrap(), "");
    assert_eq!(ends(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap(), "");
    let answered = ends(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with("one"), "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_most_connections_the_next_waits_its_turn() {
    let server = Server::http(says("one")).await;
    let text = format!("[server.limits]\nmax_connections = 1\n[pools.web]\nbackends = [\"{}\"]", server.url());
    let gateway = Gateway::by(&ConfigFile::new(&text));
    let first = common::client();
    let ask = || Request::get(&gateway.url).body(Full::<Bytes>::default()).unwrap();
    let response = first.clone().oneshot(ask()).await.unwrap();
    _ = http_body_util::BodyExt::collect(response.into_body()).await;
    // The first keeps its connection, so the second is not accepted.
    let second = tokio::time::timeout(Duration::from_millis(300), common::client().oneshot(ask())).await;
    assert!(second.is_err(), "it was answered beyond the limit");
    drop(first);
    assert_eq!(get(&gateway.url).await, (200, "one".into()));
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
