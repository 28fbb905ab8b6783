//! Names looked up at a DNS server on loopback, whose zone changes while it runs, and at one that does not do as it should.

mod common;

use common::{
    name_server::{NameServer, a, name},
    until,
};
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{AAAA, CNAME, SRV},
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{net::UdpSocket, task::AbortHandle, time::sleep};
use tower_balancer::{
    BackendPool, Discoverer,
    backend::{Backoff, Origin},
    discover::{DnsSource, Families, Guard},
};

const MS: Duration = Duration::from_millis(1);

/// A name server that does what it is told, over UDP.
struct Strange {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
    serving: AbortHandle,
}

impl Strange {
    /// Answers with what `answer` makes of the answer, or not at all.
    async fn start(answer: impl Fn(&Name, RecordType, &mut Message) -> bool + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::<AtomicU32>::default();
        let count = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                let mut message = Message::response(question.metadata.id, question.metadata.op_code);
                message.add_query(query.clone());
                count.fetch_add(1, Ordering::Relaxed);
                if answer(query.name(), query.query_type(), &mut message) {
                    socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        Self { address, asked, serving: serving.abort_handle() }
    }
}

impl Drop for Strange {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Names = Discoverer<Origin, DnsSource<Origin>>;

/// A pool that asks a server for a name, twenty times a second.
fn follow(source: DnsSource<SocketAddr>, server: SocketAddr, guard: Guard) -> (BackendPool<Origin>, Names) {
    let pool = BackendPool::empty();
    let source = source.servers([server]).ttl(MS * 50, MS * 50).timeout(MS * 300, 1).http();
    let backoff = Backoff { base: MS * 50, cap: MS * 50 };
    let discoverer = Discoverer::new(&pool, source).guard(guard).backoff(backoff);
    tokio::spawn(discoverer.run());
    (pool, discoverer)
}

fn addresses(name: &str) -> DnsSource<SocketAddr> {
    DnsSource::addresses(name, 80).unwrap()
}

fn there(pool: &BackendPool<Origin>) -> Vec<String> {
    pool.healthy().iter().map(|backend| backend.id().to_string()).collect()
}

async fn are_there(pool: &BackendPool<Origin>, expected: &[&str]) {
    until(|| async { there(pool) == expected }).await;
}

fn skips(discoverer: &Names, words: &str) -> bool {
    discoverer.status().skipped.iter().any(|entry| entry.contains(words))
}

fn fails(discoverer: &Names, words: &str) -> bool {
    discoverer.status().last_failure.is_some_and(|failure| failure.cause.contains(words))
}

#[tokio::test]
async fn addresses_of_both_families_come_and_go() {
    let server = NameServer::start().await;
    server.a("web.test.", [[10, 0, 0, 1], [10, 0, 0, 2]]).await;
    server.set("web.test.", RecordType::AAAA, 0, [RData::AAAA(AAAA("fd00::1".parse().unwrap()))]).await;
    let (pool, discoverer) = follow(addresses("web.test"), server.address, Guard::default());
    are_there(&pool, &["http://10.0.0.1", "http://10.0.0.2", "http://[fd00::1]"]).await;
    let one = pool.get("http://10.0.0.1").unwrap();
    let version = discoverer.status().version;

    server.a("web.test.", [[10, 0, 0, 1], [10, 0, 0, 3]]).await;
    are_there(&pool, &["http://10.0.0.1", "http://[fd00::1]", "http://10.0.0.3"]).await;
    assert!(Arc::ptr_eq(&one, &pool.get("http://10.0.0.1").unwrap()));
    until(|| async { discoverer.status().version != version }).await;

    let (pool, _discoverer) = follow(addresses("web.test").families(Families::Ipv6), server.address, Guard::default());
    are_there(&pool, &["http://[fd00::1]"]).await;
}

#[tokio::test]
async fn an_alias_and_a_search_domain_lead_to_the_name() {
    let server = NameServer::start().await;
    server.a("web.eu.test.", [[10, 0, 0, 1]]).await;
    server.set("www.test.", RecordType::CNAME, 0, [RData::CNAME(CNAME(name("web.eu.test.")))]).await;
    let (pool, _discoverer) = follow(addresses("www.test"), server.address, Guard::default());
    are_there(&pool, &["http://10.0.0.1"]).await;
    let source = addresses("web").search(["us.test", "eu.test"]);
    let (pool, discoverer) = follow(source, server.address, Guard::default());
    are_there(&pool, &["http://10.0.0.1"]).await;
    assert_eq!(&*discoverer.status().source, "dns web");
    // With a dot at its end it is what it is.
    let (pool, discoverer) = follow(addresses("web.").search(["eu.test"]), server.address, Guard::default());
    until(|| async { discoverer.status().failures > 0 }).await;
    assert!(there(&pool).is_empty());
}

#[tokio::test]
async fn services_bring_ports_weights_and_tiers() {
    let server = NameServer::start().await;
    server.a("a.test.", [[10, 0, 0, 1]]).await;
    server.a("b.test.", [[10, 0, 0, 2], [10, 0, 0, 3]]).await;
    let service = "_http._tcp.web.test.";
    server.srv(service, [(0, 30, 8080, "a.test."), (1, 10, 8081, "b.test."), (1, 0, 8082, "a.test.")]).await;
    let (pool, discoverer) = follow(DnsSource::services(service).unwrap(), server.address, Guard::default());
    are_there(&pool, &["http://10.0.0.1:8080", "http://10.0.0.1:8082", "http://10.0.0.2:8081", "http://10.0.0.3:8081"])
        .await;
    let weights = || -> Vec<_> { pool.backends().iter().map(|backend| backend.weight()).collect() };
    let tiers: Vec<_> = pool.backends().iter().map(|backend| backend.locality().priority).collect();
    assert_eq!((weights(), tiers), (vec![30.0, 1.0, 5.0, 5.0], vec![0, 1, 1, 1]));

    // A weight changes in place; a target that is no more is named.
    let one = pool.get("http://10.0.0.1:8080").unwrap();
    server.srv(service, [(0, 60, 8080, "a.test."), (1, 10, 8081, "b.test."), (2, 0, 80, "gone.test.")]).await;
    until(|| async { one.weight() == 60.0 }).await;
    are_there(&pool, &["http://10.0.0.1:8080", "http://10.0.0.2:8081", "http://10.0.0.3:8081"]).await;
    until(|| async { skips(&discoverer, "the target gone.test. does not exist") }).await;
}

#[tokio::test]
async fn a_service_that_is_not_to_be_had_is_nobody_when_it_is_said_twice() {
    let server = NameServer::start().await;
    server.a("a.test.", [[10, 0, 0, 1]]).await;
    server.srv("_http._tcp.test.", [(0, 0, 80, "a.test.")]).await;
    let guard = Guard::default().confirm_after(MS * 500);
    let (pool, discoverer) = follow(DnsSource::services("_http._tcp.test.").unwrap(), server.address, guard);
    are_there(&pool, &["http://10.0.0.1"]).await;
    server.srv("_http._tcp.test.", [(0, 0, 0, ".")]).await;
    until(|| async { discoverer.status().doubted == 1 }).await;
    assert_eq!(there(&pool).len(), 1);
    are_there(&pool, &[]).await;
    assert_eq!(discoverer.status().failures, 0);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_failure_and_one_without_addresses_is_nobody() {
    let server = NameServer::start().await;
    server.a("web.test.", [[10, 0, 0, 1]]).await;
    let (pool, discoverer) = follow(addresses("web.test"), server.address, Guard::off());
    are_there(&pool, &["http://10.0.0.1"]).await;
    server.a("web.test.", []).await;
    until(|| async { fails(&discoverer, "does not exist") && discoverer.status().failures > 3 }).await;
    assert_eq!(there(&pool).len(), 1);
    // It exists again, with something else.
    server.set("web.test.", RecordType::SRV, 0, [RData::SRV(SRV::new(0, 0, 1, name("a.test.")))]).await;
    are_there(&pool, &[]).await;

    let (pool, discoverer) = follow(addresses("no.test").absent_is_empty(), server.address, Guard::off());
    discoverer.ready().await;
    assert!(there(&pool).is_empty());
}

#[tokio::test]
async fn what_fails_or_is_silent_changes_nothing_and_is_not_taken_for_another_name() {
    // 0: well; 1: SERVFAIL; 2: REFUSED; 3: silence.
    let mode = Arc::<AtomicU32>::default();
    let does = Arc::clone(&mode);
    let server = Strange::start(move |asked, kind, message| {
        if *asked == name("web.b.test.") && kind == RecordType::A {
            message.add_answer(Record::from_rdata(asked.clone(), 0, a([10, 6, 6, 6])));
        } else if kind == RecordType::A {
            message.add_answer(Record::from_rdata(asked.clone(), 0, a([10, 0, 0, 1])));
        }
        let failure = match does.load(Ordering::Relaxed) {
            _ if *asked == name("web.b.test.") => return true,
            0 => return true,
            1 => ResponseCode::ServFail,
            2 => ResponseCode::Refused,
            _ => return false,
        };
        message.answers.clear();
        message.metadata.response_code = failure;
        true
    })
    .await;
    let source = addresses("web").search(["a.test", "b.test"]);
    let (pool, discoverer) = follow(source, server.address, Guard::off());
    are_there(&pool, &["http://10.0.0.1"]).await;
    for (failure, words) in [(1, "Server Failure"), (2, "Refused"), (3, "no answer in time")] {
        mode.store(failure, Ordering::Relaxed);
        until(|| async { fails(&discoverer, words) && discoverer.status().failures > 1 }).await;
        assert_eq!(there(&pool), ["http://10.0.0.1"]);
        mode.store(0, Ordering::Relaxed);
        until(|| async { discoverer.status().failures == 0 }).await;
    }
}

#[tokio::test]
async fn a_family_that_cannot_be_looked_up_keeps_its_addresses() {
    let broken = Arc::<AtomicU32>::default();
    let is_broken = Arc::clone(&broken);
    let server = Strange::start(move |asked, kind, message| {
        let round = is_broken.load(Ordering::Relaxed);
        match kind {
            RecordType::AAAA if round > 0 => message.metadata.response_code = ResponseCode::ServFail,
            RecordType::AAAA => {
                let address = RData::AAAA(AAAA("fd00::1".parse().unwrap()));
                message.add_answer(Record::from_rdata(asked.clone(), 0, address));
            }
            _ => {
                message.add_answer(Record::from_rdata(asked.clone(), 0, a([10, 0, 0, 1 + round as u8])));
            }
        }
        true
    })
    .await;
    let (pool, discoverer) = follow(addresses("web.test"), server.address, Guard::off());
    are_there(&pool, &["http://10.0.0.1", "http://[fd00::1]"]).await;
    broken.store(1, Ordering::Relaxed);
    are_there(&pool, &["http://[fd00::1]", "http://10.0.0.2"]).await;
    until(|| async { skips(&discoverer, "1 known addresses stay") }).await;
}

#[tokio::test]
async fn what_a_lying_answer_says_of_others_and_of_nobody_is_left_out_and_named() {
    let only_lies = Arc::<AtomicU32>::default();
    let lies = Arc::clone(&only_lies);
    let server = Strange::start(move |asked, kind, message| {
        if kind == RecordType::A {
            let mut add =
                |owner: &Name, address| _ = message.add_answer(Record::from_rdata(owner.clone(), 0, a(address)));
            add(asked, [0, 0, 0, 0]);
            if lies.load(Ordering::Relaxed) == 0 {
                add(asked, [10, 0, 0, 1]);
                add(asked, [224, 0, 0, 1]);
                add(&name("bank.test."), [10, 6, 6, 6]);
            }
        }
        true
    })
    .await;
    let (pool, discoverer) = follow(addresses("web.test"), server.address, Guard::off());
    are_there(&pool, &["http://10.0.0.1"]).await;
    for lie in
        ["0.0.0.0: nobody's", "224.0.0.1: the address of a group", "bank.test. 10.6.6.6: a record for another name"]
    {
        assert!(skips(&discoverer, lie), "{:?}", discoverer.status().skipped);
    }
    // Nothing but lies is no answer.
    only_lies.store(1, Ordering::Relaxed);
    until(|| async { fails(&discoverer, "nothing usable") }).await;
    assert_eq!(there(&pool), ["http://10.0.0.1"]);
}

#[tokio::test]
async fn more_than_a_thousand_are_a_thousand() {
    let server = NameServer::start().await;
    // Too long for UDP: the server says so, and it is asked over TCP.
    let many = (0..1_200_u16).map(|n| [10, 0, (n / 250) as u8, (n % 250) as u8 + 1]);
    server.a("web.test.", many).await;
    let (pool, discoverer) = follow(addresses("web.test"), server.address, Guard::default());
    until(|| async { pool.backends().len() == 1_000 }).await;
    until(|| async { skips(&discoverer, "200 are left out") }).await;
    let first = IpAddr::from([10, 0, 0, 1]);
    assert_eq!(pool.backends()[0].id().as_str(), format!("http://{first}"), "always the same thousand");
}

#[tokio::test]
async fn an_answer_is_good_for_its_time_to_live_within_bounds() {
    let server = Strange::start(|asked, kind, message| {
        if kind == RecordType::A {
            let ttl = if *asked == name("long.test.") { 3_600 } else { 0 };
            message.add_answer(Record::from_rdata(asked.clone(), ttl, a([10, 0, 0, 1])));
        }
        true
    })
    .await;
    let ask = |text: &str, least, most| {
        let source = addresses(text).families(Families::Ipv4).servers([server.address]).ttl(least, most).http();
        let pool = BackendPool::empty();
        let discoverer = Discoverer::new(&pool, source);
        let run = tokio::spawn(discoverer.run());
        async move {
            discoverer.ready().await;
            let run = run.abort_handle();
            (discoverer, run)
        }
    };
    // An hour is an hour, and nothing is an hour at the least where that is the bound.
    let hour = Duration::from_secs(3_600);
    for (text, least) in [("long.test", MS * 10), ("short.test", hour)] {
        let asked = server.asked.load(Ordering::Relaxed);
        let (_discoverer, run) = ask(text, least, hour).await;
        sleep(MS * 200).await;
        assert_eq!(server.asked.load(Ordering::Relaxed) - asked, 1, "{text}");
        run.abort();
    }
    for (text, least, most) in [("short.test", MS * 10, hour), ("long.test", MS * 10, MS * 10)] {
        let asked = server.asked.load(Ordering::Relaxed);
        let (_discoverer, run) = ask(text, least, most).await;
        until(|| async { server.asked.load(Ordering::Relaxed) - asked > 3 }).await;
        run.abort();
    }
}

#[tokio::test]
async fn a_name_server_that_is_gone_and_comes_back_is_asked_again() {
    let server = NameServer::start().await;
    server.a("web.test.", [[10, 0, 0, 1]]).await;
    let (pool, discoverer) = follow(addresses("web.test"), server.address, Guard::off());
    are_there(&pool, &["http://10.0.0.1"]).await;
    let killed = server.kill();
    until(|| async { discoverer.status().failures > 1 }).await;
    assert_eq!(there(&pool).len(), 1);
    let back = killed.again().await;
    back.a("web.test.", [[10, 0, 0, 2]]).await;
    are_there(&pool, &["http://10.0.0.2"]).await;
}
