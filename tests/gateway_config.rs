//! What the gateway's configuration file says is what it does: the real binary, by files of its own.

mod common;

use common::gateway::{ConfigFile, binary, run};
use std::{collections::BTreeSet, process::Command};

const EXAMPLE: &str = "examples/gateway/gateway.toml";

/// Exit code, and what was said.
fn check(text: &str) -> (i32, String) {
    let file = ConfigFile::new(text);
    let output = run(&["--check", "--config", file.path()]);
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(said).unwrap().replace(file.path(), "FILE"))
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
        ("fleet", "[fleet]\nzzz = 1\n"),
        ("pool", "[pools.a]\nzzz = 1\n"),
        ("discover", "[pools.a]\ndiscover = { zzz = 1 }\n"),
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
        ("upstream.tls", "[pools.a.upstream.tls]\nzzz = 1\n"),
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
            "[server]\nlisten = [\"0.0.0.0:80\", \"[::]:80\"]",
            "FILE:2: server.listen[1]: [::]:80 and 0.0.0.0:80 collide: expected each address once",
        ),
        (
            "[server]\nadmin = \"0.0.0.0:1\"",
            "FILE:2: server.admin: server.admin 0.0.0.0:1 is not a loopback address: expected server.admin_token",
        ),
        ("[server]\ntls = { cert = \"a\", key = \"b\" }", "FILE:2: server.tls.cert: a: I/O error: No such file"),
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
            "[pools.web]\nupstream = { protocol = \"http3\" }",
            "FILE:2: pools.web.upstream.protocol: invalid value \"http3\": expected http1, h2, auto",
        ),
        (
            "[pools.web]\nupstream = { tls = { ca = \"/nowhere.pem\" } }",
            "FILE:2: pools.web.upstream.tls.ca: \"/nowhere.pem\" cannot be read: No such file or directory",
        ),
        (
            "[pools.web]\nupstream = { tls = { ca = \"Cargo.toml\" } }",
            "FILE:2: pools.web.upstream.tls.ca: Cargo.toml: invalid CA: expected certificates in PEM, found none",
        ),
        (
            "[pools.web]\nupstream = { tls = { cert = \"Cargo.toml\" } }",
            "FILE:2: pools.web.upstream.tls.cert: this is of no use alone: expected key as well",
        ),
        (
            "[pools.web]\nupstream = { tls = { cert = \"Cargo.toml\", key = \"Cargo.toml\" } }",
            "FILE:2: pools.web.upstream.tls.cert: Cargo.toml: invalid certificate: expected certificates in PEM",
        ),
        (
            "[pools.web]\nupstream = { tls = { server_name = \"a b\" } }",
            "FILE:2: pools.web.upstream.tls.server_name: invalid server name: \"a b\" is neither a DNS name nor",
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
        trusted_proxies = ["10.0.0.0/8"]
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
    for line in [
        "trusted proxies  10.0.0.0/8\n",
        "workers          3\n",
        "backend          http://localhost:9090\n",
        "GET /a$b every",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    for (workers, expected) in [
        (None, ":4: server.workers: the environment variable TEST_WORKERS is not set"),
        (Some("many"), ":4: server.workers: invalid number \"many\": expected 1..=1024"),
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
        (format!("[pools.web]\n{three}\nretry = {{ attempts = 4 }}"), "retry.attempts is 4, and the backends are 3"),
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
            format!("[pools.web]\n{three}\nupstream = {{ protocol = \"auto\" }}"),
            "upstream.protocol auto is http1: no backend is https://",
        ),
        (
            format!("[pools.web]\n{three}\nupstream = {{ tls = {{ server_name = \"d\" }} }}"),
            "upstream.tls does nothing: no backend is https://",
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
    // Checks of kind http speak what requests speak.
    for upstream in ["", "upstream = { protocol = \"h2\" }"] {
        let (_, said) = check(&format!("[pools.web]\nbackends = [\"http://a\", \"http://b\"]\n{upstream}"));
        assert!(!said.contains("warning"), "{said}");
    }
    // Nor is a default meant by anybody.
    assert!(!check("[pools.web]\nbackends = [\"http://a\"]\n").1.contains("warning"));
}

#[test]
fn what_we_show_is_what_the_gateway_takes_without_a_warning() {
    let [readme, guide, example] =
        ["README.md", "examples/gateway/OPERATIONS.md", EXAMPLE].map(|path| std::fs::read_to_string(path).unwrap());
    let texts = [&*readme, &guide].into_iter().flat_map(|text| text.split("```toml\n").skip(1));
    let texts = texts.filter_map(|rest| rest.split("```").next());
    let files: Vec<_> = texts.filter(|text| text.contains("[pools.")).chain([&*example]).collect();
    assert_eq!(files.len(), 4);
    for file in files {
        let (code, said) = check(file);
        assert_eq!(code, 0, "{file}: {said}");
        assert!(!said.contains("warning"), "{file}: {said}");
    }
}
