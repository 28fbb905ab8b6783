//! A gateway that is told who its backends are, while clients never stop asking: the real binary, and not one failed GET.

#![cfg_attr(not(all(feature = "dns", feature = "file")), allow(unused, reason = "each source has its tests"))]

mod common;
#[cfg(all(feature = "dns", feature = "tls"))]
#[path = "common/tls.rs"]
mod tls;

use common::{
    Server,
    admin::is_described,
    gateway::{ConfigFile, Gateway, free_port, run},
    gateway_load::{Load, pools},
    get, says, until,
};
use serde_json::Value;
use std::{collections::BTreeSet, fs};

/// A gateway whose pool is described by `text`, and its admin server.
fn gateway(text: &str) -> (Gateway, String, ConfigFile) {
    let file = ConfigFile::new(&format!("[pools.web]\n{text}\n"));
    let admin = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&["--admin", &admin, "--workers", "2", "--config", file.path()]);
    (gateway, admin, file)
}

async fn discover(admin: &str) -> Value {
    let told = pools(admin).await["pools"][0]["discover"].clone();
    if told.is_object() {
        is_described("Discover", &told);
    }
    told
}

/// Those that take requests.
async fn eligible(admin: &str) -> BTreeSet<String> {
    let told = pools(admin).await;
    let backends = told["pools"][0]["backends"].as_array().unwrap().iter();
    let healthy = backends.filter(|backend| backend["state"] == "healthy");
    healthy.map(|backend| backend["id"].as_str().unwrap().to_owned()).collect()
}

async fn are_eligible(admin: &str, servers: &[&Server]) {
    let expected: BTreeSet<_> = servers.iter().map(|server| server.url()).collect();
    until(|| async { eligible(admin).await == expected }).await;
}

async fn nothing_failed(load: Load) {
    load.more(50).await;
    let (answered, failed) = load.end().await;
    assert!(answered > 100, "{answered}");
    assert!(failed.is_empty(), "{} of {answered} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
}

async fn three() -> [Server; 3] {
    [Server::http(says("one")).await, Server::http(says("two")).await, Server::http(says("three")).await]
}

#[test]
fn what_is_wrong_with_a_source_is_told_by_key() {
    let check = |discover: &str| {
        let file = ConfigFile::new(&format!("[pools.web]\ndiscover = {discover}\n"));
        let output = run(&["--check", "--config", file.path()]);
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code().unwrap(), String::from_utf8(said).unwrap().replace(file.path(), "FILE"))
    };
    let etcd = "etcd = \"http://127.0.0.1:1\"";
    let by = |more: &str| format!("{{ etcd = {{ endpoints = [\"http://127.0.0.1:1\"], {more} }}, prefix = \"/a/\" }}");
    for (discover, expected) in [
        ("{}".to_owned(), "FILE:2: pools.web.discover: no source: expected one of dns, file, etcd, kubernetes"),
        (
            "{ file = \"a\", dns = \"b\" }".to_owned(),
            "more than one source: expected one of dns, file, etcd, kubernetes",
        ),
        ("{ file = \"a\", port = 80 }".to_owned(), "pools.web.discover.port: this is of a source by dns or kubernetes"),
        (
            "{ dns = \"a\", port = \"http\" }".to_owned(),
            "discover.port: invalid port \"http\": expected a number from 1",
        ),
        ("{ dns = \"a\", kubeconfig = \"b\" }".to_owned(), "discover.kubeconfig: this is of a source by kubernetes"),
        ("{ kubernetes = \"a\", context = \"b\" }".to_owned(), "discover.context: expected kubeconfig as well"),
        ("{ kubernetes = \"a\", refresh = \"1s\" }".to_owned(), "discover.refresh: kubernetes tells of changes"),
        ("{ dns = \"a\", prefix = \"b\" }".to_owned(), "discover.prefix: this is of a source by etcd"),
        (format!("{{ {etcd}, prefix = \"/a/\", refresh = \"1s\" }}"), "discover.refresh: etcd tells of changes"),
        (format!("{{ {etcd} }}"), "discover.etcd: expected prefix as well"),
        ("{ etcd = [\"http://127.0.0.1:1\"] }".to_owned(), "discover.etcd[0]: expected prefix as well"),
        ("{ etcd = [], prefix = \"/a/\" }".to_owned(), "discover.etcd: the list is empty: expected one or more"),
        ("{ etcd = \"127.0.0.1:2379\", prefix = \"/a/\" }".to_owned(), "discover.etcd: invalid endpoint"),
        (by("user = \"b\""), "discover.etcd.user: expected password or password_file"),
        (by("cert = \"b\""), "discover.etcd.cert: expected key as well"),
        (by("users = \"b\""), "discover.etcd.users: unknown field"),
        (
            by("user = \"b\", password_file = \"/nowhere\""),
            "discover.etcd.password_file: /nowhere: cannot be read: No such file",
        ),
        ("{ etcd = \"https://127.0.0.1:2379\", prefix = \"/a/\" }".to_owned(), "discover.etcd: expected ca as well"),
    ] {
        let (code, said) = check(&discover);
        assert!(code == 2 && said.contains(expected), "{discover}: {said}");
    }
    #[cfg(feature = "dns")]
    {
        assert!(check("{ dns = \"10.0.0.1\" }").1.contains("discover.dns: invalid name"));
        let is_warned =
            |discover| check(discover).1.contains("warning          without discover.port services are looked up");
        assert!(is_warned("{ dns = \"web.internal\" }"));
        assert!(!is_warned("{ dns = \"web.internal\", port = 80 }") && !is_warned("{ dns = \"_http._tcp.a\" }"));
    }
    #[cfg(feature = "kubernetes")]
    assert!(check("{ kubernetes = \"web.shop.svc\" }").1.contains("discover.kubernetes: invalid service"));
    // What is not in the build is refused, with what to do about it.
    for (source, feature, is_built) in [
        ("{ dns = \"web.internal\" }", "dns", cfg!(feature = "dns")),
        ("{ file = \"backends.toml\" }", "file", cfg!(feature = "file")),
        ("{ etcd = \"http://127.0.0.1:2379\", prefix = \"/web/\" }", "etcd", cfg!(feature = "etcd")),
        ("{ kubernetes = \"web.shop\", port = \"http\" }", "kubernetes", cfg!(feature = "kubernetes")),
    ] {
        let (code, said) = check(source);
        let command = format!("`cargo build --release --features {feature} --example gateway`");
        assert_eq!((code, said.contains(&command)), if is_built { (0, false) } else { (2, true) }, "{said}");
    }
}

/// A list of backends that is removed when dropped.
#[cfg(feature = "file")]
fn list(servers: &[&Server]) -> String {
    let urls: Vec<_> = servers.iter().map(|server| format!("{:?}", server.url())).collect();
    format!("backends = [{}]\n", urls.join(", "))
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_a_file_changes_is_torn_emptied_broken_and_gone() {
    let [one, two, three] = three().await;
    let backends = ConfigFile::new(&list(&[&one, &two]));
    let rest = format!("file = {:?}, refresh = \"20ms\", confirm_after = \"1h\"", backends.path());
    let (gateway, admin, _config) = gateway(&format!("discover = {{ {rest} }}"));
    // From the first request on.
    let load = Load::on(&gateway.url, 6);
    are_eligible(&admin, &[&one, &two]).await;
    assert_eq!(discover(&admin).await["source"], format!("file {}", backends.path()));

    backends.write(&list(&[&one, &two, &three]));
    are_eligible(&admin, &[&one, &two, &three]).await;
    load.more(50).await;
    // In pieces, each of which is there for less than it takes to be believed.
    let text = list(&[&two, &three]);
    for end in (0..text.len()).step_by(9) {
        backends.write(&text[..end]);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    backends.write(&text);
    are_eligible(&admin, &[&two, &three]).await;
    load.more(50).await;

    backends.write("backends = [");
    until(|| async { discover(&admin).await["failures"] != 0 }).await;
    let told = discover(&admin).await;
    assert!(told["last_error"].is_string() && told["failing_since_seconds"].is_number(), "{told}");
    are_eligible(&admin, &[&two, &three]).await;
    fs::remove_file(backends.as_path()).unwrap();
    load.more(50).await;
    are_eligible(&admin, &[&two, &three]).await;

    // Nobody is there, and nobody believes it; who repairs it is believed.
    backends.write("backends = []\n");
    until(|| async { discover(&admin).await["doubted"] == 2 }).await;
    load.more(50).await;
    backends.write(&format!("backends = [{:?}, \"ftp://a\", {:?}, {:?}]", two.url(), three.url(), gateway.url));
    until(|| async { discover(&admin).await["doubted"] == 0 }).await;
    are_eligible(&admin, &[&two, &three]).await;
    let told = discover(&admin).await;
    let skipped: Vec<_> = told["skipped"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect();
    assert!(skipped.len() == 2 && skipped[0].contains("ftp://a"), "{told}");
    assert!(skipped[1].contains("is the gateway itself"), "{told}");
    // Who dies as well as leaves is no loss.
    backends.write(&list(&[&three]));
    two.kill().await;
    are_eligible(&admin, &[&three]).await;
    nothing_failed(load).await;
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_the_source_of_a_pool_is_replaced_and_who_stays_keeps_his_state() {
    let [one, two, three] = three().await;
    let (first, second) = (ConfigFile::new(&list(&[&one, &two])), ConfigFile::new(&list(&[&two, &three])));
    let dead = ConfigFile::new("");
    fs::remove_file(dead.as_path()).unwrap();
    let pool = |rest: &str| format!("[pools.web]\nhealth = {{ interval = \"1h\", fast_interval = \"1h\" }}\n{rest}\n");
    let by = |file: &ConfigFile, more: &str| {
        pool(&format!("discover = {{ file = {:?}, refresh = \"20ms\"{more} }}", file.path()))
    };
    let config = ConfigFile::new(&by(&first, ""));
    let admin = format!("127.0.0.1:{}", free_port());
    let gateway = Gateway::start(&["--admin", &admin, "--workers", "2", "--config", config.path()]);
    let load = Load::on(&gateway.url, 4);
    are_eligible(&admin, &[&one, &two]).await;
    let completed = async |server: &Server| {
        let told = pools(&admin).await;
        let backends = told["pools"][0]["backends"].as_array().unwrap().clone();
        backends
            .iter()
            .find(|backend| backend["id"] == server.url())
            .map(|backend| backend["completed"].as_u64().unwrap())
    };
    load.more(100).await;
    let before = completed(&two).await.unwrap();
    assert!(before > 0);
    let reload = async |text: &str| {
        config.replace(text);
        gateway.line("INFO: Configuration reloaded");
        load.more(30).await;
    };

    // The same source: it goes on, and its state with it.
    let version = discover(&admin).await["version"].clone();
    reload(&(by(&first, "") + "strategy = \"random\"\n")).await;
    assert_eq!(discover(&admin).await["version"], version);
    // Another.
    reload(&by(&second, "")).await;
    are_eligible(&admin, &[&two, &three]).await;
    assert!(completed(&two).await.unwrap() > before);
    // One that cannot be read: whom the one before it named is there.
    reload(&by(&dead, "")).await;
    until(|| async { discover(&admin).await["failures"] != 0 }).await;
    are_eligible(&admin, &[&two, &three]).await;
    // The file itself, and a source again.
    reload(&pool(&format!("backends = [{:?}]", one.url()))).await;
    are_eligible(&admin, &[&one]).await;
    assert_eq!(discover(&admin).await, Value::Null);
    // What the source that was there before says is nobody's business any more.
    second.write(&list(&[&three]));
    load.more(100).await;
    are_eligible(&admin, &[&one]).await;
    reload(&by(&second, ", confirm_after = \"100ms\"")).await;
    are_eligible(&admin, &[&three]).await;
    nothing_failed(load).await;
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread")]
async fn until_a_source_answers_there_are_those_of_the_file_and_a_gateway_without_any_is_not_ready() {
    let [one, two, _] = three().await;
    let missing = ConfigFile::new("");
    fs::remove_file(missing.as_path()).unwrap();
    let source =
        format!("discover = {{ file = {:?}, refresh = \"20ms\", at_once = 1, drain = \"1s\" }}", missing.path());
    let (begun, admin, _config) = gateway(&format!("backends = [{:?}]\n{source}", one.url()));
    assert_eq!(get(&begun.url).await.1, "one");
    assert_eq!(get(format!("http://{admin}/readyz")).await.0, 200);
    until(|| async { discover(&admin).await["failures"] != 0 }).await;
    assert_eq!(discover(&admin).await["ready"], false);
    missing.write(&list(&[&two]));
    // The back-off of the source is a second or two.
    are_eligible(&admin, &[&two]).await;
    assert_eq!((get(&begun.url).await.1, discover(&admin).await["ready"].clone()), ("two".into(), true.into()));

    fs::remove_file(missing.as_path()).unwrap();
    let (gateway, admin, _config) = gateway(&source);
    assert_eq!(get(&gateway.url).await.0, 503);
    assert_eq!(get(format!("http://{admin}/readyz")).await.0, 503);
    missing.write(&list(&[&one]));
    until(|| async { get(format!("http://{admin}/readyz")).await.0 == 200 }).await;
    assert_eq!(get(&gateway.url).await.1, "one");
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_has_the_tier_and_the_zone_that_its_source_says() {
    let [one, two, three] = three().await;
    let text = format!(
        "backends = [{{ url = {:?}, priority = 1 }}, {{ url = {:?}, zone = \"b\" }}, {{ url = {:?}, zone = \"a\", weight = 3 }}]",
        one.url(),
        two.url(),
        three.url()
    );
    let backends = ConfigFile::new(&text);
    let source = format!("file = {:?}, refresh = \"20ms\", at_once = 1, confirm_after = \"0s\"", backends.path());
    let file = ConfigFile::new(&format!("[server]\nzone = \"a\"\n[pools.web]\ndiscover = {{ {source} }}\n"));
    let gateway = Gateway::by(&file);
    // The first tier, and in it the own zone.
    for _ in 0..6 {
        assert_eq!(get(&gateway.url).await.1, "three");
    }
    backends.write(&text.replace(", zone = \"a\"", ", zone = \"c\"").replace("\"b\"", "\"a\""));
    until(|| async { get(&gateway.url).await.1 == "two" }).await;
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_drains_whom_a_source_brought_and_does_not_contradict_it() {
    let servers = three().await;
    let [one, two, three] = servers.each_ref();
    let backends = ConfigFile::new(&list(&[one, two]));
    let (_gateway, address, _config) =
        gateway(&format!("discover = {{ file = {:?}, refresh = \"20ms\" }}", backends.path()));
    are_eligible(&address, &[one, two]).await;
    let mut operator = common::admin::Operator::new();
    operator.address = address.clone();
    let new = serde_json::json!({ "url": three.url() }).to_string();
    for refused in [
        operator.ask("POST", "/pools/web/backends", &new).await,
        operator.ask("DELETE", &common::admin::at("web", &one.url(), ""), "").await,
    ] {
        assert_eq!(refused.status, 409);
        assert!(
            refused.error().starts_with("the source of pool web says who is there: expected a change at the source")
        );
    }
    assert_eq!(operator.post(&common::admin::at("web", &one.url(), "/drain")).await.status, 200);
    // The source has news of others: what was said here holds.
    backends.replace(&list(&[one, two, three]));
    are_eligible(&address, &[two, three]).await;
    assert_eq!(operator.backend("web", &one.url()).await["state"], "draining");
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_has_the_limit_of_the_pool() {
    let one = Server::http(says("one")).await;
    let (slow, may) = common::waits().await;
    let backends = ConfigFile::new(&list(&[&one]));
    let source = format!("file = {:?}, refresh = \"20ms\", at_once = 1, confirm_after = \"0s\"", backends.path());
    let limits = "limits = { max_in_flight_per_backend = 1 }\nhealth = \"off\"\nretry = { attempts = 1 }";
    let (gateway, admin, _config) = gateway(&format!("discover = {{ {source} }}\n{limits}"));
    are_eligible(&admin, &[&one]).await;
    backends.write(&list(&[&slow]));
    are_eligible(&admin, &[&slow]).await;
    let first = tokio::spawn(get(gateway.url.clone()));
    let in_flight = async || pools(&admin).await["pools"][0]["backends"][0]["in_flight"].clone();
    until(|| async { in_flight().await == 1 }).await;
    let second =
        tokio::time::timeout(std::time::Duration::from_secs(5), get(&gateway.url)).await.expect("it is refused");
    assert_eq!(second.0, 503);
    may.add_permits(1);
    assert_eq!(first.await.unwrap(), (200, "done".into()));
}

#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_takes_over_answers_nobody_before_it_knows_who_is_there() {
    let [one, two, _] = three().await;
    let backends = ConfigFile::new(&list(&[&one, &two]));
    let config = ConfigFile::new(&format!("[pools.web]\ndiscover = {{ file = {:?} }}\n", backends.path()));
    let port = free_port();
    let arguments = ["--admin", "off", "--workers", "2", "--config", config.path()];
    let mut gateway = Gateway::start_at(port, &arguments);
    let load = Load::on(&gateway.url, 6);
    for _ in 0..3 {
        load.more(50).await;
        let next = Gateway::start_at(port, &arguments);
        next.line("INFO: Health checker");
        assert_eq!(std::mem::replace(&mut gateway, next).stop(), Some(0));
    }
    nothing_failed(load).await;
}

#[cfg(feature = "dns")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_a_name_server_changes_its_mind_dies_comes_back_lies_and_lists_a_thousand() {
    use common::name_server::NameServer;
    let [one, two, three] = three().await;
    let dns = NameServer::start().await;
    let service = "_http._tcp.web.test.";
    let services = async |servers: &[&Server]| {
        dns.srv(service, servers.iter().map(|server| (0, 10, server.address.port(), "here.test."))).await;
    };
    dns.a("here.test.", [[127, 0, 0, 1]]).await;
    services(&[&one, &two]).await;
    let rest = format!("servers = [\"{}\"], refresh = \"50ms\", confirm_after = \"1h\"", dns.address);
    let (gateway, admin, _config) = gateway(&format!("discover = {{ dns = {service:?}, {rest} }}"));
    let load = Load::on(&gateway.url, 6);
    are_eligible(&admin, &[&one, &two]).await;
    assert_eq!(discover(&admin).await["source"], format!("dns {service}"));
    services(&[&one, &two, &three]).await;
    are_eligible(&admin, &[&one, &two, &three]).await;
    services(&[&two, &three]).await;
    are_eligible(&admin, &[&two, &three]).await;
    load.more(50).await;

    // Nobody, and nonsense: they stay.
    dns.srv(service, [(0, 0, 0, ".")]).await;
    until(|| async { discover(&admin).await["doubted"] == 2 }).await;
    load.more(50).await;
    services(&[&two, &three]).await;
    until(|| async { discover(&admin).await["doubted"] == 0 }).await;
    dns.a("here.test.", [[0, 0, 0, 0], [224, 0, 0, 1]]).await;
    until(|| async { discover(&admin).await["failures"] != 0 }).await;
    are_eligible(&admin, &[&two, &three]).await;
    dns.a("here.test.", [[127, 0, 0, 1]]).await;
    until(|| async { discover(&admin).await["failures"] == 0 }).await;

    // A thousand and more, of which all but two are dead: they are found out by the checks and by the requests.
    let dead = free_port();
    let addresses = (0..1_100_u16).map(|n| [127, 9, (n / 250) as u8, (n % 250) as u8 + 1]);
    dns.a("many.test.", addresses).await;
    let there = [&two, &three].map(|server| (0, 10, server.address.port(), "here.test."));
    dns.srv(service, there.into_iter().chain([(1, 1, dead, "many.test.")])).await;
    until(|| async { discover(&admin).await["members"] == 1_000 }).await;
    let told = discover(&admin).await;
    assert!(told["skipped"].to_string().contains("are left out"), "{told}");
    load.more(200).await;
    services(&[&two, &three]).await;
    load.more(50).await;
    nothing_failed(load).await;
    drop(gateway);
}

#[cfg(feature = "dns")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_the_name_server_is_dead() {
    use common::name_server::NameServer;
    let [one, two, _] = three().await;
    let dns = NameServer::start().await;
    let service = "_http._tcp.web.test.";
    dns.a("here.test.", [[127, 0, 0, 1]]).await;
    dns.srv(service, [(0, 10, one.address.port(), "here.test.")]).await;
    let rest = format!("servers = [\"{}\"], refresh = \"50ms\"", dns.address);
    let (gateway, admin, _config) = gateway(&format!("discover = {{ dns = {service:?}, {rest} }}"));
    let load = Load::on(&gateway.url, 6);
    are_eligible(&admin, &[&one]).await;
    let killed = dns.kill();
    until(|| async { discover(&admin).await["failures"] != 0 }).await;
    load.more(200).await;
    are_eligible(&admin, &[&one]).await;
    let dns = killed.again().await;
    dns.srv(service, [&one, &two].map(|server| (0, 10, server.address.port(), "here.test."))).await;
    are_eligible(&admin, &[&one, &two]).await;
    assert_eq!(discover(&admin).await["failures"], 0);
    nothing_failed(load).await;
}

#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_backends_join_leave_and_crash_and_the_etcd_is_killed_and_comes_back() {
    use common::etcd::Etcd;
    use std::time::Duration;
    use tower_balancer::{
        backend::Weight,
        discover::{Entry, EtcdRegistration},
    };
    let [one, two, three] = three().await;
    let Some(mut etcd) = Etcd::start("gateway").await else { return };
    let register = |server: &Server| {
        EtcdRegistration::new(etcd.config(), "/web/", Entry::new(server.url())).ttl(Duration::from_secs(2))
    };
    let first = register(&one);
    let second = register(&two);
    let third = register(&three);
    tokio::spawn(first.run());
    tokio::spawn(second.run());
    let source = format!("etcd = {:?}, prefix = \"/web/\"", etcd.url());
    let (gateway, admin, _config) = gateway(&format!("discover = {{ {source} }}\nstrategy = \"weighted_round_robin\""));
    are_eligible(&admin, &[&one, &two]).await;
    let load = Load::on(&gateway.url, 6);
    let third_run = tokio::spawn(third.run());
    are_eligible(&admin, &[&one, &two, &three]).await;

    // A weight, a drain by the command line's way, an orderly end, and one that is back.
    first.announce(Entry::new(one.url()).weight(Weight::new(5.0).unwrap()));
    let weight = async || {
        let told = pools(&admin).await;
        told["pools"][0]["backends"].as_array().unwrap().iter().find(|it| it["id"] == one.url()).unwrap()["weight"]
            .clone()
    };
    until(|| async { weight().await == 5.0 }).await;
    first.announce(Entry::new(one.url()).draining(true));
    are_eligible(&admin, &[&two, &three]).await;
    first.announce(Entry::new(one.url()));
    are_eligible(&admin, &[&one, &two, &three]).await;
    second.stop();
    are_eligible(&admin, &[&one, &three]).await;
    tokio::spawn(second.run());
    are_eligible(&admin, &[&one, &two, &three]).await;

    // A crash: it is out at once by its traffic, and gone when its lease is.
    third_run.abort();
    let address = three.kill().await;
    are_eligible(&admin, &[&one, &two]).await;
    until(|| async { discover(&admin).await["members"] == 2 }).await;

    etcd.kill();
    until(|| async { discover(&admin).await["failures"] != 0 }).await;
    load.more(200).await;
    are_eligible(&admin, &[&one, &two]).await;
    let three = Server::http_at(address, says("three")).await;
    etcd.run().await;
    tokio::spawn(third.run());
    are_eligible(&admin, &[&one, &two, &three]).await;
    nothing_failed(load).await;
}

#[cfg(all(feature = "dns", feature = "tls"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whom_a_name_server_tells_of_is_reached_over_tls_where_that_is_set_up() {
    use common::name_server::NameServer;
    use tls::{Authority, Backend, Speaks};
    let authority = Authority::new();
    let backend = Backend::serving(&Speaks::as_(authority.signs("web.internal")), says("in secret")).await;
    let ca = std::env::temp_dir().join(format!("gateway-discover-ca-{}.pem", std::process::id()));
    fs::write(&ca, &authority.pem).unwrap();
    let dns = NameServer::start().await;
    dns.a("web.test.", [[127, 0, 0, 1]]).await;
    let (gateway, admin, _config) = gateway(&format!(
        "discover = {{ dns = \"web.test\", port = {}, servers = [\"{}\"] }}\n\
         upstream = {{ tls = {{ ca = {ca:?}, server_name = \"web.internal\" }} }}",
        backend.port(),
        dns.address,
    ));
    until(|| async { eligible(&admin).await == BTreeSet::from([backend.url("127.0.0.1")]) }).await;
    assert_eq!(get(&gateway.url).await, (200, "in secret".to_owned()));
    fs::remove_file(ca).unwrap();
}

#[cfg(feature = "kubernetes")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_pods_are_replaced_and_the_api_server_forgets_cuts_dies_and_comes_back() {
    use common::api_server::{ApiServer, ready, unready};
    let [one, two, three] = three().await;
    let mut cluster = ApiServer::start().await;
    // Each pod has another number for the same port, so each has a slice.
    let put =
        |cluster: &ApiServer, server: &Server| cluster.put(&slice(server), server.address.port(), [ready("127.0.0.1")]);
    fn slice(server: &Server) -> String {
        format!("web-{}", server.address.port())
    }
    put(&cluster, &one);
    put(&cluster, &two);
    let kubeconfig = cluster.kubeconfig();
    let source = format!("kubernetes = \"web.shop\", port = \"http\", kubeconfig = {:?}", kubeconfig.path());
    let (gateway, admin, config) = gateway(&format!("discover = {{ {source}, confirm_after = \"4s\" }}"));
    let checked = String::from_utf8(run(&["--check", "--config", config.path()]).stdout).unwrap();
    assert!(checked.contains("kubernetes web.shop, port http, by the kubeconfig "), "{checked}");
    let load = Load::on(&gateway.url, 6);
    are_eligible(&admin, &[&one, &two]).await;
    let told = discover(&admin).await;
    assert_eq!(
        (&told["source"], &told["members"], &told["ready"]),
        (&"kubernetes web.shop".into(), &2.into(), &true.into())
    );

    // A rollout: one joins, one is about to end and is drained, then it is gone.
    put(&cluster, &three);
    are_eligible(&admin, &[&one, &two, &three]).await;
    cluster.put(&slice(&one), one.address.port(), [unready("127.0.0.1", true, true)]);
    are_eligible(&admin, &[&two, &three]).await;
    load.more(50).await;
    cluster.delete(&slice(&one));
    until(|| async { discover(&admin).await["members"] == 2 }).await;
    one.kill().await;
    load.more(50).await;

    cluster.cut();
    cluster.forget();
    load.more(50).await;
    // Nobody is there, and nobody believes it.
    cluster.delete(&slice(&two));
    cluster.delete(&slice(&three));
    until(|| async { discover(&admin).await["doubted"] == 2 }).await;
    load.more(50).await;
    put(&cluster, &two);
    put(&cluster, &three);
    until(|| async { discover(&admin).await["doubted"] == 0 }).await;
    are_eligible(&admin, &[&two, &three]).await;

    cluster.kill().await;
    until(|| async { discover(&admin).await["last_error"] == "Connection refused" }).await;
    assert_ne!(discover(&admin).await["failures"], 0);
    load.more(100).await;
    are_eligible(&admin, &[&two, &three]).await;
    cluster.delete(&slice(&two));
    cluster.revive().await;
    are_eligible(&admin, &[&three]).await;
    nothing_failed(load).await;
}
