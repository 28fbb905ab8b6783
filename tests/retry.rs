//! Trying again: what is, what never is, on which backend, at what price.

mod common;

use bytes::Bytes;
use common::{Server, answers, answers_with, get, says, send};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};
use tokio::{io::AsyncReadExt, sync::mpsc, time::Instant};
use tower::{Service, ServiceExt, service_fn};
use tower_balancer::{
    BackendPool, ReverseProxy,
    backend::{Origin, Outcome},
    http::{HedgeLayer, RetryBudget, RetryLayer},
    pool::Ejection,
    strategy::Random,
};

fn free_of_charge() -> RetryLayer {
    RetryLayer::new(RetryBudget::new(10.0, 1_000)).backoff(Duration::ZERO, Duration::ZERO)
}

async fn over(urls: &[String], retry: RetryLayer) -> (BackendPool<Origin>, Server) {
    let pool = BackendPool::new(urls).unwrap();
    let proxy = Server::http(ReverseProxy::builder(&pool).retry(retry).build()).await;
    (pool, proxy)
}

/// A server that takes all of a request's head and then breaks the connection, and how many it took.
async fn breaks() -> (Server, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let server = Server::raw(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            let mut some = [0; 4_096];
            if stream.read(&mut some).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    (server, taken)
}

fn request(method: Method, url: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(url).body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn a_backend_that_dies_costs_no_request() {
    let (stays, dies) = (Server::http(says("stays")).await, Server::http(says("dies")).await);
    let (pool, proxy) = over(&[stays.url(), dies.url()], RetryLayer::default()).await;
    for _ in 0..4 {
        assert_eq!(get(proxy.url()).await.0, 200);
    }
    dies.kill().await;
    for _ in 0..20 {
        assert_eq!(get(proxy.url()).await, (200, "stays".into()));
    }
    assert_eq!(pool.healthy().len(), 1);
}

#[tokio::test]
async fn what_was_never_sent_is_sent_elsewhere_whatever_it_is() {
    let echoes = Server::http(echoes()).await;
    let gone = Server::http(says("gone")).await;
    let gone_url = gone.url();
    gone.kill().await;
    for method in [Method::POST, Method::PATCH, Method::GET] {
        // First in the list: it is picked first.
        let (_pool, proxy) = over(&[gone_url.clone(), echoes.url()], RetryLayer::default()).await;
        let answer = send(request(method.clone(), &proxy.url(), "all of it")).await;
        assert_eq!(answer, (200, "all of it".into()), "{method}");
    }
}

#[tokio::test]
async fn what_was_sent_is_sent_again_only_where_that_is_the_same() {
    for (method, again) in [(Method::GET, true), (Method::PUT, true), (Method::POST, false), (Method::PATCH, false)] {
        let (broken, taken) = breaks().await;
        let echoes = Server::http(echoes()).await;
        let (pool, proxy) = over(&[broken.url(), echoes.url()], free_of_charge()).await;
        let answer = send(request(method.clone(), &proxy.url(), "body")).await;
        let expected = if again { (200, "body".into()) } else { (502, "Bad gateway".into()) };
        assert_eq!(answer, expected, "{method}");
        assert_eq!(taken.load(Ordering::Relaxed), 1, "{method}");
        // The failed attempt has reached the pool, and not as a failure of the request.
        assert_eq!(pool.backends()[0].load().count(Outcome::Reset), 1, "{method}");
    }
    // Unless the host says that it is.
    let (broken, _) = breaks().await;
    let echoes = Server::http(echoes()).await;
    let (_pool, proxy) = over(&[broken.url(), echoes.url()], free_of_charge().any_method()).await;
    assert_eq!(send(request(Method::POST, &proxy.url(), "body")).await, (200, "body".into()));
}

#[tokio::test]
async fn every_backend_is_tried_before_one_is_tried_twice() {
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(Server::http(answers(StatusCode::SERVICE_UNAVAILABLE)).await);
    }
    servers.push(Server::http(says("well")).await);
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let (pool, proxy) = over(&urls, free_of_charge().retries(4)).await;
    for turn in 1..=5 {
        let before: u64 = pool.backends().iter().map(|backend| backend.load().completed()).sum();
        assert_eq!(get(proxy.url()).await, (200, "well".into()), "{turn}");
        let after: u64 = pool.backends().iter().map(|backend| backend.load().completed()).sum();
        assert!(after - before <= 5);
    }
    // An answer that was not wanted is the fault that it is, read or not.
    for backend in &pool.backends()[..4] {
        let load = backend.load();
        assert_eq!((load.in_flight(), load.count(Outcome::BackendFault)), (0, load.completed()), "{load:?}");
    }
}

#[tokio::test]
async fn an_attempt_says_which_it_is_and_one_that_is_another_hops_is_the_last() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    let busy = Server::http(service_fn(move |request: Request<Incoming>| {
        let told = request.headers().get("x-retry-attempt").map(|told| told.to_str().unwrap().to_owned());
        heard.lock().unwrap().push(told);
        async { Ok::<_, Infallible>(Response::builder().status(503).body(Empty::<Bytes>::new()).unwrap()) }
    }))
    .await;
    let (_pool, proxy) = over(&[busy.url()], free_of_charge().retries(2)).await;
    assert_eq!(get(proxy.url()).await.0, 503);
    assert_eq!(*seen.lock().unwrap(), [None, Some("1".to_owned()), Some("2".to_owned())]);

    seen.lock().unwrap().clear();
    let from_a_hop = Request::get(proxy.url()).header("x-retry-attempt", "1").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(send(from_a_hop).await.0, 503);
    assert_eq!(*seen.lock().unwrap(), [Some("1".to_owned())]);
}

#[tokio::test]
async fn a_request_that_nobody_else_could_take_fails_as_it_did() {
    let gone = Server::http(says("gone")).await;
    let url = gone.url();
    gone.kill().await;
    let (_pool, proxy) = over(&[url], RetryLayer::default()).await;
    assert_eq!(get(proxy.url()).await, (502, "Bad gateway".into()));
    assert_eq!(get(proxy.url()).await, (503, "No healthy backends available".into()));
}

#[tokio::test]
async fn what_took_one_too_long_is_asked_of_another_and_never_of_the_same() {
    for others in [0, 1] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let silent = Server::raw(move |stream| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                drop(stream);
            }
        })
        .await;
        let well = Server::http(says("well")).await;
        let urls = [silent.url(), well.url()];
        let pool = BackendPool::new(&urls[..=others]).unwrap();
        let proxy = ReverseProxy::builder(&pool).retry(free_of_charge()).response_timeout(Duration::from_secs(1));
        let proxy = Server::http(proxy.build()).await;
        let expected = if others == 0 { (504, "Gateway timeout".into()) } else { (200, "well".into()) };
        assert_eq!(get(proxy.url()).await, expected);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn when_everything_fails_the_load_grows_by_the_budget_and_no_more() {
    let (one, other) = (
        Server::http(answers(StatusCode::SERVICE_UNAVAILABLE)).await,
        Server::http(answers(StatusCode::BAD_GATEWAY)).await,
    );
    for ratio in [0.2, 0.3, 0.6] {
        let retry = RetryLayer::new(RetryBudget::new(ratio, 0)).retries(3).backoff(Duration::ZERO, Duration::ZERO);
        let (pool, proxy) = over(&[one.url(), other.url()], retry).await;
        for _ in 0..100 {
            assert!(get(proxy.url()).await.0 >= 502);
        }
        let attempts: u64 = pool.backends().iter().map(|backend| backend.load().completed()).sum();
        let most = (100.0 * (1.0 + ratio)) as u64;
        assert!(attempts <= most && attempts + 2 > most, "{ratio}: {attempts}");
    }
}

/// A body that is sent as the test sends it.
fn fed(mut receiver: mpsc::UnboundedReceiver<Bytes>) -> impl Body<Data = Bytes, Error = Infallible> + Send {
    let next = move |cx: &mut Context<'_>| receiver.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))));
    StreamBody::new(futures_util::stream::poll_fn(next))
}

#[tokio::test]
async fn a_body_goes_on_while_it_comes_in_both_ways() {
    let echoes = Server::http(echoes()).await;
    let pool = BackendPool::new([echoes.url()]).unwrap();
    let proxy: ReverseProxy<_, _> = ReverseProxy::new(&pool);
    let (sender, receiver) = mpsc::unbounded_channel();
    let request = Request::post("http://service/").body(fed(receiver)).unwrap();
    let answer = tokio::spawn(proxy.oneshot(request));
    let part = Bytes::from(vec![b'x'; 64 * 1024]);
    sender.send(part.clone()).unwrap();
    // The head of the answer is there, and so is what was sent, while the request is not at its end.
    let mut answer = std::pin::pin!(answer.await.unwrap().unwrap().into_body());
    for _ in 0..160 {
        let mut back = 0;
        while back < part.len() {
            back += answer.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        sender.send(part.clone()).unwrap();
    }
    drop(sender);
    assert_eq!(answer.collect().await.unwrap().to_bytes().len(), part.len());
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_sent_once_and_one_within_it_again() {
    for (size, again) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        // Reads everything, and then breaks the connection.
        let reads_all = Server::raw(move |mut stream| async move {
            let mut some = vec![0; 256 * 1024];
            let mut read = 0;
            while read < size {
                read += stream.read(&mut some).await.unwrap();
            }
        })
        .await;
        let echoes = Server::http(echoes()).await;
        let (_pool, proxy) = over(&[reads_all.url(), echoes.url()], free_of_charge()).await;
        let body = "x".repeat(size);
        let request = Request::put(proxy.url()).body(Full::from(body.clone())).unwrap();
        let (status, answer) = send(request).await;
        assert_eq!(status, if again { 200 } else { 502 }, "{size}");
        assert_eq!(answer == body, again, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_decided_and_not_made_is_given_back() {
    let budget = RetryBudget::new(0.0, 1);
    let busy = Server::http(answers(StatusCode::SERVICE_UNAVAILABLE)).await;
    let pool = BackendPool::new([busy.url()]).unwrap();
    let hour = Duration::from_secs(3_600);
    let retry = RetryLayer::new(budget.clone()).backoff(hour, hour);
    let proxy: ReverseProxy<_, Full<Bytes>> = ReverseProxy::builder(&pool).retry(retry).build();
    let now = || Instant::now().into_std();
    let request = Request::get("http://service/").body(Full::default()).unwrap();
    let mut answer = tokio_test::task::spawn(proxy.oneshot(request));
    while budget.left(now()) == 10 {
        assert!(answer.poll().is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(budget.left(now()), 9);
    drop(answer);
    assert_eq!(budget.left(now()), 10);
}

#[tokio::test]
async fn where_nobody_else_is_left_the_backends_own_answer_stands() {
    let later = Server::http(answers_with(|_| async {
        let answer = Response::builder().status(503).header("retry-after", "7");
        answer.body(Full::<Bytes>::from("back at eight")).unwrap()
    }))
    .await;
    let (pool, proxy) = over(&[later.url()], free_of_charge()).await;
    let request = Request::get(proxy.url()).body(Full::<Bytes>::default()).unwrap();
    let (status, answer) = send(request).await;
    assert_eq!((status, &*answer), (503, "back at eight"));
    assert_eq!(pool.backends()[0].load().completed(), 1);
}

#[tokio::test]
async fn what_a_hedge_has_tried_is_not_tried_again() {
    // The first to be asked is late and fails, and so do all others.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut servers = Vec::new();
    for name in 0..4 {
        let asked = Arc::clone(&asked);
        let fails = answers_with(move |request| {
            let place = request.uri().path().eq("/fails").then(|| {
                let mut asked = asked.lock().unwrap();
                asked.push(name);
                asked.len()
            });
            async move {
                if place == Some(1) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                let status = if place.is_some() { 503 } else { 200 };
                Response::builder().status(status).body(Full::<Bytes>::default()).unwrap()
            }
        });
        servers.push(Server::http(fails).await);
    }
    let pool = BackendPool::new(servers.iter().map(Server::url)).unwrap();
    pool.set_ejection(Ejection::never());
    let budget = RetryBudget::new(10.0, 1_000);
    let (retry, hedge) = (RetryLayer::new(budget.clone()), HedgeLayer::with(0.5, 1.0, budget));
    let proxy: ReverseProxy<_, Full<Bytes>> =
        ReverseProxy::builder(&pool).strategy(Random).retry(retry).hedge(hedge).build();
    let get = |path: &str| Request::get(format!("http://service{path}")).body(Full::default()).unwrap();
    for _ in 0..150 {
        assert_eq!(proxy.clone().oneshot(get("/")).await.unwrap().status(), 200);
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    for _ in 0..10 {
        asked.lock().unwrap().clear();
        assert_eq!(proxy.clone().oneshot(get("/fails")).await.unwrap().status(), 503);
        let mut asked = asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 3, "{asked:?}");
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), 3, "{asked:?}");
    }
}

/// Answers with the body of the request, as it comes in.
fn echoes()
-> impl Service<Request<Incoming>, Response = Response<axum::body::Body>, Error = Infallible, Future: Send> + Clone + Send
{
    answers_with(|request| async { Response::new(request.into_body()) })
}
