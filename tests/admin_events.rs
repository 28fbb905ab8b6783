//! What the gateway tells whoever follows it: in order, once, again after a lost connection, and to nobody's cost.

mod common;
#[allow(dead_code, unreachable_pub, unused_imports, reason = "the gateway's own, of which a part is asked here")]
#[path = "../examples/gateway/events/mod.rs"]
mod events;

use common::{
    Server,
    admin::{Events, Operator, at},
    gateway::{ConfigFile, Gateway, free_port},
    get, says, until,
};
use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

const QUIET: &str = "health = { interval = \"1h\", fast_interval = \"1h\" }\n";

async fn start(pool: &str) -> (Operator, Gateway, ConfigFile) {
    let file = ConfigFile::new(&format!("[pools.web]\n{pool}"));
    let operator = Operator::new();
    let gateway = Gateway::start(&["--admin", &operator.address, "--config", file.path()]);
    (operator, gateway, file)
}

fn number(event: &Value) -> u64 {
    event["id"].as_str().unwrap().split_once('-').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_happens_is_told_in_order() {
    let (one, two) = (Server::http(says("one")).await, Server::http(says("two")).await);
    let (first, url) = (one.url(), two.url());
    let pool = format!("{QUIET}strategy = \"random\"\nfail_open = \"all_backends\"\nbackends = [{first:?}, {url:?}]");
    let (operator, gateway, file) = start(&pool).await;
    (0..2).for_each(|_| _ = gateway.line("HEALTH: "));
    let mut events = operator.events().await;
    let address = two.kill().await;
    until(|| async {
        get(&gateway.url).await;
        operator.backend("web", &url).await["state"] != "healthy"
    })
    .await;
    let event = events.next().await;
    assert_eq!((&event["kind"], &event["state"], &event["pool"]), (&"health".into(), &"ejected".into(), &"web".into()));
    assert_eq!((&event["backend"], &event["reason"]), (&(&*url).into(), &"Connection refused".into()));
    assert_eq!(event["text"], format!("{url} is ejected: Connection refused"));
    assert!(event["time"].as_str().unwrap().ends_with('Z'));
    let mut last = number(&event);

    let third = Server::http_at(address, says("two")).await;
    assert_eq!(operator.post(&at("web", &first, "/disable?force=true")).await.status, 200);
    assert_eq!(operator.post(&at("web", &first, "/enable")).await.status, 200);
    assert_eq!(operator.ask("PUT", &at("web", &first, "/weight"), "{\"weight\": 3}").await.status, 200);
    let new = format!("{{\"url\": \"http://127.0.0.1:{}\"}}", free_port());
    assert_eq!(operator.ask("POST", "/pools/web/backends", &new).await.status, 201);
    for kind in ["change", "change", "weight", "added"] {
        let event = events.find(|event| event["kind"] == kind).await;
        // No number is missing or told twice.
        assert!(number(&event) > last, "{event}");
        last = number(&event);
    }
    file.write(&format!("[pools.web]\n{pool}\nretry = {{ attempts = 1 }}"));
    let event = events.find(|event| event["kind"] == "reload").await;
    assert_eq!(event["text"], "Configuration reloaded: pools 1, routes 1");
    file.write("[pools.web");
    let event = events.find(|event| event["kind"] == "reload_refused").await;
    assert!(event["reason"].as_str().unwrap().contains(":1: unclosed table"), "{event}");
    // Its pool is new, and is followed as well.
    file.write(&format!("[pools.more]\nhealth = \"off\"\nbackends = [{first:?}]\n[[routes]]\npool = \"more\""));
    let event = events.find(|event| event["pool"] == "more").await;
    assert_eq!((&event["kind"], &event["backend"]), (&"added".into(), &(&*first).into()));
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_hears_what_he_missed_and_nothing_twice() {
    let server = Server::http(says("one")).await;
    let url = server.url();
    let (operator, gateway, _file) = start(&format!("{QUIET}strategy = \"random\"\nbackends = [{url:?}]")).await;
    gateway.line("HEALTH: ");
    let weigh = |weight: u32| {
        let (operator, path) = (operator.clone(), at("web", &url, "/weight"));
        async move { operator.ask("PUT", &path, &format!("{{\"weight\": {weight}}}")).await.status }
    };
    let mut events = operator.events().await;
    assert_eq!(weigh(2).await, 200);
    let seen = events.find(|event| event["kind"] == "change").await;
    drop(events);
    for weight in 3..10 {
        assert_eq!(weigh(weight).await, 200);
    }
    let again = |id: &str| {
        let operator = operator.with("last-event-id", id);
        async move { operator.events().await }
    };
    let is_change = |event: &Value| event["kind"] == "change";
    let mut events = again(seen["id"].as_str().unwrap()).await;
    let mut last = number(&seen);
    for weight in 3..10 {
        let event = loop {
            let event = events.next().await;
            assert_eq!(number(&event), last + 1);
            last += 1;
            if is_change(&event) {
                break event;
            }
        };
        assert_eq!(event["after"], format!("healthy, weight {weight}"));
    }
    // Of another process, or nonsense: everything is new.
    for id in ["1-5", "nonsense", ""] {
        let event = again(id).await.next().await;
        assert_eq!(number(&event), 0, "{id:?}");
    }
    // One that is still to come: nothing is told twice.
    let run = seen["id"].as_str().unwrap().split_once('-').unwrap().0;
    let mut events = again(&format!("{run}-99999")).await;
    assert_eq!(weigh(11).await, 200);
    assert_eq!(events.find(is_change).await["after"], "healthy, weight 11");
    // Without an id: from now on.
    let mut events = operator.events().await;
    assert_eq!(weigh(12).await, 200);
    assert_eq!(events.find(is_change).await["after"], "healthy, weight 12");
}

/// The memory of a process, in KiB.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn a_reader_who_does_not_read_costs_nothing_and_is_let_go() {
    let server = Server::http(says("one")).await;
    let url = server.url();
    let (operator, gateway, _file) = start(&format!("{QUIET}strategy = \"random\"\nbackends = [{url:?}]")).await;
    gateway.line("HEALTH: ");
    // It takes little at a time.
    let mut idle = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        let mut stream = socket.connect(operator.address.parse().unwrap()).await.unwrap();
        let head = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", operator.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    let mut events = operator.events().await;
    let sockets = || std::fs::read_dir(format!("/proc/{}/fd", gateway.child.id())).unwrap().count();
    let (before, there) = (memory(gateway.child.id()), sockets());
    assert_eq!(operator.post(&at("web", &url, "/enable")).await.status, 200);
    let first = events.find(|event| event["kind"] == "change").await;
    // Many more than are kept. Over one connection, for speed; the quick reader has to have each.
    let (path, rounds) = (at("web", &url, "/weight"), 8_000);
    let mut stream = tokio::net::TcpStream::connect(&operator.address).await.unwrap();
    let mut buffer = vec![0; 65_536];
    let mut reading = tokio::spawn(async move {
        let mut last: Option<u64> = None;
        loop {
            let event = events.next().await;
            assert_ne!(event["kind"], "missed", "the quick reader has missed some");
            assert!(last.is_none_or(|last| number(&event) == last + 1), "{event}");
            last = Some(number(&event));
            if event["after"] == "healthy, weight 424242" {
                return last;
            }
        }
    });
    for round in 0..=rounds {
        let weight = if round == rounds { 424_242 } else { round };
        let body = format!("{{\"weight\": {weight}}}");
        let head = format!("PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n", operator.address);
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200 OK"));
    }
    let told = tokio::time::timeout(Duration::from_secs(20), &mut reading).await.unwrap().unwrap().unwrap();
    assert!(told >= 2 * rounds as u64, "{told}");
    let grown = memory(gateway.child.id()).saturating_sub(before);
    eprintln!("20 idle readers and {told} events: {grown} KiB more");
    assert!(grown < 8 * 1024, "{grown} KiB");

    // Who comes back after so long learns how much he has missed, and then has all that is left.
    let run = first["id"].as_str().unwrap().split_once('-').unwrap().0;
    let mut events = operator.with("last-event-id", &format!("{run}-{}", number(&first))).events().await;
    let missed = events.next().await;
    assert_eq!(missed["kind"], "missed");
    assert_eq!(missed["missed"].as_u64().unwrap(), number(&missed) - number(&first));
    let next = events.next().await;
    assert_eq!(number(&next), number(&missed) + 1);
    assert!(told - number(&next) < 1_100, "{next}");

    // Those who do not read are let go, in time.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    while sockets() + idle.len() > there + 1 {
        assert!(tokio::time::Instant::now() < deadline, "{} of {there} descriptors are still open", sockets());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(operator.backend("web", &url).await["weight"], 424_242.0);
}

async fn comments(events: &mut Events) -> String {
    loop {
        let block = events.block().await.unwrap();
        if block.starts_with(':') {
            return block;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_connection_is_kept_alive() {
    let server = Server::http(says("one")).await;
    let (operator, gateway, _file) = start(&format!("{QUIET}backends = [{:?}]", server.url())).await;
    gateway.line("HEALTH: ");
    let mut events = operator.events().await;
    // How soon it may be asked again, at once: who asks knows that he is heard.
    assert_eq!(events.block().await.unwrap(), "retry: 1000");
    assert_eq!(comments(&mut events).await, ": nothing new");
}

#[tokio::test]
async fn of_long_events_fewer_are_kept_and_the_last_one_always() {
    use events::{Event, Journal, Kind};
    let journal = Journal::new();
    let long = "x".repeat(100_000);
    (0..100).for_each(|_| journal.tell(Event::new(Kind::Health, "").backend(&long)));
    let mut all = journal.read(Some("of another process"));
    let missed = String::from_utf8(all.next().await.to_vec()).unwrap();
    assert!(missed.contains("\"missed\":80"), "{missed}");
    journal.tell(Event::new(Kind::Health, "").backend("x".repeat(10_000_000)));
    let mut last = journal.read(Some("of another process"));
    assert!(last.next().await.len() < 1_000);
    assert!(last.next().await.len() > 10_000_000);
}
