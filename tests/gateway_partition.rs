//! Two gateways on machines of their own, and networks that go silent: packets are dropped and nobody is told. Needs network
//! namespaces, and an `etcd`; where there are none the test says so, and passes.

mod common;

use common::{
    Server,
    admin::{Operator, at},
    etcd::Etcd,
    gateway::{ConfigFile, Gateway, binary},
    gateway_load::Load,
    network::{Machine, Network, apart, prepare},
    says, until,
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

const BACKENDS: usize = 4;
const TOKEN: &str = "a-token-of-the-operators";

struct One {
    machine: Machine,
    _gateway: Gateway,
    operator: Operator,
    load: Load,
}

/// A gateway at port 8080 of the machine.
fn gateway(machine: Machine, web: Network, arguments: &[&str]) -> Gateway {
    let mut command = machine.command(binary().to_str().unwrap());
    let listen = format!("{}.{}:8080", web.begin, machine.number);
    command.args(["--listen", &listen, "--workers", "1"]).args(arguments);
    let mut gateway = Gateway::spawn(command, 8080);
    gateway.line("INFO: Load balancer running on port 8080");
    gateway.url = format!("http://{listen}");
    gateway
}

impl One {
    fn start(machine: Machine, web: Network, file: &ConfigFile) -> Self {
        let admin = format!("{}.{}:3100", web.begin, machine.number);
        let gateway = gateway(machine, web, &["--admin", &admin, "--config", file.path()]);
        let load = Load::on(&gateway.url, 3);
        let headers = vec![("authorization".to_owned(), format!("Bearer {TOKEN}"))];
        Self { machine, _gateway: gateway, operator: Operator { address: admin, headers }, load }
    }

    async fn told(&self) -> Value {
        self.operator.pools().await["pools"][0].clone()
    }

    /// The addresses of those that are out.
    async fn out(&self) -> Vec<String> {
        let told = self.told().await;
        let out = told["backends"].as_array().unwrap().iter().filter(|it| it["state"] != "healthy");
        out.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
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
            fleet["shared"] == true && fleet["gateways"] == gateways
        })
        .await;
    }

    async fn are_out(&self, expected: &[&str]) {
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
    let [a, b, c] = [Machine::new("a", 11), Machine::new("b", 12), Machine::new("c", 13)];
    for machine in [a, b, c] {
        web.join(machine);
        control.join(machine);
    }
    let Some(etcd) = Etcd::start_at(([10, 92, 0, 1], 2379).into(), "gateway-partition", None).await else { return };
    let lists = async |key: &str, url: &str| etcd.put(&format!("/web/{key}"), &format!("{{\"url\": {url:?}}}")).await;
    let mut servers = Vec::new();
    for port in 9000..9003 {
        let server = Server::http_at(([10, 91, 0, 1], port).into(), says("well")).await;
        lists(&port.to_string(), &server.url()).await;
        servers.push(server);
    }
    // One more is on a machine of its own, and is a gateway too.
    let further = gateway(c, web, &["--admin", "off", "--backend", &servers[0].url()]);
    lists("further", &further.url).await;
    let file = ConfigFile::new(&format!(
        "[server]\nadmin_token = {TOKEN:?}\n[fleet]\netcd = {etcd:?}\nprefix = \"/gateways/\"\nttl = \"2s\"\n\
        [pools.web]\ndiscover = {{ etcd = {etcd:?}, prefix = \"/web/\", at_once = 1, confirm_after = \"0s\" }}\n\
        health = {{ interval = \"200ms\", fast_interval = \"100ms\", timeout = \"500ms\" }}\n",
        etcd = etcd.url()
    ));
    let (a, b) = (One::start(a, web, &file), One::start(b, web, &file));
    both(a.is_shared(2), b.is_shared(2)).await;
    both(a.are_out(&[]), b.are_out(&[])).await;

    // A backend no longer hears anybody.
    web.silence(c);
    measured("a backend goes silent: out at both", both(a.are_out(&[&further.url]), b.are_out(&[&further.url]))).await;
    both(a.serves(), b.serves()).await;
    web.restore(c);
    measured("no longer: in at both", both(a.are_out(&[]), b.are_out(&[]))).await;

    // A gateway no longer hears the etcd.
    control.silence(a.machine);
    measured("one is cut off: it is alone", a.is_alone()).await;
    measured("and the other knows it", b.is_shared(1)).await;
    let url = servers[2].url();
    let dead = servers.pop().unwrap().kill().await;
    both(a.are_out(&[&url]), b.are_out(&[&url])).await;
    servers.push(Server::http_at(dead, says("back")).await);
    both(a.are_out(&[]), b.are_out(&[])).await;
    assert_eq!(b.operator.post(&at("web", &url, "/drain")).await.status, 200);
    both(a.serves(), b.serves()).await;
    both(a.are_out(&[]), b.are_out(&[&url])).await;
    control.restore(a.machine);
    measured("no longer: together", both(a.is_shared(2), b.is_shared(2))).await;
    measured("and the drain of meanwhile is done", a.are_out(&[&url])).await;
    assert_eq!(a.operator.post(&at("web", &url, "/enable")).await.status, 200);
    both(a.are_out(&[]), b.are_out(&[])).await;

    // Both, for longer than anybody keeps a silent connection; what changes meanwhile they learn afterwards.
    control.silence(a.machine);
    control.silence(b.machine);
    measured("both are cut off: both are alone", both(a.is_alone(), b.is_alone())).await;
    let more = Server::http_at(([10, 91, 0, 1], 9003).into(), says("more")).await;
    lists("more", &more.url()).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    both(a.serves(), b.serves()).await;
    let failures = async |one: &One| one.told().await["discover"]["failures"].as_u64().unwrap();
    assert!(failures(&a).await > 0 && failures(&b).await > 0, "a silent connection is kept");
    control.restore(a.machine);
    control.restore(b.machine);
    measured("no longer: together", both(a.is_shared(2), b.is_shared(2))).await;
    measured("and who is new is known", both(a.knows(BACKENDS + 1), b.knows(BACKENDS + 1))).await;
    etcd.delete("/web/more").await;
    measured("who is gone is known", both(a.knows(BACKENDS), b.knows(BACKENDS))).await;
    both(a.is_shared(2), b.is_shared(2)).await;
    both(a.serves(), b.serves()).await;
    for one in [a, b] {
        let (answered, failed) = one.load.end().await;
        assert!(answered > 100 && failed.is_empty(), "{} of {answered}: {failed:#?}", failed.len());
    }
}
