//! The pods behind a Service, from an API server that the test plays on loopback over real HTTP: Debian has none to install.

mod common;
#[path = "common/tls.rs"]
mod tls;

use common::{
    api_server::{ApiServer, kubeconfig, ready, unready},
    gateway::ConfigFile,
    until,
};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tower_balancer::{
    BackendPool, Discoverer,
    backend::{Backoff, HealthState, Origin},
    discover::{Guard, KubernetesConfig, KubernetesSource},
};

const MS: Duration = Duration::from_millis(1);

const QUICK: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(200) };

/// A pool that follows the service web of an API server.
struct Follower {
    server: ApiServer,
    pool: BackendPool<Origin>,
    discoverer: Discoverer<Origin, KubernetesSource<Origin>>,
    _kubeconfig: ConfigFile,
}

impl Follower {
    async fn new(guard: Guard) -> Self {
        Self::of(ApiServer::start().await, guard)
    }

    fn of(server: ApiServer, guard: Guard) -> Self {
        let kubeconfig = server.kubeconfig();
        let config = KubernetesConfig::kubeconfig(kubeconfig.path()).timeout(MS * 2_000);
        let (pool, discoverer) = follow(config, guard);
        Self { server, pool, discoverer, _kubeconfig: kubeconfig }
    }

    /// Waits until these take requests and no others.
    async fn are_there(&self, expected: &[&str]) {
        until(|| async { eligible(&self.pool) == expected }).await;
    }

    fn failures(&self) -> u32 {
        self.discoverer.status().failures
    }
}

fn follow(
    config: KubernetesConfig,
    guard: Guard,
) -> (BackendPool<Origin>, Discoverer<Origin, KubernetesSource<Origin>>) {
    let pool = BackendPool::empty();
    let source = KubernetesSource::new(config, "web").unwrap().port("http").http();
    let discoverer = Discoverer::new(&pool, source).guard(guard).backoff(QUICK);
    tokio::spawn(discoverer.run());
    (pool, discoverer)
}

/// Those that take requests, without what is the same of all.
fn eligible(pool: &BackendPool<Origin>) -> Vec<String> {
    let members = pool.members();
    let there = members.iter().filter(|(backend, _)| backend.is_eligible());
    let mut there: Vec<_> =
        there.map(|(backend, _)| backend.id().as_str().trim_start_matches("http://10.0.0.").to_owned()).collect();
    there.sort_unstable();
    there
}

#[tokio::test]
async fn pods_join_leave_flip_and_are_drained() {
    let server = ApiServer::start().await;
    server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2")]);
    // Another service is another's business.
    server.put_of("website", "website-a", 8080, [ready("10.0.0.9")]);
    let it = Follower::of(server, Guard::default());
    it.are_there(&["1:8080", "2:8080"]).await;
    assert_eq!(&*it.discoverer.status().source, "kubernetes web");
    let version = it.discoverer.status().version.unwrap();
    let one = it.pool.get("http://10.0.0.1:8080").unwrap();

    it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2"), ready("10.0.0.3")]);
    it.server.put_of("website", "website-a", 8080, [ready("10.0.0.8")]);
    it.are_there(&["1:8080", "2:8080", "3:8080"]).await;
    assert!(it.discoverer.status().version.unwrap() > version);

    // One is not ready, and is again.
    let unready_two = || [ready("10.0.0.1"), unready("10.0.0.2", false, false), ready("10.0.0.3")];
    it.server.put("web-a", 8080, unready_two());
    it.are_there(&["1:8080", "3:8080"]).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2"), ready("10.0.0.3")]);
    it.are_there(&["1:8080", "2:8080", "3:8080"]).await;

    // One is about to end and serves still: it is drained, and then gone.
    let two = it.pool.get("http://10.0.0.2:8080").unwrap();
    it.server.put("web-a", 8080, [ready("10.0.0.1"), unready("10.0.0.2", true, true), ready("10.0.0.3")]);
    it.are_there(&["1:8080", "3:8080"]).await;
    assert_eq!((two.health().state(), it.discoverer.status().members), (HealthState::Draining, 3));
    it.server.put("web-a", 8080, [ready("10.0.0.1"), unready("10.0.0.2", false, true), ready("10.0.0.3")]);
    until(|| async { it.pool.get("http://10.0.0.2:8080").is_none() }).await;

    assert!(Arc::ptr_eq(&one, &it.pool.get("http://10.0.0.1:8080").unwrap()));
    assert_eq!((it.server.asked("list"), it.server.asked("watch"), it.failures()), (1, 1, 0));
}

#[tokio::test]
async fn an_endpoint_that_is_moved_between_slices_never_leaves_and_zones_are_known() {
    let zoned = |address: &str, zone: &str| {
        let mut endpoint = ready(address);
        endpoint["zone"] = zone.into();
        endpoint
    };
    let it = Follower::new(Guard::off()).await;
    it.server.put("web-a", 8080, [zoned("10.0.0.1", "eu-1a"), zoned("10.0.0.2", "eu-1a")]);
    it.server.put("web-b", 9090, [zoned("10.0.0.3", "eu-1b")]);
    it.are_there(&["1:8080", "2:8080", "3:9090"]).await;
    let two = it.pool.get("http://10.0.0.2:8080").unwrap();
    assert_eq!(two.locality().zone.as_deref(), Some("eu-1a"));

    it.server.put("web-c", 8080, [zoned("10.0.0.2", "eu-1b")]);
    it.server.put("web-a", 8080, [zoned("10.0.0.1", "eu-1a")]);
    until(|| async { two.locality().zone.as_deref() == Some("eu-1b") }).await;
    it.server.delete("web-b");
    it.are_there(&["1:8080", "2:8080"]).await;
    assert!(Arc::ptr_eq(&two, &it.pool.get("http://10.0.0.2:8080").unwrap()));
}

#[tokio::test]
async fn a_watch_that_ends_or_is_cut_goes_on_where_it_was() {
    let it = Follower::new(Guard::default()).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2")]);
    it.are_there(&["1:8080", "2:8080"]).await;
    for (number, is_cut) in [(3, false), (4, true)] {
        until(|| async { it.server.watches() == 1 }).await;
        // Longer than what counts as a refusal to be watched.
        tokio::time::sleep(MS * 1_100).await;
        if is_cut {
            it.server.cut()
        } else {
            it.server.end()
        }
        it.server.put(&format!("web-{number}"), 8080, [ready(&format!("10.0.0.{number}"))]);
        until(|| async { eligible(&it.pool).contains(&format!("{number}:8080")) }).await;
    }
    it.are_there(&["1:8080", "2:8080", "3:8080", "4:8080"]).await;
    assert_eq!((it.server.asked("list"), it.server.asked("watch")), (1, 3));
    assert_eq!(it.discoverer.status().last_failure, None);
}

#[tokio::test]
async fn a_server_that_ends_each_watch_at_once_is_not_asked_all_the_time() {
    let it = Follower::new(Guard::default()).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1")]);
    it.are_there(&["1:8080"]).await;
    until(|| async { it.server.watches() == 1 }).await;
    it.server.end();
    let cause = || it.discoverer.status().last_failure.map(|failure| failure.cause);
    until(|| async { cause().is_some() }).await;
    assert_eq!(&*cause().unwrap(), "the API server ends the watch at once");
    until(|| async { it.failures() == 0 }).await;
    assert_eq!(eligible(&it.pool), ["1:8080"]);
}

#[tokio::test]
async fn what_was_missed_and_forgotten_is_listed_anew() {
    for version_is_odd in [false, true] {
        let it = Follower::new(Guard::off()).await;
        it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2"), ready("10.0.0.3")]);
        it.are_there(&["1:8080", "2:8080", "3:8080"]).await;
        let one = it.pool.get("http://10.0.0.1:8080").unwrap();
        until(|| async { it.server.watches() == 1 }).await;
        tokio::time::sleep(MS * 1_100).await;
        it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.3")]);
        it.are_there(&["1:8080", "3:8080"]).await;
        it.server.end();
        // Before it is asked: the test and the source are on one thread.
        it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.4")]);
        it.server.forget();
        if version_is_odd {
            it.server.forget();
        }
        it.are_there(&["1:8080", "4:8080"]).await;
        assert!(Arc::ptr_eq(&one, &it.pool.get("http://10.0.0.1:8080").unwrap()));
        assert_eq!((it.server.asked("list"), it.discoverer.status().last_failure), (2, None));
    }
}

#[tokio::test]
async fn a_bookmark_is_where_the_next_watch_begins() {
    let it = Follower::new(Guard::default()).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2")]);
    it.are_there(&["1:8080", "2:8080"]).await;
    // Much happens that is none of it, and is forgotten.
    it.server.put_of("other", "other-a", 8080, [ready("10.0.0.9")]);
    until(|| async { it.server.watches() == 1 }).await;
    let success = it.discoverer.status().last_success;
    it.server.bookmark();
    until(|| async { it.discoverer.status().last_success > success }).await;
    tokio::time::sleep(MS * 1_100).await;
    it.server.forget_before_the_bookmark();
    it.server.end();
    it.server.put("web-b", 8080, [ready("10.0.0.3")]);
    it.are_there(&["1:8080", "2:8080", "3:8080"]).await;
    assert_eq!(it.server.asked("list"), 1);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_changes_nothing_but_what_has_changed() {
    let mut it = Follower::new(Guard::default()).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2"), ready("10.0.0.3")]);
    it.are_there(&["1:8080", "2:8080", "3:8080"]).await;
    let one = it.pool.get("http://10.0.0.1:8080").unwrap();
    it.server.kill().await;
    until(|| async { it.failures() > 2 }).await;
    assert_eq!(&*it.discoverer.status().last_failure.unwrap().cause, "Connection refused");
    assert_eq!(eligible(&it.pool), ["1:8080", "2:8080", "3:8080"]);
    it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.3"), ready("10.0.0.4")]);
    it.server.revive().await;
    it.are_there(&["1:8080", "3:8080", "4:8080"]).await;
    assert!(Arc::ptr_eq(&one, &it.pool.get("http://10.0.0.1:8080").unwrap()));
    assert_eq!(it.failures(), 0);
}

#[tokio::test]
async fn an_event_in_many_pieces_is_one_and_half_an_event_is_none() {
    let it = Follower::new(Guard::default()).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1")]);
    it.are_there(&["1:8080"]).await;
    until(|| async { it.server.watches() == 1 }).await;
    let line = it.server.line("web-b", 8080, "10.0.0.2");
    for piece in line.as_bytes().chunks(40) {
        it.server.say(str::from_utf8(piece).unwrap());
        tokio::time::sleep(MS).await;
    }
    it.are_there(&["1:8080", "2:8080"]).await;

    tokio::time::sleep(MS * 1_100).await;
    let line = it.server.line("web-c", 8080, "10.0.0.3");
    it.server.say(&line[..line.len() / 2]);
    it.server.cut();
    // It is told again as a whole.
    it.are_there(&["1:8080", "2:8080", "3:8080"]).await;
    assert_eq!(it.server.asked("list"), 1);

    // What is no event at all: the members stay, and are listed anew.
    it.server.say("<html>proxy error</html>\n");
    until(|| async { it.server.asked("list") == 2 }).await;
    until(|| async { it.failures() == 0 }).await;
    assert_eq!(eligible(&it.pool), ["1:8080", "2:8080", "3:8080"]);
}

#[tokio::test]
async fn who_may_not_ask_is_told_what_he_may_not() {
    let server = ApiServer::start().await;
    server.forbid(true);
    server.put("web-a", 8080, [ready("10.0.0.1")]);
    let it = Follower::of(server, Guard::default());
    until(|| async { it.failures() > 0 }).await;
    let cause = it.discoverer.status().last_failure.unwrap().cause;
    let expected = "endpointslices.discovery.k8s.io is forbidden: User \"system:serviceaccount:shop:gateway\" cannot list \
                    resource \"endpointslices\" in API group \"discovery.k8s.io\" in the namespace \"shop\": Forbidden";
    assert_eq!(&*cause, expected);
    it.server.forbid(false);
    it.are_there(&["1:8080"]).await;

    let address = it.server.address;
    let stranger = kubeconfig(&format!("server: http://{address}"), "a-guess");
    let (_, discoverer) = follow(KubernetesConfig::kubeconfig(stranger.path()), Guard::default());
    until(|| async { discoverer.status().failures > 0 }).await;
    assert_eq!(&*discoverer.status().last_failure.unwrap().cause, "Unauthorized: Unauthorized");
}

#[tokio::test]
async fn a_service_that_is_emptied_or_deleted_is_looked_at_twice() {
    for is_deleted in [false, true] {
        let it = Follower::new(Guard::default().confirm_after(MS * 500)).await;
        it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("10.0.0.2")]);
        it.are_there(&["1:8080", "2:8080"]).await;
        if is_deleted {
            it.server.delete("web-a");
        } else {
            it.server.put("web-a", 8080, [unready("10.0.0.1", false, false), unready("10.0.0.2", false, false)]);
        }
        until(|| async { it.discoverer.status().doubted == 2 }).await;
        assert_eq!(eligible(&it.pool), ["1:8080", "2:8080"]);
        it.are_there(&[]).await;
        assert_eq!(it.server.asked("list"), 2);
        let skipped = it.discoverer.status().skipped;
        let expected: &[_] = if is_deleted { &["there are no endpoint slices of a service web"] } else { &[] };
        assert_eq!(&*skipped, expected);
        it.server.put("web-a", 8080, [ready("10.0.0.1")]);
        it.are_there(&["1:8080"]).await;
    }
}

#[tokio::test]
async fn what_is_no_backend_is_named_and_where_nothing_else_is_left_the_members_stay() {
    let it = Follower::new(Guard::off()).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1"), ready("web-1.example")]);
    let named = json!({ "addressType": "FQDN", "endpoints": [ready("web-2.example")], "ports": [{ "port": 8080 }] });
    it.server.put_slice("web-b", named);
    it.are_there(&["1:8080"]).await;
    let skipped = || it.discoverer.status().skipped;
    until(|| async { skipped().len() == 2 }).await;
    assert_eq!(skipped()[0], "web-a: \"web-1.example\" is no IPv4 address");
    assert_eq!(skipped()[1], "web-b: its addresses are of type FQDN: expected IPv4 or IPv6");

    it.server.delete("web-b");
    let other =
        json!({ "addressType": "IPv4", "endpoints": [ready("10.0.0.1")], "ports": [{ "name": "web", "port": 81 }] });
    it.server.put_slice("web-a", other);
    until(|| async { it.failures() > 0 }).await;
    let cause = it.discoverer.status().last_failure.unwrap().cause;
    let expected = "there is nothing usable in the endpoint slices: web-a: it has no TCP port http: there are web (81)";
    assert_eq!(&*cause, expected);
    assert_eq!(eligible(&it.pool), ["1:8080"]);
    it.server.put("web-a", 8080, [ready("10.0.0.2")]);
    it.are_there(&["2:8080"]).await;
}

#[tokio::test]
async fn a_connection_that_is_dead_without_a_word_is_given_up() {
    let it = Follower::new(Guard::default()).await;
    it.server.put("web-a", 8080, [ready("10.0.0.1")]);
    it.are_there(&["1:8080"]).await;
    until(|| async { it.server.watches() == 1 }).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(76)).await;
    tokio::time::resume();
    until(|| async { it.server.asked("list") == 2 }).await;
    assert_eq!(&*it.discoverer.status().last_failure.unwrap().cause, "the API server has gone silent");
    assert_eq!(eligible(&it.pool), ["1:8080"]);
}

#[tokio::test]
async fn over_tls_the_server_has_to_be_the_one_of_the_kubeconfig() {
    use tls::{Authority, Backend, Speaks};
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cluster = ApiServer::start().await;
    cluster.put("web-a", 8080, [ready("10.0.0.1")]);
    let serving = Backend::serving(&Speaks::as_(authority.signs("127.0.0.1")), cluster.shared.routes()).await;
    for (authority, is_trusted) in [(&authority, true), (&stranger, false)] {
        let ca = ConfigFile::new(&authority.pem);
        let server = format!("server: {}\n    certificate-authority: {}", serving.url("127.0.0.1"), ca.path());
        let file = kubeconfig(&server, "a-token");
        let (pool, discoverer) = follow(KubernetesConfig::kubeconfig(file.path()), Guard::default());
        if is_trusted {
            until(|| async { eligible(&pool) == ["1:8080"] }).await;
        } else {
            until(|| async { discoverer.status().failures > 0 }).await;
            let cause = discoverer.status().last_failure.unwrap().cause;
            assert!(cause.contains("certificate"), "{cause}");
        }
    }
}

#[tokio::test]
async fn a_context_a_namespace_a_server_and_the_kind_of_member_can_be_said() {
    let cluster = ApiServer::start().await;
    cluster.put("web-a", 8080, [ready("10.0.0.1")]);
    let nowhere = kubeconfig("server: http://127.0.0.1:1", "a-token");
    let config = || KubernetesConfig::kubeconfig(nowhere.path()).server(format!("http://{}", cluster.address));
    let source = |config, service: &str| KubernetesSource::new(config, service).unwrap();

    let pool = BackendPool::<SocketAddr>::from_members([]).unwrap();
    let discoverer = Discoverer::new(&pool, source(config(), "web.shop"));
    tokio::spawn(discoverer.run());
    until(|| async { discoverer.status().is_ready() }).await;
    assert_eq!(pool.members().iter().map(|(_, address)| address.to_string()).collect::<Vec<_>>(), ["10.0.0.1:8080"]);

    let pool = BackendPool::empty();
    let discoverer = Discoverer::new(&pool, source(config(), "web").port("8080").https());
    tokio::spawn(discoverer.run());
    until(|| async { discoverer.status().is_ready() }).await;
    assert_eq!(pool.backends()[0].id().as_str(), "https://10.0.0.1:8080");

    for (config, service, expected) in [
        (config(), "web.other", "there are no endpoint slices of a service web.other"),
        (config().context("elsewhere"), "web", "there are no endpoint slices of a service web"),
    ] {
        let pool = BackendPool::<SocketAddr>::from_members([]).unwrap();
        let discoverer = Discoverer::new(&pool, source(config, service));
        tokio::spawn(discoverer.run());
        until(|| async { discoverer.status().is_ready() }).await;
        assert_eq!(&*discoverer.status().skipped, [expected]);
    }
}

#[tokio::test]
async fn a_proxy_is_not_used() {
    let cluster = ApiServer::start().await;
    cluster.put("web-a", 8080, [ready("10.0.0.1")]);
    for proxy in ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "no proxy"] {
        let file = kubeconfig(&format!("server: http://{}\n    proxy-url: {proxy}", cluster.address), "a-token");
        let (pool, _discoverer) = follow(KubernetesConfig::kubeconfig(file.path()), Guard::default());
        until(|| async { eligible(&pool) == ["1:8080"] }).await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    for (config, expected) in [
        (KubernetesConfig::kubeconfig("/nowhere/config"), "/nowhere/config"),
        (KubernetesConfig::in_cluster(), "this process is no pod with a service account"),
        (KubernetesConfig::kubeconfig(kubeconfig("server: http://a b", "a").path()), "/tmp"),
    ] {
        let (_, discoverer) = follow(config, Guard::default());
        until(|| async { discoverer.status().failures > 0 }).await;
        let cause = discoverer.status().last_failure.unwrap().cause;
        assert!(cause.contains(expected), "{cause}");
    }
}
