//! Two gateways on machines of their own, and networks that go silent: packets are dropped and nobody is told. Needs network
//! namespaces, and an `etcd`; where there are none the test says so, and passes.

mod common;

use common::{
    Server,
    admin::Operator,
    etcd::Etcd,
    gateway::{ConfigFile, Gateway, binary},
    gateway_load::Load,
    network::{Machine, Network, apart, prepare},
    says, until,
};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

const BACKENDS: usize = 3;
const TOKEN: &str = "a-token-of-the-operators";

struct One {
    machine: Machine,
    _gateway: Gateway,
    operator: Operator,
    load: Load,
}

impl One {
    fn start(machine: Machine, web: Network, file: &ConfigFile) -> Self {
        let at = |port: u16| format!("{}.{}:{port}", web.begin, machine.number);
        let (listen, admin) = (at(8080), at(3100));
        let mut command = machine.command(binary().to_str().unwrap());
        command.args(["--listen", &listen, "--admin", &admin, "--workers", "1", "--config", file.path()]);
        let mut gateway = Gateway::spawn(command, 8080);
        gateway.line("INFO: Load balancer running on port 8080");
        gateway.url = format!("http://{listen}");
        let load = Load::on(&gateway.url, 3);
        let headers = vec![("authorization".to_owned(), format!("Bearer {TOKEN}"))];
        Self { machine, _gateway: gateway, operator: Operator { address: admin, headers }, load }
    }

    async fn told(&self) -> Value {
        self.operator.pools().await["pools"][0].clone()
    }

    async fn out(&self) -> Vec<usize> {
        let told = self.told().await;
        let states = told["backends"].as_array().unwrap().iter().map(|it| it["state"] != "healthy").enumerate();
        states.filter(|(_, is_out)| *is_out).map(|(place, _)| place).collect()
    }

    async fn is_alone(&self) {
        until(|| async {
            let fleet = self.told().await["fleet"].clone();
            fleet["shared"] == false && fleet["asked"] == BACKENDS
        })
        .await;
    }

    /// With so many gateways.
    async fn is_shared(&self, gateways: usize) {
        until(|| async {
            let fleet = self.told().await["fleet"].clone();
            fleet["shared"] == true && fleet["gateways"] == gateways && fleet["asked"] == BACKENDS
        })
        .await;
    }

    async fn are_out(&self, expected: &[usize]) {
        until(|| async { self.out().await == expected }).await;
    }

    /// What the source of its backends has found.
    async fn knows(&self, members: usize) {
        until(|| async { self.told().await["discover"]["members"] == members }).await;
    }

    /// Not one request has failed by now.
    async fn serves(&self) {
        self.load.more(20).await;
        assert_eq!(self.load.failed(), 0, "of {} at {}", self.load.answered(), self.machine.name);
    }
}

/// Waits for what is to come, and says how long that took; nothing is asserted about it.
async fn measured(what: &str, comes: impl Future<Output = ()>) {
    let begun = Instant::now();
    comes.await;
    eprintln!("MEASURED {what}: {:?}", begun.elapsed());
}

async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::join!(one, other);
}

#[test]
fn gateways_whose_network_goes_silent_are_alone_and_together_again_and_no_request_fails() {
    apart("gateways_whose_network_goes_silent_are_alone_and_together_again_and_no_request_fails", || {
        prepare();
        tokio::runtime::Runtime::new().unwrap().block_on(partitions());
    });
}

async fn partitions() {
    // What clients and backends use, and what the etcd is on.
    let (web, control) = (Network::new("web", "10.91.0"), Network::new("control", "10.92.0"));
    let [a, b] = [Machine::new("a", 11), Machine::new("b", 12)];
    for machine in [a, b] {
        web.join(machine);
        control.join(machine);
    }
    let Some(etcd) = Etcd::start_at(([10, 92, 0, 1], 2379).into(), "gateway-partition", None).await else { return };
    let address = |number| SocketAddr::from(([10, 91, 0, 1], 9000 + number as u16));
    let mut servers = Vec::new();
    for number in 0..BACKENDS {
        servers.push(Server::http_at(address(number), says(format!("backend {number}"))).await);
        etcd.put(&format!("/web/{number}"), &format!("{{\"url\": \"http://{}\"}}", address(number))).await;
    }
    let file = ConfigFile::new(&format!(
        "[server]\nadmin_token = {TOKEN:?}\n[fleet]\netcd = {etcd:?}\nprefix = \"/gateways/\"\nttl = \"2s\"\n\
        [pools.web]\ndiscover = {{ etcd = {etcd:?}, prefix = \"/web/\", at_once = 1, confirm_after = \"0s\" }}\n\
        health = {{ interval = \"200ms\", fast_interval = \"100ms\" }}\n",
        etcd = etcd.url()
    ));
    let (a, b) = (One::start(a, web, &file), One::start(b, web, &file));
    both(a.is_shared(2), b.is_shared(2)).await;
    both(a.are_out(&[]), b.are_out(&[])).await;

    // One of them no longer hears the etcd.
    control.silence(a.machine);
    measured("one is cut off: it is alone", a.is_alone()).await;
    measured("and the other knows it", b.is_shared(1)).await;
    let dead = servers.remove(1).kill().await;
    both(a.are_out(&[1]), b.are_out(&[1])).await;
    servers.insert(1, Server::http_at(dead, says("back")).await);
    both(a.are_out(&[]), b.are_out(&[])).await;
    let drain = common::admin::at("web", &format!("http://{}", address(2)), "/drain");
    assert_eq!(b.operator.post(&drain).await.status, 200);
    both(a.serves(), b.serves()).await;
    assert_eq!((a.out().await, b.out().await), (vec![], vec![2]));
    control.restore(a.machine);
    measured("no longer: together", both(a.is_shared(2), b.is_shared(2))).await;
    measured("and the drain of meanwhile is done", a.are_out(&[2])).await;
    let enable = drain.replace("/drain", "/enable");
    assert_eq!(a.operator.post(&enable).await.status, 200);
    both(a.are_out(&[]), b.are_out(&[])).await;

    // Both, for longer than anybody keeps a silent connection; what changes meanwhile they learn afterwards.
    control.silence(a.machine);
    control.silence(b.machine);
    measured("both are cut off: both are alone", both(a.is_alone(), b.is_alone())).await;
    etcd.put("/web/more", &format!("{{\"url\": \"http://{}\"}}", address(BACKENDS))).await;
    servers.push(Server::http_at(address(BACKENDS), says("more")).await);
    tokio::time::sleep(Duration::from_secs(20)).await;
    both(a.serves(), b.serves()).await;
    let failures = async |one: &One| one.told().await["discover"]["failures"].as_u64().unwrap();
    assert!(failures(&a).await > 0 && failures(&b).await > 0, "a silent connection is kept");
    control.restore(a.machine);
    control.restore(b.machine);
    measured("no longer: who is new is known", both(a.knows(4), b.knows(4))).await;
    etcd.delete("/web/more").await;
    measured("who is gone is known", both(a.knows(3), b.knows(3))).await;
    both(a.is_shared(2), b.is_shared(2)).await;
    both(a.serves(), b.serves()).await;
    for one in [a, b] {
        let (answered, failed) = one.load.end().await;
        assert!(answered > 100 && failed.is_empty(), "{} of {answered}: {failed:#?}", failed.len());
    }
}
