//! Backends that tell how loaded they are, and those who ask them, over real sockets.

mod common;

use axum::{Router, routing::get};
use common::{Server, get as fetch, says};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tower_balancer::{
    BackendPool, BoxError, ReverseProxy,
    backend::{Moment, Origin, Report},
    http::{HttpLoadProbe, ReportLoadLayer},
    pool::Member,
    probing::Prober,
    strategy::Prequal,
};

fn now() -> Moment {
    Moment::of(tokio::time::Instant::now().into_std())
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
    assert!(tower_balancer::probing::LoadProbe::ask(&probe, silent.url().parse::<Origin>().unwrap()).await.is_err());
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
        let hint = tower_balancer::strategy::Hint::new(tokio::time::Instant::now().into_std(), seed);
        view.load().pick(&hint).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(most.load(Ordering::Relaxed), 4);
    prober.abort();
    assert!(prober.await.unwrap_err().is_cancelled());
    assert_eq!(under_way.load(Ordering::Relaxed), 0);
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
