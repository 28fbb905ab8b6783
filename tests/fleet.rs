//! Gateways that share their health checks through an etcd that runs on loopback while the test lasts. Where no `etcd` is
//! installed the tests say so, and pass.

mod common;

use common::{
    etcd::{Etcd, Way, free},
    until,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::Instant,
};
use tower_balancer::{
    BackendPool, BoxError, HealthChecker,
    backend::{Backend, Backoff, HealthState, Lease, Outcome, Weight},
    discover::EtcdConfig,
    fleet::Fleet,
    health,
    pool::Member,
};

const MS: Duration = Duration::from_millis(1);
const BACKENDS: u32 = 5;

/// What there is to be found out, and who finds it out.
#[derive(Default)]
struct World {
    ill: Mutex<BTreeSet<u32>>,
    /// Gateways that reach nobody.
    blind: Mutex<BTreeSet<usize>>,
    /// And those that do not reach one backend.
    cut: Mutex<BTreeSet<(usize, u32)>>,
    /// Who has asked whom.
    asked: Mutex<BTreeSet<(usize, u32)>>,
}

struct Gateway {
    pool: BackendPool<u32>,
    fleet: Fleet<u32>,
    checks: AbortHandle,
    run: JoinHandle<()>,
}

impl Gateway {
    /// A request of its own does not get to the backend, which is out here for that.
    fn fails_to_reach(&self, id: &str) -> Arc<Backend> {
        let (backend, now) = (self.pool.get(id).unwrap(), Instant::now().into_std());
        Lease::take(Arc::clone(&backend), now).fail(Outcome::ConnectFault, "refused", now);
        backend
    }

    /// One that is missed within two seconds.
    fn start(number: usize, etcd: EtcdConfig, world: &Arc<World>) -> Self {
        Self::lasting(number, etcd, world, Duration::from_secs(2))
    }

    fn lasting(number: usize, etcd: EtcdConfig, world: &Arc<World>, ttl: Duration) -> Self {
        let pool = BackendPool::from_members((0..BACKENDS).map(|n| Member::new(n.to_string(), n))).unwrap();
        // By checks that there were before.
        pool.mark_unhealthy("0");
        let fleet = Fleet::new(&pool, etcd, "/gateways/web/")
            .name(format!("gateway-{number}"))
            .ttl(ttl)
            .backoff(Backoff { base: MS * 50, cap: MS * 200 });
        let world = Arc::clone(world);
        let probe = move |backend: u32| {
            world.asked.lock().unwrap().insert((number, backend));
            let is_well = !world.ill.lock().unwrap().contains(&backend);
            let is_cut = world.cut.lock().unwrap().contains(&(number, backend));
            let sees = !is_cut && !world.blind.lock().unwrap().contains(&number);
            async move { if is_well && sees { Ok("well".to_owned()) } else { Err(BoxError::from("refused")) } }
        };
        let checker = HealthChecker::new(fleet.share(), probe)
            .interval(MS * 100)
            .fast_interval(MS * 50)
            .down_interval(Duration::ZERO);
        Self::of(pool, fleet, checker)
    }

    fn of<P: health::Probe<u32>>(pool: BackendPool<u32>, fleet: Fleet<u32>, checker: HealthChecker<u32, P>) -> Self {
        let checks = tokio::spawn(checker.run()).abort_handle();
        let run = tokio::spawn(fleet.run());
        Self { pool, fleet, checks, run }
    }

    /// Keeps those out that nobody has checked, and takes long over a check.
    fn careful(number: usize, etcd: EtcdConfig) -> Self {
        let pool = BackendPool::from_members((0..BACKENDS).map(|n| Member::new(n.to_string(), n))).unwrap();
        let fleet = Fleet::new(&pool, etcd, "/gateways/web/")
            .name(format!("gateway-{number}"))
            .ttl(Duration::from_secs(2))
            .probers(1)
            .backoff(Backoff { base: MS * 50, cap: MS * 200 });
        let probe = |_: u32| async {
            tokio::time::sleep(MS * 500).await;
            Ok::<_, BoxError>("well".to_owned())
        };
        let checker = HealthChecker::new(fleet.share(), probe).interval(MS * 200).out_until_checked();
        Self::of(pool, fleet, checker)
    }

    fn out(&self) -> Vec<u32> {
        let members = self.pool.members();
        members.iter().filter(|(backend, _)| !backend.is_eligible()).map(|(_, target)| *target).collect()
    }

    fn asked(&self) -> usize {
        self.fleet.status().asked
    }

    /// Is gone without a word.
    fn crash(self) {
        self.checks.abort();
        self.run.abort();
    }
}

impl World {
    /// Who asks each of the backends.
    async fn askers(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clear();
        // However long nobody could do anything.
        until(|| async { self.asked.lock().unwrap().len() >= BACKENDS as usize }).await;
        tokio::time::sleep(MS * 400).await;
        let asked = self.asked.lock().unwrap();
        (0..BACKENDS).map(|backend| asked.iter().filter(|(_, other)| *other == backend).count()).collect()
    }
}

fn three(etcd: &Etcd, world: &Arc<World>) -> Vec<Gateway> {
    (0..3).map(|number| Gateway::start(number, etcd.config(), world)).collect()
}

/// Three that nobody misses while the test lasts, however busy the machine is.
fn three_that_last(etcd: &Etcd, world: &Arc<World>) -> Vec<Gateway> {
    (0..3).map(|number| Gateway::lasting(number, etcd.config(), world, Duration::from_secs(60))).collect()
}

/// Waits until each backend is asked by two of all.
async fn are_shared(gateways: &[Gateway]) {
    let shared = |gateway: &Gateway| {
        let status = gateway.fleet.status();
        status.is_shared && status.gateways == gateways.len()
    };
    let each_twice = || gateways.iter().map(Gateway::asked).sum::<usize>() == gateways.len().min(2) * BACKENDS as usize;
    until(|| async { gateways.iter().all(shared) && each_twice() }).await;
}

async fn are_out(gateways: &[Gateway], expected: &[u32]) {
    until(|| async { gateways.iter().all(|gateway| gateway.out() == expected) }).await;
}

#[tokio::test]
async fn each_backend_is_asked_by_two_and_what_they_find_counts_for_all() {
    let Some(etcd) = Etcd::start("fleet-two").await else { return };
    let world = Arc::<World>::default();
    let gateways = three_that_last(&etcd, &world);
    are_shared(&gateways).await;
    are_out(&gateways, &[]).await;
    assert_eq!(world.askers().await, [2; BACKENDS as usize]);
    world.ill.lock().unwrap().extend([1, 3]);
    are_out(&gateways, &[1, 3]).await;
    let cause = gateways[0].pool.get("1").unwrap().health().cause().unwrap().to_owned();
    assert_eq!(cause, "refused (2 of 2 gateways)");
    world.ill.lock().unwrap().clear();
    are_out(&gateways, &[]).await;
}

#[tokio::test]
async fn one_that_reaches_nobody_takes_nobody_out_not_even_here_and_says_so() {
    let Some(etcd) = Etcd::start("fleet-blind").await else { return };
    let world = Arc::<World>::default();
    let gateways = three_that_last(&etcd, &world);
    are_shared(&gateways).await;
    are_out(&gateways, &[]).await;
    world.blind.lock().unwrap().insert(1);
    until(|| async { gateways[1].fleet.status().dissents.len() == gateways[1].asked() }).await;
    for _ in 0..20 {
        assert!(gateways.iter().all(|gateway| gateway.out().is_empty()));
        tokio::time::sleep(MS * 20).await;
    }
    assert!(gateways[0].fleet.status().dissents.is_empty());
    // Nor do two of them who see the same, where they are not both who is asked; and what is ill in truth is out all the same
    // as soon as those who see find it.
    world.ill.lock().unwrap().insert(2);
    are_out(&gateways, &[2]).await;
    world.blind.lock().unwrap().clear();
    world.ill.lock().unwrap().clear();
    are_out(&gateways, &[]).await;
    until(|| async { gateways[1].fleet.status().dissents.is_empty() }).await;
}

#[tokio::test]
async fn one_that_begins_and_reaches_nobody_takes_nobody_out_before_it_has_heard_the_others() {
    let Some(etcd) = Etcd::start("fleet-begins").await else { return };
    let world = Arc::<World>::default();
    let mut gateways = three_that_last(&etcd, &world);
    are_shared(&gateways).await;
    are_out(&gateways, &[]).await;
    gateways.truncate(2);
    world.blind.lock().unwrap().extend([3, 4]);
    let way = Way::open(free(), etcd.client).await;
    way.lose();
    let through = || EtcdConfig::new([format!("http://{}", way.address)]).timeout(MS * 500);
    let begins = Gateway::lasting(3, through(), &world, Duration::from_secs(60));
    let finds_all_ill = |gateway: &Gateway| {
        let share = gateway.fleet.share().backends();
        let is_ill = |state| state == HealthState::Unhealthy;
        share.len() == BACKENDS as usize && share.iter().all(|backend| is_ill(backend.health().state()))
    };
    until(|| async { finds_all_ill(&begins) }).await;
    for _ in 0..20 {
        assert_eq!(begins.out(), [0], "whom earlier checks have found ill");
        tokio::time::sleep(MS * 20).await;
    }
    // Nor is anybody waited for longer than for one that is gone.
    let waits = Gateway::start(4, through(), &world);
    until(|| async { waits.out().len() == BACKENDS as usize }).await;
    waits.crash();
    way.find();
    gateways.push(begins);
    until(|| async { gateways[2].fleet.status().is_shared && !gateways[2].fleet.status().dissents.is_empty() }).await;
    are_out(&gateways, &[]).await;
}

#[tokio::test]
async fn when_one_is_gone_others_ask_in_its_place_at_once_where_it_has_said_so() {
    let Some(etcd) = Etcd::start("fleet-gone").await else { return };
    let world = Arc::<World>::default();
    let mut gateways = three(&etcd, &world);
    are_shared(&gateways).await;
    gateways.remove(1).crash();
    are_shared(&gateways).await;
    world.ill.lock().unwrap().insert(0);
    are_out(&gateways, &[0]).await;
    gateways.push(Gateway::lasting(3, etcd.config(), &world, Duration::from_secs(60)));
    are_shared(&gateways).await;
    are_out(&gateways, &[0]).await;
    // Its lease would last for a minute.
    let begun = Instant::now();
    let stops = gateways.remove(2);
    stops.checks.abort();
    stops.fleet.stop();
    stops.run.await.unwrap();
    are_shared(&gateways).await;
    eprintln!("who stops is replaced after {:?}", begun.elapsed());
    are_out(&gateways, &[0]).await;
    let mut client = etcd.client().await;
    let left = client.get("/gateways/web/ballots/gateway-3", None).await.unwrap();
    assert!(left.kvs().is_empty(), "it has taken its word back");
}

#[tokio::test]
async fn one_that_stops_takes_its_word_back_by_whichever_endpoint_answers() {
    let Some(etcd) = Etcd::start("fleet-endpoints").await else { return };
    let world = Arc::<World>::default();
    // Nobody listens at the first.
    let both = EtcdConfig::new([format!("http://{}", free()), format!("http://{}", etcd.client)]);
    let gateways = [Gateway::start(0, both, &world)];
    are_shared(&gateways).await;
    let [stops] = gateways;
    stops.fleet.stop();
    stops.run.await.unwrap();
    let mut client = etcd.client().await;
    let left = client.get("/gateways/web/ballots/gateway-0", None).await.unwrap();
    assert!(left.kvs().is_empty(), "it is there until its lease ends");
}

#[tokio::test]
async fn without_etcd_each_is_alone_and_asks_everybody_and_nobody_changes_by_that() {
    let Some(mut etcd) = Etcd::start("fleet-alone").await else { return };
    let world = Arc::<World>::default();
    let gateways = three(&etcd, &world);
    are_shared(&gateways).await;
    world.ill.lock().unwrap().insert(4);
    are_out(&gateways, &[4]).await;
    etcd.kill();
    let begun = Instant::now();
    let alone = |gateway: &Gateway| !gateway.fleet.status().is_shared && gateway.asked() == BACKENDS as usize;
    until(|| async {
        assert!(gateways.iter().all(|gateway| gateway.out() == [4]));
        gateways.iter().all(alone)
    })
    .await;
    eprintln!("alone after {:?}", begun.elapsed());
    let failure = gateways[0].fleet.status().last_failure.unwrap();
    assert_eq!(&*failure.cause, "Connection refused");
    assert_eq!(world.askers().await, [3; BACKENDS as usize]);
    // Each by itself: what one does not reach is out there, and only there.
    world.blind.lock().unwrap().insert(0);
    until(|| async { gateways[0].out().len() == BACKENDS as usize }).await;
    assert_eq!((gateways[1].out(), gateways[2].out()), (vec![4], vec![4]));
    etcd.run().await;
    are_shared(&gateways).await;
    // It hears the others again.
    are_out(&gateways, &[4]).await;
}

#[tokio::test]
async fn one_that_is_known_is_not_taken_out_because_somebody_else_has_yet_to_check_it() {
    let Some(mut etcd) = Etcd::start("fleet-careful").await else { return };
    let mut gateways = vec![Gateway::careful(0, etcd.config())];
    // A new one is out until somebody has.
    until(|| async { gateways[0].out().len() == BACKENDS as usize }).await;
    are_out(&gateways, &[]).await;
    gateways.extend([Gateway::careful(1, etcd.config()), Gateway::careful(2, etcd.config())]);
    let shared = || gateways.iter().all(|gateway| gateway.fleet.status().is_shared);
    until(|| async { shared() && gateways.iter().map(Gateway::asked).sum::<usize>() == BACKENDS as usize }).await;
    are_out(&gateways, &[]).await;
    // Alone, each begins to ask those that others have asked.
    etcd.kill();
    until(|| async {
        assert!(gateways.iter().all(|gateway| gateway.out().is_empty()), "out before anybody found it ill");
        gateways.iter().all(|gateway| gateway.asked() == BACKENDS as usize)
    })
    .await;
    for _ in 0..50 {
        assert!(gateways.iter().all(|gateway| gateway.out().is_empty()), "out before anybody found it ill");
        tokio::time::sleep(MS * 20).await;
    }
}

#[tokio::test]
async fn one_that_is_cut_off_from_etcd_is_missed_by_the_others_and_goes_on_alone() {
    let Some(etcd) = Etcd::start("fleet-cut").await else { return };
    let world = Arc::<World>::default();
    let way = Way::open(free(), etcd.client).await;
    let through = EtcdConfig::new([format!("http://{}", way.address)]).timeout(MS * 500);
    let mut gateways = vec![Gateway::start(0, etcd.config(), &world), Gateway::start(1, etcd.config(), &world)];
    gateways.push(Gateway::start(2, through, &world));
    are_shared(&gateways).await;
    // At first nobody says that nothing arrives.
    way.lose();
    let apart = gateways.pop().unwrap();
    are_shared(&gateways).await;
    until(|| async { !apart.fleet.status().is_shared && apart.asked() == BACKENDS as usize }).await;
    way.find();
    gateways.push(apart);
    are_shared(&gateways).await;

    let address = way.cut().await;
    let apart = gateways.pop().unwrap();
    are_shared(&gateways).await;
    until(|| async { !apart.fleet.status().is_shared && apart.asked() == BACKENDS as usize }).await;
    assert!(apart.fleet.status().last_failure.is_some());
    world.ill.lock().unwrap().insert(3);
    gateways.push(apart);
    are_out(&gateways, &[3]).await;
    let _way = Way::open(address, etcd.client).await;
    are_shared(&gateways).await;
    are_out(&gateways, &[3]).await;
}

#[tokio::test]
async fn what_own_requests_cannot_reach_is_out_here_alone_until_an_own_check_passes() {
    let Some(etcd) = Etcd::start("fleet-traffic").await else { return };
    let world = Arc::<World>::default();
    let gateways = three_that_last(&etcd, &world);
    are_shared(&gateways).await;
    are_out(&gateways, &[]).await;
    // Another backend each time: what was found out of the last one may not have reached everybody yet.
    for (gateway, target) in [(0, 1), (1, 2), (2, 3)] {
        let id = target.to_string();
        world.cut.lock().unwrap().insert((gateway, target));
        let backend = gateways[gateway].fails_to_reach(&id);
        assert_eq!(backend.health().state(), HealthState::Ejected);
        // It asks by itself now, whoever else does.
        until(|| async { gateways[gateway].fleet.share().get(&id).is_some() }).await;
        for _ in 0..10 {
            tokio::time::sleep(MS * 20).await;
            assert_eq!(gateways[gateway].out(), [target]);
            let others = gateways.iter().enumerate().filter(|(other, _)| *other != gateway);
            assert!(others.into_iter().all(|(_, other)| other.out().is_empty()));
        }
        world.cut.lock().unwrap().clear();
        are_out(&gateways, &[]).await;
        are_shared(&gateways).await;
    }
}

#[tokio::test]
async fn one_that_is_drained_and_cannot_be_reached_here_is_not_well_because_others_reach_it() {
    let Some(etcd) = Etcd::start("fleet-drained").await else { return };
    let world = Arc::<World>::default();
    let gateways = three(&etcd, &world);
    are_shared(&gateways).await;
    are_out(&gateways, &[]).await;
    gateways[0].pool.drain("2").unwrap();
    are_out(&gateways, &[2]).await;
    let backend = gateways[1].pool.get("2").unwrap();
    let now = || Instant::now().into_std();
    // Whether its sessions may go to it.
    let is_well = || backend.is_draining(now(), Duration::from_secs(3_600));
    until(|| async { is_well() }).await;
    gateways[1].fails_to_reach("2");
    for _ in 0..80 {
        assert!(!is_well(), "it is well to others");
        tokio::time::sleep(MS * 20).await;
    }
    gateways[1].pool.enable("2");
    are_out(&gateways, &[]).await;
}

#[tokio::test]
async fn what_the_operator_says_at_one_is_done_at_all_and_at_those_that_come_later() {
    let Some(mut etcd) = Etcd::start("fleet-orders").await else { return };
    let world = Arc::<World>::default();
    let mut gateways = three(&etcd, &world);
    are_shared(&gateways).await;
    gateways[0].pool.drain("1").unwrap();
    assert!(gateways[1].pool.disable("2"));
    assert!(gateways[2].fleet.set_weight("3", Weight::new(7.0).unwrap()));
    let agree = |gateways: &[Gateway], weight: f64| {
        gateways.iter().all(|gateway| {
            let state = |id: &str| gateway.pool.get(id).unwrap().health().state();
            let heavy = gateway.pool.get("3").unwrap().weight() == weight;
            state("1") == HealthState::Draining && state("2") == HealthState::Disabled && heavy
        })
    };
    until(|| async { agree(&gateways, 7.0) }).await;
    gateways.push(Gateway::start(3, etcd.config(), &world));
    until(|| async { agree(&gateways, 7.0) }).await;
    // Taken back by another than who said it.
    gateways[3].pool.enable("1");
    are_out(&gateways, &[2]).await;

    // Said while etcd is gone, it reaches the others when it is back.
    etcd.kill();
    until(|| async { gateways.iter().all(|gateway| !gateway.fleet.status().is_shared) }).await;
    gateways[1].pool.enable("2");
    gateways[2].pool.drain("1").unwrap();
    tokio::time::sleep(MS * 300).await;
    assert_eq!((gateways[0].out(), gateways[1].out()), (vec![2], vec![]));
    etcd.run().await;
    are_out(&gateways, &[1]).await;
    // And one that has lost its data is told again.
    etcd.kill();
    std::fs::remove_dir_all(etcd.directory.join("data")).unwrap();
    etcd.run().await;
    gateways.push(Gateway::start(4, etcd.config(), &world));
    are_out(&gateways, &[1]).await;
    until(|| async { gateways.iter().all(|gateway| gateway.pool.get("3").unwrap().weight() == 7.0) }).await;
}

#[tokio::test]
async fn an_order_that_cannot_be_read_changes_nothing_and_the_status_says_so() {
    let Some(etcd) = Etcd::start("fleet-unreadable").await else { return };
    let world = Arc::<World>::default();
    let gateways = [Gateway::start(0, etcd.config(), &world)];
    are_shared(&gateways).await;
    let cause = || gateways[0].fleet.status().last_failure.map(|failure| failure.cause.to_string()).unwrap_or_default();
    for (id, order, expected) in [("1", r#"{"state": "drained"}"#, "drained"), ("2", r#"{"weight": -3}"#, "-3")] {
        etcd.put(&format!("/gateways/web/orders/{id}"), order).await;
        until(|| async { cause().starts_with(&format!("the order of {id} cannot be read")) }).await;
        assert!(cause().contains(expected), "{}", cause());
    }
    etcd.put("/gateways/web/orders/3", r#"{"state": "draining"}"#).await;
    are_out(&gateways, &[3]).await;
}

#[tokio::test]
async fn an_older_word_never_takes_the_place_of_a_newer_one_whoever_brings_it_and_whatever_etcd_has_lost() {
    let Some(mut etcd) = Etcd::start("fleet-older").await else { return };
    let world = Arc::<World>::default();
    let (near, far) = (Way::open(free(), etcd.client).await, Way::open(free(), etcd.client).await);
    let through = |way: &Way| EtcdConfig::new([format!("http://{}", way.address)]).timeout(MS * 500);
    let gateways = [Gateway::start(0, through(&near), &world), Gateway::start(1, through(&far), &world)];
    are_shared(&gateways).await;
    let is_alone = |gateway: &Gateway| !gateway.fleet.status().is_shared;
    gateways[0].pool.drain("1").unwrap();
    assert!(gateways[0].pool.disable("2"));
    are_out(&gateways, &[1, 2]).await;

    // While one is cut off, one is taken back and the other taken out by hand.
    let far = far.cut().await;
    until(|| async { is_alone(&gateways[1]) }).await;
    gateways[0].pool.enable("1");
    etcd.delete("/gateways/web/orders/2").await;
    are_out(&gateways[..1], &[]).await;
    until(|| async {
        let found = etcd.client().await.get("/gateways/web/orders/2", None).await.unwrap();
        found.kvs().first().is_some_and(|pair| pair.value_str().unwrap().contains("enabled"))
    })
    .await;
    assert_eq!(gateways[1].out(), [1, 2]);
    let far = Way::open(far, etcd.client).await;
    are_out(&gateways, &[]).await;
    are_shared(&gateways).await;

    // The same, and etcd loses its data, and the one that was cut off is back first.
    assert!(gateways[0].pool.disable("2"));
    are_out(&gateways, &[2]).await;
    let far = far.cut().await;
    until(|| async { is_alone(&gateways[1]) }).await;
    gateways[0].pool.enable("2");
    gateways[0].pool.drain("3").unwrap();
    are_out(&gateways[..1], &[3]).await;
    tokio::time::sleep(MS * 300).await;
    let near = near.cut().await;
    etcd.kill();
    std::fs::remove_dir_all(etcd.directory.join("data")).unwrap();
    etcd.run().await;
    let _far = Way::open(far, etcd.client).await;
    until(|| async {
        let found = etcd.client().await.get("/gateways/web/orders/2", None).await.unwrap();
        found.kvs().first().is_some_and(|pair| pair.value_str().unwrap().contains("disabled"))
    })
    .await;
    assert_eq!((gateways[0].out(), gateways[1].out()), (vec![3], vec![2]));
    let _near = Way::open(near, etcd.client).await;
    are_out(&gateways, &[3]).await;
    are_shared(&gateways).await;
}

#[tokio::test]
async fn an_old_order_that_wants_nothing_leaves_etcd_after_an_hour_and_one_that_does_stays() {
    let Some(etcd) = Etcd::start("fleet-tidy").await else { return };
    let world = Arc::<World>::default();
    etcd.put("/gateways/web/orders/1", r#"{"state": "enabled", "state_said": 1}"#).await;
    etcd.put("/gateways/web/orders/2", r#"{"state": "draining", "state_said": 1}"#).await;
    etcd.put("/gateways/web/orders/3", r#"{"state": "enabled"}"#).await;
    let gateways = [Gateway::start(0, etcd.config(), &world)];
    are_shared(&gateways).await;
    are_out(&gateways, &[2]).await;
    let orders = async || {
        let options = etcd_client::GetOptions::new().with_prefix();
        let found = etcd.client().await.get("/gateways/web/orders/", Some(options)).await.unwrap();
        found.kvs().iter().map(|pair| pair.key_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(orders().await.len(), 3);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3_601)).await;
    tokio::time::resume();
    until(|| async { orders().await.len() < 3 }).await;
    are_shared(&gateways).await;
    assert_eq!(orders().await, ["/gateways/web/orders/2", "/gateways/web/orders/3"], "that was said a moment ago");
    assert_eq!(gateways[0].out(), [2]);
}

#[tokio::test]
async fn who_is_well_again_to_others_is_back_where_it_could_not_be_reached_by_an_own_check_alone() {
    let Some(etcd) = Etcd::start("fleet-again").await else { return };
    let world = Arc::<World>::default();
    let gateways = three_that_last(&etcd, &world);
    are_shared(&gateways).await;
    are_out(&gateways, &[]).await;
    for (gateway, target) in [(0, 1), (1, 2), (2, 3)] {
        let id = target.to_string();
        world.cut.lock().unwrap().insert((gateway, target));
        gateways[gateway].fails_to_reach(&id);
        // All find it ill, and then well.
        world.ill.lock().unwrap().insert(target);
        let states = || gateways.iter().map(|gateway| gateway.pool.get(&id).unwrap().health().state());
        until(|| async { states().all(|state| state == HealthState::Unhealthy) }).await;
        world.ill.lock().unwrap().clear();
        let others = || gateways.iter().enumerate().filter(|(other, _)| *other != gateway);
        until(|| async { others().all(|(_, other)| other.out().is_empty()) }).await;
        for _ in 0..10 {
            assert_eq!(gateways[gateway].out(), [target], "an own check has not passed");
            tokio::time::sleep(MS * 20).await;
        }
        world.cut.lock().unwrap().clear();
        are_out(&gateways, &[]).await;
        are_shared(&gateways).await;
    }
}
