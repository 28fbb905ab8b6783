//! Backends in an etcd that runs on loopback while the test lasts. Where no `etcd` is installed the tests say so, and pass.

mod common;

use common::{
    etcd::{Certificates, Etcd, Way, directory, free},
    until,
};
use etcd_client::{Client, CompactionOptions, GetOptions, Permission, PermissionType, PutOptions};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpSocket;
use tower_balancer::{
    BackendPool, Discoverer,
    backend::{Backoff, HealthState, Origin, Weight},
    discover::{Entry, EtcdConfig, EtcdRegistration, EtcdSource, Guard},
};

const MS: Duration = Duration::from_millis(1);

type Watch = Discoverer<Origin, EtcdSource<Origin>>;

const QUICK: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(200) };

fn follow(config: EtcdConfig, guard: Guard) -> (BackendPool<Origin>, Watch) {
    let pool = BackendPool::empty();
    let discoverer = Discoverer::new(&pool, EtcdSource::new(config, "/web/")).guard(guard).backoff(QUICK);
    tokio::spawn(discoverer.run());
    (pool, discoverer)
}

fn ports(pool: &BackendPool<Origin>) -> Vec<u16> {
    let mut ports: Vec<_> =
        pool.members().iter().filter(|(backend, _)| backend.is_eligible()).map(|(_, origin)| origin.port()).collect();
    ports.sort_unstable();
    ports
}

async fn are_there(pool: &BackendPool<Origin>, expected: &[u16]) {
    until(|| async { ports(pool) == expected }).await;
}

fn entry(port: u16) -> Entry {
    Entry::new(format!("http://10.0.0.1:{port}"))
}

#[tokio::test]
async fn backends_join_leave_change_and_are_drained() {
    let Some(etcd) = Etcd::start("join").await else { return };
    etcd.put_all([1, 2, 3]).await;
    etcd.put("/website/1", r#"{"url": "http://10.0.0.9:9"}"#).await;
    let (pool, discoverer) = follow(etcd.config(), Guard::default());
    are_there(&pool, &[1, 2, 3]).await;
    assert_eq!(&*discoverer.status().source, "etcd /web/");
    let version = discoverer.status().version.unwrap();

    etcd.put_all([4]).await;
    are_there(&pool, &[1, 2, 3, 4]).await;
    until(|| async { discoverer.status().version.unwrap() != version }).await;
    etcd.delete("/web/2").await;
    are_there(&pool, &[1, 3, 4]).await;

    let three = pool.get("http://10.0.0.1:3").unwrap();
    etcd.put("/web/3", r#"{"url": "http://10.0.0.1:3", "weight": 5, "zone": "b", "priority": 2, "news": [1]}"#).await;
    until(|| async { three.weight() == 5.0 }).await;
    assert_eq!((three.locality().priority, three.locality().zone.as_deref()), (2, Some("b")));
    assert!(Arc::ptr_eq(&three, &pool.get("http://10.0.0.1:3").unwrap()));

    etcd.put("/web/3", r#"{"url": "http://10.0.0.1:3", "state": "draining"}"#).await;
    are_there(&pool, &[1, 4]).await;
    assert_eq!(three.health().state(), HealthState::Draining);
    etcd.put("/web/3", r#"{"url": "http://10.0.0.1:3"}"#).await;
    are_there(&pool, &[1, 3, 4]).await;

    // What is none is named; a key that becomes another backend is one that leaves and one that joins.
    etcd.put("/web/5", "not json").await;
    until(|| async { discoverer.status().skipped.iter().any(|entry| entry.starts_with("/web/5: ")) }).await;
    etcd.put("/web/4", r#""http://10.0.0.1:44""#).await;
    are_there(&pool, &[1, 3, 44]).await;
}

#[tokio::test]
async fn who_registers_is_there_until_it_stops_or_crashes() {
    let Some(etcd) = Etcd::start("register").await else { return };
    // Two of three leave soon one after the other, and are meant to.
    let (pool, _discoverer) = follow(etcd.config(), Guard::off());
    let register = |port| {
        let registration = EtcdRegistration::new(etcd.config(), "/web/", entry(port).weight(Weight::ONE));
        registration.ttl(Duration::from_secs(2)).backoff(QUICK)
    };
    let (one, two, three) = (register(1), register(2), register(3));
    tokio::spawn(one.run());
    let stays = tokio::spawn(two.run());
    let crashes = tokio::spawn(three.run());
    are_there(&pool, &[1, 2, 3]).await;
    one.run().await;

    // It is kept alive for longer than the lease.
    tokio::time::sleep(MS * 4_000).await;
    assert_eq!(ports(&pool), [1, 2, 3]);

    two.announce(entry(2).draining(true));
    are_there(&pool, &[1, 3]).await;
    two.announce(entry(2));
    are_there(&pool, &[1, 2, 3]).await;

    crashes.abort();
    are_there(&pool, &[1, 2]).await;
    two.stop();
    stays.await.unwrap();
    // At once, not when its lease ends.
    let left = etcd.client().await.get("/web/", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(left.kvs().len(), 1);
    are_there(&pool, &[1]).await;
}

#[tokio::test]
async fn a_lease_that_was_lost_is_replaced_and_one_that_was_not_keeps_what_the_operator_said() {
    let Some(etcd) = Etcd::start("lease").await else { return };
    let way = Way::open(free(), etcd.client).await;
    let config = EtcdConfig::new([format!("http://{}", way.address)]).timeout(MS * 1_000);
    let registration = EtcdRegistration::new(config, "/web/", entry(1)).ttl(Duration::from_secs(9)).backoff(QUICK);
    tokio::spawn(registration.run());
    let client = etcd.client().await;
    let key = "/web/http://10.0.0.1:1";
    let found = async || client.clone().get(key, None).await.unwrap().kvs().first().cloned();
    until(|| async { found().await.is_some() }).await;
    let lease = found().await.unwrap().lease();

    // The operator drains it, and the connection breaks: the lease is still good, and so is his word.
    let draining = serde_json::to_vec(&entry(1).draining(true)).unwrap();
    let options = PutOptions::new().with_lease(lease);
    etcd.client().await.put(key, draining.clone(), Some(options)).await.unwrap();
    let way = Way::open(way.cut().await, etcd.client).await;
    way.is_taken().await;
    tokio::time::sleep(MS * 500).await;
    let pair = found().await.unwrap();
    assert_eq!((pair.lease(), pair.value()), (lease, &*draining));

    // The lease is revoked: another takes its place, and the backend says what it is.
    etcd.client().await.lease_revoke(lease).await.unwrap();
    until(|| async { found().await.is_some() }).await;
    let pair = found().await.unwrap();
    assert!(pair.lease() != lease && pair.lease() != 0);
    assert_eq!(pair.value(), serde_json::to_vec(&entry(1)).unwrap());

    // What is announced while there is no connection is said when there is one.
    let address = way.cut().await;
    registration.announce(entry(1).weight(Weight::new(7.0).unwrap()));
    tokio::time::sleep(MS * 500).await;
    let _way = Way::open(address, etcd.client).await;
    let heavier = serde_json::to_vec(&entry(1).weight(Weight::new(7.0).unwrap())).unwrap();
    until(|| async { found().await.is_some_and(|pair| pair.value() == heavier) }).await;
}

#[tokio::test]
async fn an_etcd_that_is_killed_and_comes_back_changes_nothing_but_what_has_changed() {
    let Some(mut etcd) = Etcd::start("killed").await else { return };
    etcd.put_all([1, 2, 3]).await;
    let (pool, discoverer) = follow(etcd.config(), Guard::default());
    are_there(&pool, &[1, 2, 3]).await;
    let one = pool.get("http://10.0.0.1:1").unwrap();
    etcd.kill();
    until(|| async { discoverer.status().failures > 2 }).await;
    assert_eq!(ports(&pool), [1, 2, 3]);
    etcd.run().await;
    etcd.put_all([4]).await;
    are_there(&pool, &[1, 2, 3, 4]).await;
    assert!(Arc::ptr_eq(&one, &pool.get("http://10.0.0.1:1").unwrap()));
    assert_eq!(discoverer.status().failures, 0);

    // One that comes back empty is not believed at once.
    etcd.kill();
    fs::remove_dir_all(etcd.directory.join("data")).unwrap();
    etcd.run().await;
    until(|| async { discoverer.status().doubted == 4 }).await;
    assert_eq!(ports(&pool), [1, 2, 3, 4]);
    etcd.put_all([1, 2, 3, 4]).await;
    until(|| async { discoverer.status().doubted == 0 }).await;
    assert_eq!(ports(&pool), [1, 2, 3, 4]);
}

#[tokio::test]
async fn what_was_missed_and_compacted_is_read_anew() {
    let Some(etcd) = Etcd::start("compacted").await else { return };
    etcd.put_all([1, 2, 3]).await;
    let way = Way::open(free(), etcd.client).await;
    let config = EtcdConfig::new([format!("http://{}", way.address)]).timeout(MS * 1_000);
    let (pool, discoverer) = follow(config, Guard::default());
    are_there(&pool, &[1, 2, 3]).await;
    let address = way.cut().await;
    until(|| async { discoverer.status().failures > 0 }).await;
    etcd.delete("/web/2").await;
    etcd.put_all([4]).await;
    let mut client = etcd.client().await;
    let revision = client.get("/", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.unwrap();
    assert_eq!(ports(&pool), [1, 2, 3]);
    let _way = Way::open(address, etcd.client).await;
    are_there(&pool, &[1, 3, 4]).await;
}

#[tokio::test]
async fn an_emptied_prefix_is_looked_at_twice() {
    let Some(etcd) = Etcd::start("emptied").await else { return };
    etcd.put_all([1, 2]).await;
    let (pool, discoverer) = follow(etcd.config(), Guard::default().confirm_after(MS * 700));
    are_there(&pool, &[1, 2]).await;
    let options = etcd_client::DeleteOptions::new().with_prefix();
    etcd.client().await.delete("/web/", Some(options)).await.unwrap();
    until(|| async { discoverer.status().doubted == 2 }).await;
    assert_eq!(ports(&pool), [1, 2]);
    are_there(&pool, &[]).await;
}

/// An address that refuses whoever connects, and that nobody else gets while this is held.
fn nobody() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket
}

#[tokio::test]
async fn of_several_endpoints_one_that_answers_is_found() {
    let Some(etcd) = Etcd::start("several").await else { return };
    etcd.put_all([1]).await;
    let (one, other) = (nobody(), nobody());
    let url = |socket: &TcpSocket| format!("http://{}", socket.local_addr().unwrap());
    let endpoints = [url(&one), etcd.url(), url(&other)];
    let (pool, _discoverer) = follow(EtcdConfig::new(endpoints).timeout(MS * 1_000), Guard::default());
    are_there(&pool, &[1]).await;
    let (_, discoverer) = follow(EtcdConfig::new([""; 0]), Guard::default());
    let none = || discoverer.status().last_failure.is_some_and(|failure| failure.cause.contains("no endpoints"));
    until(|| async { none() }).await;
}

#[tokio::test]
async fn who_has_to_say_who_he_is_says_it() {
    let Some(etcd) = Etcd::start("user").await else { return };
    etcd.put_all([1]).await;
    let mut client = etcd.client().await;
    client.user_add("root", "root", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("reader").await.unwrap();
    let below = Permission::new(PermissionType::Read, "/web/").with_prefix();
    client.role_grant_permission("reader", below).await.unwrap();
    client.user_add("gateway", "secret", None).await.unwrap();
    client.user_grant_role("gateway", "reader").await.unwrap();
    client.auth_enable().await.unwrap();

    let (pool, _discoverer) = follow(etcd.config().credentials("gateway", "secret"), Guard::default());
    are_there(&pool, &[1]).await;
    for config in [etcd.config(), etcd.config().credentials("gateway", "guess")] {
        assert!(!format!("{config:?}").contains("guess"));
        let (pool, discoverer) = follow(config, Guard::default());
        until(|| async { discoverer.status().failures > 0 }).await;
        assert!(ports(&pool).is_empty());
    }
}

#[tokio::test]
async fn what_says_who_asks_is_read_before_each_connection() {
    let Some(etcd) = Etcd::start("rotated").await else { return };
    etcd.put_all([1]).await;
    let mut root = etcd.with_user("gateway", "first").await;
    let way = Way::open(free(), etcd.client).await;
    let password = Arc::new(Mutex::new(Some("first")));
    let read = Arc::clone(&password);
    let config = EtcdConfig::new([format!("http://{}", way.address)]).timeout(MS * 1_000).reading(move |config| {
        let password = read.lock().unwrap().ok_or("cannot be read")?;
        Ok(config.credentials("gateway", password))
    });
    let (pool, discoverer) = follow(config, Guard::default());
    are_there(&pool, &[1]).await;
    root.user_change_password("gateway", "second").await.unwrap();
    *password.lock().unwrap() = None;
    let _way = Way::open(way.cut().await, etcd.client).await;
    let cause = || discoverer.status().last_failure.map(|failure| failure.cause);
    until(|| async { cause().as_deref() == Some("cannot be read") }).await;
    *password.lock().unwrap() = Some("second");
    root.put("/web/2", r#"{"url": "http://10.0.0.1:2"}"#, None).await.unwrap();
    are_there(&pool, &[1, 2]).await;
}

/// A root, and a certificate for 127.0.0.1 that it has signed, for servers and clients.
fn certificates(directory: &Path) -> Option<Certificates> {
    let file = |name: &str| directory.join(name);
    fs::write(file("extensions"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n").unwrap();
    for arguments in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=root -keyout ca.key -out ca.pem",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=etcd -keyout etcd.key -out etcd.csr",
        "x509 -req -in etcd.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out etcd.pem",
    ] {
        let made =
            Command::new("openssl").args(arguments.split(' ')).current_dir(directory).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no openssl is installed that makes certificates");
            return None;
        }
    }
    Some(Certificates { ca: file("ca.pem"), certificate: file("etcd.pem"), key: file("etcd.key") })
}

#[tokio::test]
async fn over_tls_both_sides_know_each_other() {
    let directory = directory("certificates");
    let Some(certificates) = certificates(&directory) else {
        return fs::remove_dir_all(directory).unwrap();
    };
    let Some(etcd) = Etcd::start_with("tls", Some(certificates.clone())).await else {
        return fs::remove_dir_all(directory).unwrap();
    };
    let mut client = Client::connect([etcd.url()], etcd.options()).await.unwrap();
    client.put("/web/1", r#"{"url": "http://10.0.0.1:1"}"#, None).await.unwrap();
    let read = |path: &Path| fs::read(path).unwrap();
    let trusting = etcd.config().ca(read(&certificates.ca));
    let known = trusting.clone().identity(read(&certificates.certificate), read(&certificates.key));
    let (pool, _discoverer) = follow(known, Guard::default());
    are_there(&pool, &[1]).await;
    for stranger in [trusting, etcd.config()] {
        let (pool, discoverer) = follow(stranger, Guard::default());
        until(|| async { discoverer.status().failures > 0 }).await;
        assert!(ports(&pool).is_empty());
    }
    fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn the_command_line_adds_drains_lists_and_removes() {
    let Some(etcd) = Etcd::start("command").await else { return };
    let (pool, _discoverer) = follow(etcd.config(), Guard::off());
    let binary = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/backends");
    assert!(binary.exists(), "{} is missing: build it with `cargo build --example backends`", binary.display());
    let runs = AtomicU32::new(0);
    let run = async |arguments: &str| {
        runs.fetch_add(1, Ordering::Relaxed);
        let mut command = tokio::process::Command::new(&binary);
        command.args(["--etcd", &etcd.url(), "--prefix", "/web/"]).args(arguments.split(' '));
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), text)
    };
    assert!(run("add http://10.0.0.1:1 --weight 2 --zone eu-1a").await.0);
    assert!(run("add http://10.0.0.1:2").await.0);
    are_there(&pool, &[1, 2]).await;
    assert_eq!(pool.get("http://10.0.0.1:1").unwrap().weight(), 2.0);
    assert!(run("drain http://10.0.0.1:1").await.0);
    are_there(&pool, &[2]).await;
    let (_, listed) = run("list").await;
    assert!(listed.contains("draining") && listed.lines().count() == 2, "{listed}");
    assert!(run("undrain http://10.0.0.1:1").await.0);
    are_there(&pool, &[1, 2]).await;
    assert_eq!(pool.get("http://10.0.0.1:1").unwrap().weight(), 2.0);
    assert!(run("remove http://10.0.0.1:2").await.0);
    are_there(&pool, &[1]).await;
    for (bad, words) in [("drain http://10.0.0.1:9", "http://10.0.0.1:9"), ("add 10.0.0.1:9", "10.0.0.1:9")] {
        let (well, said) = run(bad).await;
        assert!(!well && said.contains(words), "{said}");
    }
    assert_eq!(runs.into_inner(), 8);
}
