//! Backends that tell how loaded they are, and those who ask them, over real sockets.

mod common;

use axum::{Router, routing::get};
use common::{Server, get as fetch, says};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tower_balancer::{
    BackendPool, BoxError, ReverseProxy,
    backend::{Moment, Origin, Report},
    http::{HttpLoadProbe, ReportLoadLayer},
    pool::Member,
    probing::{LoadProbe, Prober},
    strategy::{Grouped, Hint, Prequal, Tiers},
};

fn now_std() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

fn now() -> Moment {
    Moment::of(now_std())
}

#[tokio::test]
async fn a_backend_that_is_busy_with_others_gets_nothing_while_another_is_idle() {
    let server = |name: &'static str| {
        let slow = get(|| async { tokio::time::sleep(Duration::from_secs(60)).await });
        let app = Router::new().route("/", get(move || async move { name })).route("/slow", slow);
        Server::http(app.layer(ReportLoadLayer::new().probe_path("/load")))
    };
    let (busy, idle) = (server("busy").await, server("idle").await);
    // Ten requests of which the balancer knows nothing.
    let others: Vec<_> = (0..10).map(|_| tokio::spawn(fetch(format!("{}/slow", busy.url())))).collect();

    let pool = BackendPool::new([busy.url(), idle.url()]).unwrap();
    let strategy = Prequal::new();
    let prober = tokio::spawn(Prober::new(&pool, &strategy, HttpLoadProbe::new("/load".parse().unwrap())).run());
    let proxy = Server::http(ReverseProxy::builder(&pool).strategy(strategy).build()).await;
    fetch(proxy.url()).await;
    let told = || async { pool.backends().iter().all(|backend| backend.report(now()).is_some()) };
    common::until(told).await;
    assert_eq!(pool.get(&busy.url()).and_then(|backend| backend.report(now())?.report.in_flight), Some(10.0));
    for _ in 0..10 {
        assert_eq!(fetch(proxy.url()).await.1, "idle");
    }
    prober.abort();
    others.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_backend_that_tells_nothing_is_served_all_the_same() {
    let (silent, gone) = (Server::http(says("silent")).await, "http://127.0.0.1:1");
    let pool = BackendPool::new([silent.url(), gone.to_owned()]).unwrap();
    let probe = HttpLoadProbe::new("/load".parse().unwrap());
    assert!(probe.ask(silent.url().parse::<Origin>().unwrap()).await.is_err());
    let strategy = Prequal::new();
    let prober = tokio::spawn(Prober::new(&pool, &strategy, probe).run());
    let proxy = Server::http(ReverseProxy::builder(&pool).strategy(strategy).build()).await;
    let mut answered = 0;
    for _ in 0..10 {
        answered += u32::from(fetch(proxy.url()).await.0 == 200);
    }
    // The one that is gone costs one request at the most.
    assert!(answered >= 9, "{answered}");
    prober.abort();
}

/// Serves, with a load in the head of each answer, what `body` makes; and counts the connections.
async fn tells_with(body: impl Fn() -> axum::body::Body + Clone + Send + Sync + 'static) -> (Server, Arc<AtomicU32>) {
    let app = Router::new().route("/load", get(move || async move { body() })).layer(ReportLoadLayer::new());
    let connections = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&connections);
    let server = Server::raw(move |stream| {
        counter.fetch_add(1, Ordering::Relaxed);
        let (stream, service) = (TokioIo::new(stream), TowerToHyperService::new(app.clone()));
        async move { _ = http1::Builder::new().serve_connection(stream, service).await }
    });
    (server.await, connections)
}

#[tokio::test]
async fn probes_of_an_endpoint_with_a_body_use_one_connection() {
    for size in [0, 1, 10_000, 64 * 1024] {
        let (server, connections) = tells_with(move || vec![0; size].into()).await;
        let probe = HttpLoadProbe::new("/load".parse().unwrap());
        for _ in 0..5 {
            let report = probe.ask(server.url().parse().unwrap()).await.unwrap();
            assert_eq!(report.in_flight, Some(1.0));
            // The connection goes back to the others in a task of its own.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1, "{size} bytes");
    }
}

#[tokio::test]
async fn what_an_endpoint_tells_counts_though_its_body_has_no_end() {
    let endless = || axum::body::Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, BoxError>>());
    let long = || {
        let parts = || Some(Ok::<_, BoxError>(bytes::Bytes::from(vec![0; 1024])));
        axum::body::Body::from_stream(futures_util::stream::iter(std::iter::from_fn(parts)))
    };
    for (server, _) in [tells_with(endless).await, tells_with(long).await] {
        let probe = HttpLoadProbe::new("/load".parse().unwrap());
        let asked = probe.ask(server.url().parse().unwrap());
        let report = tokio::time::timeout(Duration::from_secs(30), asked).await.expect("no probe takes so long");
        assert!(report.unwrap().in_flight >= Some(1.0));
    }
}

#[tokio::test]
async fn the_backend_that_a_group_wants_to_know_about_is_asked_and_who_has_left_is_not() {
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let list = Arc::clone(&asked);
    let probe = move |target: u32| {
        list.lock().unwrap().insert(target);
        async { Ok::<_, BoxError>(Report { in_flight: Some(0.0), ..Report::default() }) }
    };
    let pool = BackendPool::from_members((0..40).map(|n| Member::new(n.to_string(), n).priority(n / 20))).unwrap();
    (0..20).for_each(|n| assert!(pool.mark_unhealthy(&n.to_string())));
    let strategy = Prequal::new();
    let within = strategy.clone();
    let view = pool.view(Grouped::new(Tiers, move || within.clone()));
    let pick = |seed| _ = view.load().pick(&Hint::new(now_std(), seed)).unwrap();
    // What was wanted before somebody left is asked after.
    (0..10).for_each(pick);
    assert!(pool.remove("0") && pool.remove("39"));
    let prober = tokio::spawn(Prober::new(&pool, &strategy, probe).run());
    for seed in 10..300 {
        pick(seed);
        tokio::task::yield_now().await;
    }
    common::until(|| async { asked.lock().unwrap().len() >= 19 }).await;
    assert_eq!(*asked.lock().unwrap(), (20..39).collect());
    prober.abort();
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_are_under_way_than_allowed_and_late_ones_are_given_up() {
    let (under_way, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counter, greatest) = (Arc::clone(&under_way), Arc::clone(&most));
    let probe = move |_: u32| {
        greatest.fetch_max(counter.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let counter = Arc::clone(&counter);
        async move {
            // Longer than anybody waits.
            let leaves = scopeguard(move || _ = counter.fetch_sub(1, Ordering::Relaxed));
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            drop(leaves);
            Ok::<_, BoxError>(Report::default())
        }
    };
    let pool = BackendPool::from_members((0..50).map(|n| Member::new(n.to_string(), n))).unwrap();
    let strategy = Prequal::new();
    let view = pool.view(strategy.clone());
    let prober = tokio::spawn(Prober::new(&pool, &strategy, probe).limit(4).timeout(Duration::from_millis(100)).run());
    for seed in 0..20 {
        view.load().pick(&Hint::new(now_std(), seed)).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(most.load(Ordering::Relaxed), 4);
    prober.abort();
    assert!(prober.await.unwrap_err().is_cancelled());
    assert_eq!(under_way.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_asked_once_at_a_time() {
    let asked = Arc::new([0; 3].map(AtomicU32::new));
    let counts = Arc::clone(&asked);
    let probe = move |target: usize| {
        counts[target].fetch_add(1, Ordering::Relaxed);
        async move {
            // The first hangs.
            tokio::time::sleep(Duration::from_secs(if target == 0 { 3_600 } else { 0 })).await;
            Ok::<_, BoxError>(Report { in_flight: Some(1.0), ..Report::default() })
        }
    };
    let pool = BackendPool::from_members((0..3).map(|n: usize| Member::new(n.to_string(), n))).unwrap();
    let strategy = Prequal::new();
    let view = pool.view(strategy.clone());
    let prober = tokio::spawn(Prober::new(&pool, &strategy, probe).limit(3).timeout(Duration::from_secs(60)).run());
    for seed in 0..100 {
        view.load().pick(&Hint::new(now_std(), seed)).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let [hangs, others @ ..] = [0, 1, 2].map(|place: usize| asked[place].load(Ordering::Relaxed));
    assert_eq!(hangs, 1);
    assert!(others.into_iter().all(|asked| asked > 10), "{others:?}");
    prober.abort();
}

/// Runs something when dropped.
fn scopeguard<F: FnOnce()>(run: F) -> impl Drop {
    struct Guard<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for Guard<F> {
        fn drop(&mut self) {
            if let Some(run) = self.0.take() {
                run();
            }
        }
    }
    Guard(Some(run))
}
