//! The error-mapping layer: what becomes of an answer, an error, a cancelled request.

use std::{error::Error, io, sync::Arc, time::Duration};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_balancer::{
    BackendPool, ProxyError,
    backend::{Backend, HealthState, Lease, Moment, Outcome},
    balance::BalancerLayer,
    feedback::{Classify, Fault, FeedbackLayer},
    pool::{Change, Member, Routed},
    strategy::RoundRobin,
};

type Answer = Result<&'static str, io::Error>;

fn pool() -> BackendPool<&'static str> {
    BackendPool::from_members(["a", "b"].map(|id| Member::new(id, id))).unwrap()
}

/// A stack whose end answers each request with what the request says.
fn stack<C: Classify<&'static str> + Clone>(
    pool: &BackendPool<&'static str>,
    layer: FeedbackLayer<C>,
) -> impl Service<Answer, Response = &'static str, Error = BoxError> {
    let end = service_fn(|routed: Routed<&'static str, Answer>| async move { routed.request });
    BalancerLayer::new(pool, RoundRobin::new()).layer(layer.layer(end))
}

#[tokio::test]
async fn an_answer_completes_its_request() {
    let pool = pool();
    let mut service = stack(&pool, FeedbackLayer::default());
    assert_eq!(service.ready().await.unwrap().call(Ok("hello")).await.unwrap(), "hello");
    let load = &pool.backends()[0];
    assert_eq!((load.load().in_flight(), load.load().count(Outcome::Success)), (0, 1));
}

#[tokio::test]
async fn a_failed_transport_takes_the_backend_out_before_the_caller_hears_of_it_and_is_mapped_by_name() {
    let pool = pool();
    let mut watch = pool.watch();
    let service = stack(&pool, FeedbackLayer::default());
    let refused = io::Error::from_raw_os_error(111);
    let error = service.oneshot(Err(refused)).await.unwrap_err();

    let error = error.downcast_ref::<ProxyError>().unwrap();
    assert_eq!((error.backend().as_str(), error.kind(), error.sent()), ("a", Outcome::ConnectFault, false));
    assert_eq!(error.to_string(), "cannot connect to backend a");
    assert!(error.source().unwrap().downcast_ref::<io::Error>().is_some());

    let health = pool.get("a").unwrap().health();
    assert_eq!((health.state(), health.cause()), (HealthState::Ejected, Some("Connection refused")));
    assert_eq!(pool.healthy().len(), 1);
    let change = watch.next().await.unwrap();
    assert!(matches!(change, Change::Health { id, state: HealthState::Ejected, .. } if id == "a"));
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_reset_and_may_have_been_sent() {
    let pool = pool();
    let error =
        stack(&pool, FeedbackLayer::default()).oneshot(Err(io::ErrorKind::ConnectionReset.into())).await.unwrap_err();
    let error = error.downcast_ref::<ProxyError>().unwrap();
    assert_eq!((error.kind(), error.sent()), (Outcome::Reset, true));
    assert!(!pool.get("a").unwrap().is_eligible());
}

#[tokio::test]
async fn a_request_that_breaks_whoever_gets_it_does_not_walk_through_the_pool_and_one_that_is_gone_is_out() {
    let pool = BackendPool::from_members(["a", "b", "c", "d"].map(|id| Member::new(id, id))).unwrap();
    let mut service = stack(&pool, FeedbackLayer::default());
    for _ in 0..4 {
        service.ready().await.unwrap().call(Err(io::ErrorKind::ConnectionReset.into())).await.unwrap_err();
    }
    assert_eq!(pool.healthy().len(), 2);
    for _ in 0..2 {
        service.ready().await.unwrap().call(Err(io::ErrorKind::ConnectionRefused.into())).await.unwrap_err();
    }
    assert!(pool.healthy().is_empty());
    // Of one alone there is no other way to hear.
    let alone = BackendPool::from_members([Member::new("a", "a")]).unwrap();
    stack(&alone, FeedbackLayer::default()).oneshot(Err(io::ErrorKind::ConnectionReset.into())).await.unwrap_err();
    assert!(alone.healthy().is_empty());
}

#[tokio::test(start_paused = true)]
async fn answers_that_break_off_take_out_one_of_which_they_are_not_the_pool() {
    let begin = |backend: &Arc<Backend>| {
        let mut lease = Lease::take(backend.clone(), now());
        lease.answered(Outcome::Success, now());
        lease
    };
    for (others, left) in [(Outcome::Success, 1), (Outcome::Reset, 2)] {
        let pool = pool();
        let [bad, other] = ["a", "b"].map(|id| pool.get(id).unwrap());
        begin(&bad).fail(Outcome::Reset, "unexpected end of file", now());
        assert!(bad.is_eligible(), "it can be reached");
        for request in 0..100 {
            begin(&other).fail(others, "unexpected end of file", now());
            begin(&bad).fail(Outcome::Reset, "unexpected end of file", now());
            tokio::time::advance(Duration::from_millis(30)).await;
            assert!(request < 99 || pool.healthy().len() == left, "{others}");
        }
    }
}

/// Of answers that say "busy" the backend asks for ten minutes.
#[derive(Clone)]
struct Busy;

impl Classify<&'static str> for Busy {
    fn response(&self, response: &&'static str) -> Option<Outcome> {
        Some(if *response == "busy" { Outcome::Overload } else { Outcome::Success })
    }

    fn rest(&self, response: &&'static str) -> Option<Duration> {
        (*response == "busy").then_some(Duration::from_secs(600))
    }

    fn error(&self, error: &(dyn Error + 'static)) -> Fault {
        Fault::of(error)
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_asks_to_be_left_alone_is_while_there_are_others_and_for_five_minutes_at_most() {
    let pool = pool();
    let mut service = stack(&pool, FeedbackLayer::new(Busy));
    let mut send = async |answer| service.ready().await.unwrap().call(Ok(answer)).await.unwrap();
    let counts = || ["a", "b"].map(|id| pool.get(id).unwrap().load().completed());
    send("busy").await;
    assert_eq!(counts(), [1, 0]);
    for _ in 0..10 {
        send("well").await;
    }
    assert_eq!(counts(), [1, 10]);
    // The other one too: then they take turns all the same.
    send("busy").await;
    for _ in 0..8 {
        send("busy").await;
    }
    assert!(counts().iter().all(|count| *count > 3), "{:?}", counts());

    tokio::time::advance(Duration::from_secs(301)).await;
    send("busy").await;
    let rests: Vec<_> = ["a", "b"].into_iter().filter(|id| pool.get(id).unwrap().is_resting(now())).collect();
    assert_eq!(rests.len(), 1);
    // A good answer ends it.
    Lease::take(pool.get(rests[0]).unwrap(), now()).complete(Outcome::Success, now());
    assert!(!pool.get(rests[0]).unwrap().is_resting(now()));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_waits_for_any_more_took_at_least_so_long() {
    let pool = pool();
    let backend = pool.get("a").unwrap();
    Lease::take(backend.clone(), now()).complete(Outcome::Success, now() + Duration::from_millis(10));
    let end = service_fn(|_: Routed<&'static str, Answer>| std::future::pending::<Answer>());
    let service = BalancerLayer::new(&pool, RoundRobin::new()).layer(FeedbackLayer::default().layer(end));
    let answer = service.oneshot(Ok("hello"));
    assert!(tokio::time::timeout(Duration::from_secs(1), answer).await.is_err());
    let mean = backend.load().latency().mean(Moment::of(now())).unwrap().value;
    assert!(mean > 0.4, "{mean}");
    assert_eq!(backend.load().count(Outcome::Cancelled), 1);
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

#[tokio::test]
async fn a_timeout_is_counted_and_takes_nobody_out() {
    let pool = pool();
    let error = stack(&pool, FeedbackLayer::default()).oneshot(Err(io::ErrorKind::TimedOut.into())).await.unwrap_err();
    assert_eq!(error.downcast_ref::<ProxyError>().unwrap().kind(), Outcome::Timeout);
    assert_eq!(pool.backends()[0].load().count(Outcome::Timeout), 1);
    assert_eq!(pool.healthy().len(), 2);
}

#[tokio::test]
async fn an_error_of_unknown_kind_is_counted_and_takes_nobody_out() {
    let pool = pool();
    let error = stack(&pool, FeedbackLayer::default()).oneshot(Err(io::Error::other("who knows"))).await.unwrap_err();
    assert_eq!(error.downcast_ref::<ProxyError>().unwrap().kind(), Outcome::BackendFault);
    assert_eq!(pool.backends()[0].load().count(Outcome::BackendFault), 1);
    assert_eq!(pool.healthy().len(), 2);
}

#[tokio::test]
async fn a_classifier_of_ones_own_has_the_last_word() {
    #[derive(Clone)]
    struct Grumpy;
    impl Classify<&'static str> for Grumpy {
        fn response(&self, response: &&'static str) -> Option<Outcome> {
            Some(if *response == "sorry" { Outcome::BackendFault } else { Outcome::Success })
        }
        fn error(&self, _: &(dyn Error + 'static)) -> Fault {
            Fault { kind: Outcome::Overload, sent: true }
        }
    }
    let pool = pool();
    let mut service = stack(&pool, FeedbackLayer::new(Grumpy));
    let mut ask = async |answer: Answer| service.ready().await.unwrap().call(answer).await;
    assert_eq!(ask(Ok("sorry")).await.unwrap(), "sorry");
    assert!(ask(Err(io::ErrorKind::ConnectionRefused.into())).await.is_err());
    let count = |place: usize, outcome| pool.backends()[place].load().count(outcome);
    assert_eq!((count(0, Outcome::BackendFault), count(1, Outcome::Overload)), (1, 1));
    assert_eq!(pool.healthy().len(), 2);
}
