//! A second backend is asked where the first takes long, and nobody pays for the loser.

mod common;

use bytes::Bytes;
use common::{Server, answers, says, until};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tower::ServiceExt;
use tower_balancer::{
    BackendPool, BalancerLayer, FeedbackLayer, ReverseProxy,
    backend::{Backend, HealthState, Origin, Outcome},
    http::{HedgeLayer, ReplayBody, RetryBudget, RetryLayer, ServedBy, SessionCookie, TriedBackends},
    pool::{Member, Routed},
    strategy::{RoundRobin, SessionSecret, Sticky},
};

type Proxy = ReverseProxy<RoundRobin, Full<Bytes>>;

fn over(urls: &[String], hedge: HedgeLayer) -> (BackendPool<Origin>, Proxy) {
    let pool = BackendPool::new(urls).unwrap();
    let proxy = ReverseProxy::builder(&pool).retry(RetryLayer::none()).hedge(hedge).build();
    (pool, proxy)
}

async fn send(proxy: &Proxy, method: &str, body: &'static str) -> (StatusCode, Option<String>) {
    let request = Request::builder().method(method).uri("http://service/").body(Full::from(body)).unwrap();
    let answer = proxy.clone().oneshot(request).await.unwrap();
    let by = answer.extensions().get::<ServedBy>().map(|by| by.backend().to_string());
    let status = answer.status();
    _ = answer.into_body().collect().await;
    (status, by)
}

/// A hundred answers, so that it is known what is late; then the second of the two backends is replaced.
async fn learned(quick: &Server, other: &Server, hedge: HedgeLayer) -> (BackendPool<Origin>, Proxy) {
    let (pool, proxy) = over(&[quick.url(), other.url()], hedge);
    pool.mark_unhealthy(&other.url());
    for _ in 0..100 {
        assert_eq!(send(&proxy, "GET", "").await.0, 200);
    }
    // What was worked out from fewer stands for a tenth of a second.
    tokio::time::sleep(Duration::from_millis(150)).await;
    pool.mark_healthy(&other.url());
    (pool, proxy)
}

/// Accepts, and never answers.
async fn silent() -> Server {
    Server::raw(|stream| async move {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        drop(stream);
    })
    .await
}

fn count(backend: &Backend, outcome: Outcome) -> u64 {
    backend.load().count(outcome)
}

#[tokio::test]
async fn what_takes_long_is_asked_of_another_and_the_loser_counts_for_nobody() {
    let (quick, silent) = (Server::http(says("quick")).await, silent().await);
    let (pool, proxy) = learned(&quick, &silent, HedgeLayer::with(0.95, 1.0, RetryBudget::new(1.0, 100))).await;
    for _ in 0..4 {
        assert_eq!(send(&proxy, "GET", "").await, (StatusCode::OK, Some(quick.url())));
    }
    let lost = pool.get(&silent.url()).unwrap();
    assert!(count(&lost, Outcome::Cancelled) >= 1);
    assert_eq!((lost.load().completed(), lost.load().in_flight()), (count(&lost, Outcome::Cancelled), 0));
    assert!(lost.is_eligible());
}

#[tokio::test]
async fn what_may_not_be_sent_twice_is_not() {
    let (quick, silent) = (Server::http(says("quick")).await, silent().await);
    let (_pool, proxy) = learned(&quick, &silent, HedgeLayer::with(0.95, 1.0, RetryBudget::new(1.0, 100))).await;
    for (method, body) in [("POST", ""), ("PUT", "a body")] {
        let mut answered = 0;
        for _ in 0..2 {
            let answer = tokio::time::timeout(Duration::from_millis(300), send(&proxy, method, body));
            answered += u32::from(answer.await.is_ok());
        }
        assert!(answered < 2, "{method}");
    }
}

#[tokio::test]
async fn it_is_bounded_by_its_share_and_by_the_budget() {
    for (share, budget) in [(0.0, RetryBudget::new(1.0, 100)), (1.0, RetryBudget::new(0.0, 0))] {
        let (quick, silent) = (Server::http(says("quick")).await, silent().await);
        let (pool, proxy) = learned(&quick, &silent, HedgeLayer::with(0.5, share, budget)).await;
        let answers = futures_util::future::join_all((0..2).map(|_| send(&proxy, "GET", "")));
        assert!(tokio::time::timeout(Duration::from_millis(300), answers).await.is_err());
        assert_eq!(pool.get(&silent.url()).unwrap().load().completed(), 1, "one was picked, and nobody else asked");
    }
}

#[tokio::test]
async fn where_there_is_nobody_else_the_first_goes_on() {
    let late = Server::http(common::answers_with(|request| async move {
        let wait = if request.uri().path() == "/late" { 200 } else { 0 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        http::Response::new(Full::<Bytes>::default())
    }))
    .await;
    let (pool, proxy) = over(&[late.url()], HedgeLayer::with(0.95, 1.0, RetryBudget::new(1.0, 100)));
    for _ in 0..100 {
        assert_eq!(send(&proxy, "GET", "").await.0, 200);
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let request = Request::get("http://service/late").body(Full::default()).unwrap();
    assert_eq!(proxy.oneshot(request).await.unwrap().status(), 200);
    assert_eq!(pool.backends()[0].load().completed(), 101);
}

#[tokio::test]
async fn of_two_attempts_the_good_one_counts_and_the_first_failure_where_both_fail() {
    // Fails, and only after the other has been asked.
    let quick = Server::http(says("quick")).await;
    let late = Server::http(common::answers_with(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        http::Response::builder().status(502).body(Full::<Bytes>::default()).unwrap()
    }))
    .await;
    let hedge = HedgeLayer::with(0.95, 1.0, RetryBudget::new(1.0, 100));
    let (pool, proxy) = learned(&quick, &late, hedge).await;
    for _ in 0..2 {
        assert_eq!(send(&proxy, "GET", "").await.0, 200);
    }
    until(|| async { pool.backends().iter().all(|backend| backend.load().in_flight() == 0) }).await;

    let url = quick.url();
    quick.kill().await;
    let address: std::net::SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let _broken = Server::http_at(address, answers(StatusCode::SERVICE_UNAVAILABLE)).await;
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(send(&proxy, "GET", "").await.0.as_u16());
    }
    statuses.sort_unstable();
    assert!(statuses.iter().all(|status| [502, 503].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn who_waits_for_a_backend_that_has_stopped_is_answered_by_another() {
    let (quick, silent) = (Server::http(says("quick")).await, silent().await);
    let pool = BackendPool::new([quick.url(), silent.url()]).unwrap();
    // As it comes.
    let proxy: Proxy = ReverseProxy::new(&pool);
    let answered = (StatusCode::OK, Some(quick.url()));
    let first = futures_util::future::join_all((0..8).map(|_| send(&proxy, "GET", "")));
    let later = async {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(send(&proxy, "GET", "").await, answered);
        }
    };
    let (first, ()) = tokio::join!(first, later);
    assert!(first.iter().all(|answer| *answer == answered), "{first:?}");
    // What it got it still has, and nothing was put out for it: it may be back with the next answer.
    let stopped = pool.get(&silent.url()).unwrap();
    assert_eq!(Outcome::ALL.map(|outcome| count(&stopped, outcome)), [0; 9]);
    assert!((5..40).contains(&stopped.load().in_flight()), "{}", stopped.load().in_flight());
    assert!(stopped.is_eligible());
}

/// Answers after as long as it is told, in milliseconds.
async fn as_slow_as(wait: Arc<AtomicU64>) -> Server {
    Server::http(common::answers_with(move |_| {
        let wait = Duration::from_millis(wait.load(Ordering::Relaxed));
        async move {
            tokio::time::sleep(wait).await;
            http::Response::new(Full::<Bytes>::default())
        }
    }))
    .await
}

#[tokio::test]
async fn a_backend_that_is_only_slower_than_it_was_keeps_its_share() {
    let waits = [0, 0, 0].map(|wait| Arc::new(AtomicU64::new(wait)));
    let mut servers = Vec::new();
    for wait in &waits {
        servers.push(as_slow_as(Arc::clone(wait)).await);
    }
    let pool = BackendPool::new(servers.iter().map(Server::url)).unwrap();
    let proxy: Proxy = ReverseProxy::new(&pool);
    for _ in 0..60 {
        assert_eq!(send(&proxy, "GET", "").await.0, 200);
    }
    waits[0].store(200, Ordering::Relaxed);
    let slow = pool.get(&servers[0].url()).unwrap();
    let before = count(&slow, Outcome::Success);
    let mut asked = Vec::new();
    for _ in 0..400 {
        let proxy = proxy.clone();
        asked.push(tokio::spawn(async move { send(&proxy, "GET", "").await.0 }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for answer in asked {
        assert_eq!(answer.await.unwrap(), 200);
    }
    let after = count(&slow, Outcome::Success) - before;
    // Of 400 a third would be its own, and it takes a while to know.
    assert!(after > 50, "{after}");
    assert!(slow.is_eligible() && !slow.has_stopped(tokio::time::Instant::now().into_std()));
}

#[tokio::test]
async fn a_request_that_takes_long_by_itself_is_sent_once() {
    let slow = || {
        Server::http(common::answers_with(|request| async move {
            let wait = if request.uri().path() == "/report" { 600 } else { 0 };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            http::Response::new(Full::<Bytes>::default())
        }))
    };
    let servers = [slow().await, slow().await];
    let pool = BackendPool::new(servers.iter().map(Server::url)).unwrap();
    let proxy: Proxy = ReverseProxy::new(&pool);
    for _ in 0..10 {
        assert_eq!(send(&proxy, "GET", "").await.0, 200);
    }
    let report = || Request::get("http://service/report").body(Full::default()).unwrap();
    // Alone on its backend, a few at a time with nothing else to do, and beside others that are answered.
    assert_eq!(proxy.clone().oneshot(report()).await.unwrap().status(), 200);
    let few = futures_util::future::join_all((0..4).map(|_| proxy.clone().oneshot(report()))).await;
    assert!(few.into_iter().all(|answer| answer.unwrap().status() == 200));
    let asked = |backend: &Arc<Backend>| backend.load().completed();
    assert_eq!(pool.backends().iter().map(asked).sum::<u64>(), 15);
    let asked = tokio::spawn(proxy.clone().oneshot(report()));
    while !asked.is_finished() {
        assert_eq!(send(&proxy, "GET", "").await.0, 200);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    assert!(pool.backends().iter().all(|backend| count(backend, Outcome::Cancelled) == 0));
}

#[tokio::test]
async fn what_changes_something_and_what_belongs_to_a_session_waits() {
    let (quick, silent) = (Server::http(says("quick")).await, silent().await);
    let pool = BackendPool::new([quick.url(), silent.url()]).unwrap();
    let secret = SessionSecret::new([7; 16]);
    let proxy: ReverseProxy<_, Full<Bytes>> = ReverseProxy::builder(&pool)
        .strategy(Sticky::new(secret, RoundRobin::new()))
        .session(SessionCookie::new("at", secret).unwrap())
        .build();
    let cookie = format!("at={}", secret.token(&silent.url().as_str().into()));
    let with = |method, cookie: &str| {
        Request::builder().method(method).uri("http://service/").header("cookie", cookie).body(Full::default()).unwrap()
    };
    let waits: Vec<_> = [("GET", &*cookie), ("GET", &cookie), ("POST", &cookie)]
        .into_iter()
        .map(|(method, cookie)| tokio::spawn(proxy.clone().oneshot(with(method, cookie))))
        .collect();
    let stopped = pool.get(&silent.url()).unwrap();
    until(|| async { stopped.load().in_flight() == 3 }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        assert_eq!(proxy.clone().oneshot(with("GET", "")).await.unwrap().status(), 200);
    }
    // Longer than it takes to know.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    assert!(stopped.has_stopped(tokio::time::Instant::now().into_std()));
    waits.into_iter().for_each(|wait| wait.abort());
}

#[tokio::test]
async fn who_tries_a_backend_that_was_out_does_not_wait_for_it() {
    let (quick, silent) = (Server::http(says("quick")).await, silent().await);
    let pool = BackendPool::new([quick.url(), silent.url()]).unwrap();
    let proxy: Proxy = ReverseProxy::new(&pool);
    let one = pool.get(&silent.url()).unwrap();
    let now = || tokio::time::Instant::now().into_std();
    one.eject("it fails", now() - Duration::from_secs(3_600));
    one.advance(now(), false);
    assert_eq!(one.health().state(), HealthState::Probing);
    for _ in 0..4 {
        assert_eq!(send(&proxy, "GET", "").await, (StatusCode::OK, Some(quick.url())));
    }
    // It has the trial, and goes on with it.
    assert_eq!((one.load().in_flight(), one.health().state()), (1, HealthState::Probing));
}

#[tokio::test]
async fn what_a_layer_between_retry_and_hedge_has_written_is_in_both_attempts() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    // The first to be asked takes long.
    let end = tower::service_fn(move |routed: Routed<u32, Request<ReplayBody<Full<Bytes>>>>| {
        let heads = Arc::clone(&heads);
        async move {
            let is_late = routed.request.uri().path() == "/late" && {
                let mut heads = heads.lock().unwrap();
                heads.push(routed.request.headers().get("authorization").cloned());
                heads.len() == 1
            };
            tokio::time::sleep(Duration::from_millis(if is_late { 300 } else { 0 })).await;
            Ok::<_, tower::BoxError>(http::Response::new(Full::<Bytes>::default()))
        }
    });
    let pool = BackendPool::from_members([Member::new("a", 1_u32), Member::new("b", 2)]).unwrap();
    let budget = RetryBudget::new(1.0, 100);
    let stack = tower::ServiceBuilder::new()
        .layer(RetryLayer::new(budget.clone()))
        .map_request(|mut request: Request<ReplayBody<Full<Bytes>>>| {
            request.headers_mut().insert("authorization", http::HeaderValue::from_static("ours"));
            request
        })
        .layer(HedgeLayer::with(0.95, 1.0, budget))
        .layer(BalancerLayer::new(&pool, RoundRobin::new()).describe_by(TriedBackends))
        .layer(FeedbackLayer::http())
        .service(end);
    let get = |path: &str| Request::get(format!("http://service{path}")).body(Full::<Bytes>::default()).unwrap();
    for _ in 0..110 {
        assert_eq!(stack.clone().oneshot(get("/")).await.unwrap().status(), 200);
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(stack.oneshot(get("/late")).await.unwrap().status(), 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|value| value.as_ref().is_some_and(|value| value == "ours")), "{seen:?}");
}

#[tokio::test]
async fn who_sends_again_himself_is_not_helped() {
    let (quick, silent) = (Server::http(says("quick")).await, silent().await);
    let (_pool, proxy) = learned(&quick, &silent, HedgeLayer::with(0.95, 1.0, RetryBudget::new(1.0, 100))).await;
    let mut answered = 0;
    for _ in 0..2 {
        let request = Request::get("http://service/").header("x-retry-attempt", "1").body(Full::default()).unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(300), proxy.clone().oneshot(request));
        answered += u32::from(answer.await.is_ok());
    }
    assert!(answered < 2);
}
