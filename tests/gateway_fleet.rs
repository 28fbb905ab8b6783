//! Three gateways as processes, five backends and one etcd, under load, and each of them killed. Where no `etcd` is installed
//! the tests say so, and pass.

mod common;

use common::{
    Server,
    admin::{Operator, at, is_described},
    etcd::{Etcd, Way, free},
    gateway::{ConfigFile, Gateway, free_port, run},
    gateway_load::{Load, pools},
    says, until,
};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::time::Instant;

const GATEWAYS: usize = 3;
const BACKENDS: usize = 5;

/// A gateway, its operator's server, its configuration, and its clients.
struct One {
    gateway: Gateway,
    admin: String,
    _file: ConfigFile,
    load: Load,
}

/// How each gateway reaches the etcd, and what more is in the files.
fn config(etcd: SocketAddr, servers: &[Server]) -> String {
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    format!(
        "[fleet]\netcd = \"http://{etcd}\"\nprefix = \"/gateways/\"\nttl = \"2s\"\n\
        [pools.web]\nbackends = {urls:?}\nhealth = {{ interval = \"200ms\", fast_interval = \"100ms\" }}\n"
    )
}

fn start(config: &str) -> One {
    let (file, admin) = (ConfigFile::new(config), format!("127.0.0.1:{}", free_port()));
    let gateway = Gateway::start(&["--admin", &admin, "--workers", "1", "--config", file.path()]);
    let load = Load::on(&gateway.url, 3);
    One { gateway, admin, _file: file, load }
}

async fn five() -> Vec<Server> {
    let mut servers = Vec::new();
    for number in 0..BACKENDS {
        servers.push(Server::http(says(format!("backend {number}"))).await);
    }
    servers
}

impl One {
    async fn told(&self) -> Value {
        pools(&self.admin).await["pools"][0].clone()
    }

    /// Who is out, by place, with the state.
    async fn out(&self) -> Vec<(usize, String)> {
        let told = self.told().await;
        let states = told["backends"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap().to_owned());
        states.enumerate().filter(|(_, state)| state != "healthy").collect()
    }

    /// No request has failed.
    async fn ends_well(self) {
        self.load.more(51).await;
        let (answered, failed) = self.load.end().await;
        assert!(answered > 50, "{answered}");
        assert!(failed.is_empty(), "{} of {answered} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    }

    /// Is killed; until then no request has failed, and after it nobody is told anything: those in flight are broken off, and
    /// those after them refused.
    async fn kill(mut self) {
        self.load.more(20).await;
        assert_eq!(self.load.failed(), 0, "of {}", self.load.answered());
        self.gateway.child.kill().unwrap();
        self.gateway.child.wait().unwrap();
        let (_, failed) = self.load.end().await;
        // An answer is a number and what it means.
        let is_answer =
            |failure: &&String| failure.split(": ").nth(1).is_some_and(|it| it.starts_with(char::is_numeric));
        assert_eq!(failed.iter().find(is_answer), None);
    }
}

async fn are_shared(gateways: &[One]) {
    until(|| async {
        let (mut asked, mut known) = (0, 0);
        for one in gateways {
            let told = one.told().await;
            let fleet = &told["fleet"];
            is_described("Fleet", fleet);
            known = told["backends"].as_array().unwrap().len();
            if fleet["shared"] != true || fleet["gateways"] != gateways.len() {
                return false;
            }
            asked += fleet["asked"].as_u64().unwrap() as usize;
        }
        asked == gateways.len().min(2) * known
    })
    .await;
}

async fn are_out(gateways: &[One], expected: &[(usize, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(place, state)| (*place, (*state).to_owned())).collect();
    until(|| async {
        for one in gateways {
            if one.out().await != expected {
                return false;
            }
        }
        true
    })
    .await;
}

/// Waits for what is to come, and says how long that took; nothing is asserted about it.
async fn measured(what: &str, comes: impl Future<Output = ()>) {
    let begun = Instant::now();
    comes.await;
    eprintln!("MEASURED {what}: {:?}", begun.elapsed());
}

#[test]
fn what_is_wrong_with_a_fleet_is_told_by_key() {
    let rest = "[pools.web]\nbackends = [\"http://a:1\"]\n";
    for (text, expected) in [
        ("[fleet]\nprefix = \"/a/\"\n", "missing field `etcd`"),
        ("[fleet]\netcd = \"http://a:1\"\nprefix = \"/a\"\n", ":3: fleet.prefix: invalid prefix \"/a\""),
        ("[fleet]\netcd = \"http://a:1\"\nprefix = \"/a/\"\nttl = \"1s\"\n", ":4: fleet.ttl: invalid ttl"),
        ("[fleet]\netcd = \"http://a:1\"\nprefix = \"/a/\"\nk = 0\n", ":4: fleet.k: invalid number"),
        ("[fleet]\netcd = \"a:1\"\nprefix = \"/a/\"\n", ":2: fleet.etcd: invalid endpoint"),
        (
            "[fleet]\netcd = { endpoints = \"http://a:1\", user = \"b\" }\nprefix = \"/a/\"\n",
            ":2: fleet.etcd.user: expected password",
        ),
    ] {
        let file = ConfigFile::new(&format!("{text}{rest}"));
        let output = run(&["--check", "--config", file.path()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn a_pool_without_checks_is_in_no_fleet_and_the_check_says_so() {
    let fleet = "[fleet]\netcd = \"http://a:1\"\nprefix = \"/a/\"\n[pools.web]\nbackends = [\"http://a:1\"]\n";
    for (health, warns) in [("", false), ("health = \"tcp\"", false), ("health = \"off\"", true)] {
        let file = ConfigFile::new(&format!("{fleet}{health}"));
        let output = run(&["--check", "--config", file.path()]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.contains("warning          without health checks it is not shared"), warns, "{health}: {said}");
        assert!(output.status.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn backends_etcd_and_gateways_are_killed_one_by_one_and_no_request_fails_but_in_flight_on_a_killed_gateway() {
    let Some(mut etcd) = Etcd::start("gateway-fleet").await else { return };
    let mut servers = five().await;
    let config = config(etcd.client, &servers);
    let mut gateways: Vec<_> = (0..GATEWAYS).map(|_| start(&config)).collect();
    measured("three gateways share from their start", are_shared(&gateways)).await;

    for place in 0..BACKENDS {
        let address = servers.remove(place).kill().await;
        measured("a backend is killed: out at all", async {
            until(|| async {
                let mut all = true;
                for one in &gateways {
                    all &= one.out().await.iter().map(|(place, _)| *place).eq([place]);
                }
                all
            })
            .await;
        })
        .await;
        servers.insert(place, Server::http_at(address, says("back")).await);
        measured("and back: in at all", are_out(&gateways, &[])).await;
    }

    etcd.kill();
    measured("etcd is killed: all are alone", async {
        until(|| async {
            let mut asked = BTreeSet::new();
            for one in &gateways {
                let fleet = one.told().await["fleet"].clone();
                asked.insert((fleet["shared"].as_bool().unwrap(), fleet["asked"].as_u64().unwrap()));
            }
            asked == BTreeSet::from([(false, BACKENDS as u64)])
        })
        .await;
    })
    .await;
    // One dies while nobody can say so.
    let address = servers.remove(2).kill().await;
    until(|| async { gateways[0].out().await.len() == 1 && gateways[2].out().await.len() == 1 }).await;
    etcd.run().await;
    measured("etcd is back: shared", are_shared(&gateways)).await;
    servers.insert(2, Server::http_at(address, says("back")).await);
    are_out(&gateways, &[]).await;

    for _ in 0..GATEWAYS {
        gateways.remove(0).kill().await;
        measured("a gateway is killed: shared by the others", are_shared(&gateways)).await;
        gateways.push(start(&config));
        measured("and another begins: shared with it", are_shared(&gateways)).await;
        are_out(&gateways, &[]).await;
    }
    for one in gateways {
        one.ends_well().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_is_cut_off_goes_on_and_what_is_ordered_in_etcd_is_done_at_all() {
    let Some(etcd) = Etcd::start("gateway-fleet-cut").await else { return };
    let mut servers = five().await;
    let way = Way::open(free(), etcd.client).await;
    let mut gateways = vec![start(&config(etcd.client, &servers)), start(&config(etcd.client, &servers))];
    gateways.push(start(&config(way.address, &servers)));
    are_shared(&gateways).await;

    let order = format!("/gateways/web/orders/{}", servers[1].url());
    etcd.put(&order, r#"{"state": "draining"}"#).await;
    measured("a drain: at all", are_out(&gateways, &[(1, "draining")])).await;

    let address = way.cut().await;
    let apart = gateways.pop().unwrap();
    measured("one is cut off: shared by the others", are_shared(&gateways)).await;
    measured("and it is alone", async {
        until(|| async { apart.told().await["fleet"]["asked"] == BACKENDS }).await;
    })
    .await;
    gateways.push(apart);
    are_out(&gateways, &[(1, "draining")]).await;
    let dead = servers.remove(4).kill().await;
    until(|| async {
        let mut all = true;
        for one in &gateways {
            all &= one.out().await.len() == 2;
        }
        all
    })
    .await;
    let _way = Way::open(address, etcd.client).await;
    measured("no longer: shared by all", are_shared(&gateways)).await;
    let _server = Server::http_at(dead, says("back")).await;
    etcd.put(&order, r#"{"state": "enabled"}"#).await;
    are_out(&gateways, &[]).await;

    // Who stops takes his word back.
    let stops = gateways.remove(0);
    let One { gateway, load, .. } = stops;
    let (_, failed) = load.end().await;
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(gateway.stop(), Some(0));
    measured("one has stopped: shared by the others", are_shared(&gateways)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for one in gateways {
        one.ends_well().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_with_many_pools_that_has_lost_its_etcd_ends_all_the_same() {
    let Some(etcd) = Etcd::start("gateway-fleet-end").await else { return };
    let servers = five().await;
    let way = Way::open(free(), etcd.client).await;
    let pools: String = (0..30).map(|n| format!("[pools.p{n}]\nbackends = [{:?}]\n", servers[0].url())).collect();
    let routes = "[[routes]]\npool = \"web\"\n";
    let one = start(&format!("{}{pools}{routes}", config(way.address, &servers)));
    until(|| async { pools_shared(&one).await == 31 }).await;
    let One { gateway, load, .. } = one;
    load.end().await;
    way.lose();
    gateway.signal("-TERM");
    let ended = tokio::task::spawn_blocking(move || gateway.code());
    // Each of them has a second to say so, and all at once.
    let ended = tokio::time::timeout(Duration::from_secs(25), ended).await.expect("one after the other");
    assert_eq!(ended.unwrap(), Some(0));
}

async fn pools_shared(one: &One) -> usize {
    let told = pools(&one.admin).await;
    told["pools"].as_array().unwrap().iter().filter(|pool| pool["fleet"]["shared"] == true).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_whose_checks_alone_fail_takes_nobody_out_says_so_and_goes_on_serving() {
    let Some(etcd) = Etcd::start("gateway-fleet-ill").await else { return };
    let mut servers = Vec::new();
    // So many that each gateway has some to ask, whatever their names and ports are: of five, one in 240 would have none.
    for _ in 0..4 * BACKENDS {
        // One of the gateways is nobody's friend.
        let answer = |headers: HeaderMap| async move {
            if headers.contains_key("x-stranger") { StatusCode::FORBIDDEN } else { StatusCode::OK }
        };
        servers.push(Server::http(axum::Router::new().fallback(answer)).await);
    }
    let config = config(etcd.client, &servers);
    let stranger = config.replace("health = {", "health = { headers = { x-stranger = \"yes\" },");
    let gateways = vec![start(&config), start(&config), start(&stranger)];
    are_shared(&gateways).await;
    let dissents = async |place: usize| {
        let fleet = gateways[place].told().await["fleet"].clone();
        (fleet["dissents"].as_array().unwrap().len(), fleet["asked"].as_u64().unwrap() as usize)
    };
    until(|| async {
        let (dissents, asked) = dissents(2).await;
        dissents == asked && asked > 0
    })
    .await;
    assert_eq!((dissents(0).await.0, dissents(1).await.0), (0, 0));
    gateways[2].gateway.line("ERROR: this gateway alone finds it ill: it may be ill itself");
    for one in gateways {
        assert_eq!(one.out().await, []);
        one.ends_well().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_an_operator_says_at_one_gateway_is_done_at_all_and_at_one_that_begins_later() {
    let Some(etcd) = Etcd::start("gateway-fleet-said").await else { return };
    let servers = five().await;
    let config =
        config(etcd.client, &servers).replace("[pools.web]", "[pools.web]\nstrategy = \"weighted_round_robin\"");
    let mut gateways = vec![start(&config), start(&config), start(&config)];
    are_shared(&gateways).await;
    let operator = |one: &One| Operator { address: one.admin.clone(), ..Operator::new() };
    let path = |place: usize, what: &str| at("web", &servers[place].url(), what);
    let weighed = operator(&gateways[2]).ask("PUT", &path(3, "/weight"), "{\"weight\": 7}").await;
    assert_eq!(weighed.status, 200, "{}", weighed.body);
    assert_eq!(operator(&gateways[0]).post(&path(1, "/drain")).await.status, 200);
    assert_eq!(operator(&gateways[1]).post(&path(2, "/disable")).await.status, 200);
    measured("a drain and what is disabled: at all", are_out(&gateways, &[(1, "draining"), (2, "disabled")])).await;
    gateways.push(start(&config));
    are_out(&gateways, &[(1, "draining"), (2, "disabled")]).await;
    for one in &gateways {
        until(|| async { one.told().await["backends"][3]["weight"] == 7.0 }).await;
    }
    // Who there is the files say, at each of them.
    let new = serde_json::json!({ "url": "http://127.0.0.1:9" }).to_string();
    for refused in [
        operator(&gateways[0]).ask("DELETE", &path(1, ""), "").await,
        operator(&gateways[0]).ask("POST", "/pools/web/backends", &new).await,
    ] {
        assert_eq!(refused.status, 409);
        let words =
            "the file of each gateway of the fleet of pool web says who is there: expected a change in all of them";
        assert!(refused.error().starts_with(words), "{}", refused.body);
    }
    // Taken back by another than who said it.
    assert_eq!(operator(&gateways[3]).post(&path(1, "/enable")).await.status, 200);
    are_out(&gateways, &[(2, "disabled")]).await;
    for one in gateways {
        one.ends_well().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_password_that_is_replaced_in_its_file_is_used_for_the_next_connection() {
    let Some(etcd) = Etcd::start("gateway-fleet-password").await else { return };
    let servers = five().await;
    etcd.put("/web/0", &format!("{{\"url\": {:?}}}", servers[0].url())).await;
    let mut root = etcd.with_user("gateway", "first").await;
    let password = ConfigFile::new("first\n");
    let way = Way::open(free(), etcd.client).await;
    let access = format!(
        "etcd = {{ endpoints = \"http://{}\", user = \"gateway\", password_file = {:?} }}",
        way.address,
        password.path()
    );
    let one = start(&format!(
        "[fleet]\n{access}\nprefix = \"/gateways/\"\nttl = \"2s\"\n\
        [pools.web]\ndiscover = {{ {access}, prefix = \"/web/\", at_once = 1, confirm_after = \"0s\" }}\n"
    ));
    let knows = async |members: usize, is_shared: bool| {
        until(|| async {
            let told = one.told().await;
            told["discover"]["members"] == members && told["fleet"]["shared"] == is_shared
        })
        .await;
    };
    knows(1, true).await;
    root.user_change_password("gateway", "second").await.unwrap();
    let address = way.cut().await;
    knows(1, false).await;
    password.replace("second\n");
    let _way = Way::open(address, etcd.client).await;
    knows(1, true).await;
    root.put("/web/1", format!("{{\"url\": {:?}}}", servers[1].url()), None).await.unwrap();
    knows(2, true).await;
    one.ends_well().await;
}
