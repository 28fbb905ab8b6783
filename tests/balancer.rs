//! The balancer's contracts: readiness, clones, leases, and pools that change under it.

use std::{sync::Arc, task::Poll, time::Duration};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, ServiceExt, buffer::Buffer, service_fn};
use tower_balancer::{
    BackendPool, Reason, Unavailable,
    backend::{Backend, BackendId, Lease, Outcome, Weight},
    balance::{Balancer, BalancerLayer, Direct},
    feedback::FeedbackLayer,
    pool::{Dispatch, Member, Routed},
    strategy::{Admission, AnyStrategy, Candidates, Hint, Index, Picker, Random, RoundRobin, Strategy},
};
use tower_test::mock::{self, Mock};

type Sent = Dispatch<&'static str, u32>;
type Balanced = Balancer<Mock<Sent, String>, &'static str, RoundRobin>;

fn pool(ids: &[&'static str]) -> BackendPool<&'static str> {
    BackendPool::from_members(ids.iter().map(|&id| Member::new(id, id))).unwrap()
}

fn fail_fast(pool: &BackendPool<&'static str>) -> (Balanced, mock::Handle<Sent, String>) {
    stacked(BalancerLayer::new(pool, RoundRobin::new()))
}

fn stacked(layer: BalancerLayer<&'static str, RoundRobin>) -> (Balanced, mock::Handle<Sent, String>) {
    let (inner, handle) = mock::pair();
    (layer.layer(inner), handle)
}

fn reason(error: &BoxError) -> Option<Reason> {
    error.downcast_ref::<Unavailable>().map(Unavailable::reason)
}

/// One poll of the service's readiness, with a waker that tells whether it was woken.
macro_rules! poll_ready {
    ($service:expr) => {
        task::spawn(std::future::poll_fn(|cx| $service.poll_ready(cx))).poll()
    };
}

// ---- readiness

#[tokio::test]
async fn it_is_ready_when_the_inner_service_is() {
    let (mut service, mut handle) = fail_fast(&pool(&["a"]));
    handle.allow(0);
    let mut ready = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert_pending!(ready.poll());
    handle.allow(1);
    assert!(ready.is_woken(), "pending without a waker");
    assert_ready_ok!(ready.poll());
}

#[tokio::test]
async fn without_a_backend_it_is_ready_and_the_call_fails_at_once_with_the_reason() {
    let pool = pool(&[]);
    let (mut service, _handle) = fail_fast(&pool);
    assert_ready_ok!(poll_ready!(service));
    let error = assert_ready_err!(task::spawn(service.call(1)).poll());
    assert_eq!(reason(&error), Some(Reason::NoBackends));

    pool.insert(Member::new("a", "a")).unwrap();
    pool.mark_unhealthy("a");
    assert_ready_ok!(poll_ready!(service));
    let error = assert_ready_err!(task::spawn(service.call(1)).poll());
    assert_eq!(reason(&error), Some(Reason::AllUnhealthy));
    assert_eq!(pool.backends()[0].load().completed(), 0, "our own error was charged to a backend");
}

#[tokio::test]
async fn a_pool_without_backends_does_not_poison_a_buffer() {
    let pool = pool(&["a"]);
    pool.mark_unhealthy("a");
    let echo = service_fn(|sent: Sent| async move { Ok::<_, BoxError>(sent.target) });
    let mut buffered = Buffer::new(BalancerLayer::new(&pool, RoundRobin::new()).layer(echo), 4);

    let error = buffered.ready().await.unwrap().call(1).await.unwrap_err();
    assert_eq!(reason(&error), Some(Reason::AllUnhealthy));
    pool.mark_healthy("a");
    assert_eq!(buffered.ready().await.unwrap().call(1).await.unwrap(), "a");
}

#[tokio::test]
async fn an_error_of_the_inner_service_passes_and_is_the_only_one() {
    let (mut service, mut handle) = fail_fast(&pool(&["a"]));
    handle.send_error("gone for good");
    let error = assert_ready_err!(poll_ready!(service));
    assert_eq!(error.to_string(), "gone for good");
}

// ---- waiting

const PATIENCE: Duration = Duration::from_secs(2);

fn patient(pool: &BackendPool<&'static str>, limit: usize) -> (Balanced, mock::Handle<Sent, String>) {
    stacked(BalancerLayer::new(pool, RoundRobin::new()).wait(PATIENCE, limit))
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_is_woken_by_the_backend_that_recovers_and_by_nothing_else() {
    let pool = pool(&["a", "b"]);
    pool.mark_unhealthy("a");
    pool.mark_unhealthy("b");
    let (mut service, _handle) = patient(&pool, 1);
    let mut ready = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert_pending!(ready.poll());
    assert!(!ready.is_woken(), "it wakes itself");

    // A change that helps nobody costs one look, and the caller goes on waiting.
    pool.mark_unhealthy("b");
    assert!(!ready.is_woken());
    pool.insert(Member::new("c", "c")).unwrap();
    pool.mark_unhealthy("c");
    assert_pending!(ready.poll());

    pool.mark_healthy("b");
    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
}

#[tokio::test(start_paused = true)]
async fn a_recovery_between_the_look_and_the_wait_is_not_missed() {
    let pool = pool(&["a"]);
    let (mut service, _handle) = patient(&pool, 1);
    // Many rounds of a race that cannot be lost: whoever waits is woken, in whatever order the two happen.
    for _ in 0..200 {
        pool.mark_unhealthy("a");
        let marker = pool.clone();
        let heal = tokio::task::spawn_blocking(move || marker.mark_healthy("a"));
        let before = tokio::time::Instant::now();
        assert!(std::future::poll_fn(|cx| service.poll_ready(cx)).await.is_ok());
        assert!(before.elapsed() < PATIENCE, "it slept through the recovery");
        heal.await.unwrap();
        drop(service.call(1));
    }
}

/// A request that holds a backend of `pool`, which may have one.
fn occupied(pool: &BackendPool<&'static str>) -> Lease {
    pool.set_limit("a", Some(1));
    Lease::take(pool.get("a").unwrap(), tokio::time::Instant::now().into_std())
}

#[tokio::test(start_paused = true)]
async fn one_release_wakes_one_caller_the_first_to_come() {
    let pool = pool(&["a"]);
    let lease = occupied(&pool);
    let (service, _handle) = patient(&pool, 4);
    let mut services = [service.clone(), service.clone(), service.clone(), service];
    let [first, second, third, late] = &mut services;
    let mut waiting =
        [first, second, third].map(|service| task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx))));
    for caller in &mut waiting {
        assert_pending!(caller.poll());
    }
    drop(lease);
    assert_eq!([0, 1, 2].map(|caller: usize| waiting[caller].is_woken()), [true, false, false]);
    // Who comes now does not go first.
    assert_pending!(poll_ready!(late));
    assert_ready_ok!(waiting[0].poll());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_wakes_those_who_wait() {
    for limit in [None, Some(9)] {
        let pool = pool(&["a"]);
        let _lease = occupied(&pool);
        let (service, _handle) = patient(&pool, 4);
        let mut waiting = [service.clone(), service].map(|service| task::spawn(service.ready_oneshot()));
        for caller in &mut waiting {
            assert_pending!(caller.poll());
        }
        tokio::time::advance(Duration::from_millis(10)).await;
        for caller in &mut waiting {
            assert_pending!(caller.poll());
        }
        pool.set_limit("a", limit);
        for caller in &mut waiting {
            assert!(caller.is_woken(), "{limit:?}");
            assert!(assert_ready!(caller.poll()).is_ok());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_made_ready_and_is_dropped_passes_its_turn_on() {
    let pool = pool(&["a"]);
    let lease = occupied(&pool);
    let (first, _handle) = patient(&pool, 4);
    let second = first.clone();
    let mut waiting = [first, second].map(|service| task::spawn(service.ready_oneshot()));
    for caller in &mut waiting {
        assert_pending!(caller.poll());
    }
    tokio::time::advance(Duration::from_millis(10)).await;
    assert_pending!(waiting[1].poll());
    drop(lease);
    let [mut first, mut second] = waiting;
    let ready = assert_ready!(first.poll()).unwrap();
    assert!(!second.is_woken());
    drop(ready);
    assert!(second.is_woken());
    assert!(assert_ready!(second.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn of_those_who_wait_for_a_trial_one_makes_it_at_a_time() {
    let pool = pool(&["a"]);
    let now = || tokio::time::Instant::now().into_std();
    pool.get("a").unwrap().eject("test", now());
    let layer = BalancerLayer::new(&pool, RoundRobin::new()).wait(Duration::from_secs(60), 100);
    let stack = layer.layer(FeedbackLayer::default().layer(service_fn(|_: Routed<&'static str, u32>| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>("well")
    })));
    let callers: Vec<_> = (0..50).map(|caller| tokio::spawn(stack.clone().oneshot(caller))).collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), "well");
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_taken_passes_to_the_next() {
    let pool = pool(&["a"]);
    let lease = occupied(&pool);
    let (first, _handle) = patient(&pool, 4);
    let second = first.clone();
    let mut waiting = [first, second].map(|service| task::spawn(service.ready_oneshot()));
    for caller in &mut waiting {
        assert_pending!(caller.poll());
    }
    drop(lease);
    let [first, mut second] = waiting;
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert!(assert_ready!(second.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_reached_is_a_reason_of_its_own() {
    let pool = pool(&["a"]);
    let _lease = occupied(&pool);
    let (mut fast, _handle) = fail_fast(&pool);
    assert_ready_ok!(poll_ready!(fast));
    let full = fast.call(1).await.unwrap_err();
    assert_eq!(reason(&full), Some(Reason::AllAtLimit));
    // It is full for a moment, whoever else is out for how long.
    let recovery = full.downcast_ref::<Unavailable>().unwrap().earliest_recovery();
    assert_eq!(recovery, Some(Duration::ZERO));

    let (mut waits, _handle) = patient(&pool, 1);
    let mut finds_it_full = waits.clone();
    assert_pending!(poll_ready!(waits));
    assert_ready_ok!(poll_ready!(finds_it_full));
    assert_eq!(reason(&finds_it_full.call(1).await.unwrap_err()), Some(Reason::QueueFull));
    assert!(std::future::poll_fn(|cx| waits.poll_ready(cx)).await.is_ok());
    assert_eq!(reason(&waits.call(1).await.unwrap_err()), Some(Reason::QueueTimeout));
}

#[tokio::test(start_paused = true)]
async fn time_alone_ends_the_wait_for_a_backend_that_was_ejected() {
    let pool = pool(&["a"]);
    let now = || tokio::time::Instant::now().into_std();
    let start = now();
    pool.get("a").unwrap().eject("test", start);
    let (mut fast, _handle) = fail_fast(&pool);
    let error = fast.call(1).await.unwrap_err();
    let recovery = error.downcast_ref::<Unavailable>().unwrap().earliest_recovery().unwrap();
    assert!((4.0..=6.0).contains(&recovery.as_secs_f64()), "{recovery:?}");

    let layer = BalancerLayer::new(&pool, RoundRobin::new()).wait(Duration::from_secs(60), 1);
    let (mut patient, mut handle) = stacked(layer);
    handle.allow(1);
    assert!(std::future::poll_fn(|cx| patient.poll_ready(cx)).await.is_ok());
    let waited = now() - start;
    assert!(waited >= recovery && waited <= recovery + Duration::from_millis(10), "{waited:?} for {recovery:?}");
}

#[tokio::test(start_paused = true)]
async fn where_the_first_gives_up_the_next_minds_the_time() {
    let pool = pool(&["a"]);
    pool.get("a").unwrap().eject("test", tokio::time::Instant::now().into_std());
    let layer = BalancerLayer::new(&pool, RoundRobin::new()).wait(Duration::from_secs(60), 2);
    let (first, mut handle) = stacked(layer);
    handle.allow(2);
    let mut second = first.clone();
    let mut gives_up = task::spawn(first.ready_oneshot());
    let mut goes_on = task::spawn(std::future::poll_fn(|cx| second.poll_ready(cx)));
    assert_pending!(gives_up.poll());
    assert_pending!(goes_on.poll());
    drop(gives_up);
    let start = tokio::time::Instant::now();
    assert!(goes_on.await.is_ok());
    assert!(start.elapsed() <= Duration::from_secs(7), "it slept through the end of the ejection");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_come_at_once_for_one_place_one_waits() {
    let pool = pool(&["a"]);
    pool.set_limit("a", Some(1));
    let (mut first, mut handle) = patient(&pool, 4);
    let mut second = first.clone();
    assert_ready_ok!(poll_ready!(first));
    // The place was promised, though it is not taken yet.
    let mut waits = task::spawn(std::future::poll_fn(|cx| second.poll_ready(cx)));
    assert_pending!(waits.poll());
    let _answer = first.call(1);
    assert_pending!(waits.poll());
    // The request has the lease.
    drop(handle.next_request().await);
    assert!(waits.is_woken());
    assert_ready_ok!(waits.poll());
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_does_not_take_what_another_was_promised() {
    let pool = pool(&["a"]);
    let lease = occupied(&pool);
    let (mut first, _handle) = patient(&pool, 1);
    let mut refused = first.clone();
    let mut waits = task::spawn(std::future::poll_fn(|cx| first.poll_ready(cx)));
    assert_pending!(waits.poll());
    assert_ready_ok!(poll_ready!(refused));
    drop(lease);
    assert_ready_ok!(waits.poll());
    assert_eq!(reason(&refused.call(1).await.unwrap_err()), Some(Reason::QueueFull));
    drop(waits);
    let answer = first.call(1);
    assert_eq!(pool.get("a").unwrap().load().in_flight(), 1);
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn one_who_stands_in_line_and_does_not_look_keeps_nobody() {
    let pool = pool(&["a"]);
    let lease = occupied(&pool);
    let (mut looks_away, mut handle) = patient(&pool, 4);
    handle.allow(3);
    let mut waits = looks_away.clone();
    let mut comes_later = looks_away.clone();
    // A `LoadShed` that was refused, or a caller that had a timeout of its own, keeps its place and does not poll again.
    assert_pending!(poll_ready!(looks_away));
    let mut waiting = task::spawn(std::future::poll_fn(|cx| waits.poll_ready(cx)));
    assert_pending!(waiting.poll());
    drop(lease);
    let start = tokio::time::Instant::now();
    assert!(waiting.await.is_ok());
    assert!(start.elapsed() < PATIENCE / 10, "{:?}", start.elapsed());
    drop((waits.call(1), handle.next_request().await));
    // From then on nobody minds the one.
    assert!(std::future::poll_fn(|cx| comes_later.poll_ready(cx)).await.is_ok());
    drop((comes_later.call(2), handle.next_request().await));
    assert!(start.elapsed() < PATIENCE / 10, "{:?}", start.elapsed());
    // And when it looks, it has the first place.
    assert_ready_ok!(poll_ready!(looks_away));
    let _answer = looks_away.call(3);
    assert_eq!(pool.get("a").unwrap().load().in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_refuses_keeps_nobody_who_comes_by_another() {
    /// Has nobody for anyone.
    struct Refuses;
    impl Strategy for Refuses {
        type Picker = Self;
        fn build(&self, _: &[Arc<Backend>]) -> Self {
            Self
        }
    }
    impl Picker for Refuses {
        fn admit(&self, _: &Candidates<'_>) -> Admission {
            Admission::Refuse(Unavailable::new(Reason::AllAtLimit))
        }
        fn pick(&self, _: &Candidates<'_>, _: &Hint<'_>) -> Option<Index> {
            None
        }
    }
    let pool = pool(&["a"]);
    let lease = occupied(&pool);
    let (inner, _handle) = mock::pair::<Sent, String>();
    let mut refused = BalancerLayer::new(&pool, Refuses).wait(PATIENCE, 4).layer(inner);
    let mut refused = task::spawn(std::future::poll_fn(|cx| refused.poll_ready(cx)));
    assert_pending!(refused.poll());
    let (mut waits, mut handle) = patient(&pool, 4);
    handle.allow(2);
    let mut comes_later = waits.clone();
    let mut waiting = task::spawn(std::future::poll_fn(|cx| waits.poll_ready(cx)));
    assert_pending!(waiting.poll());
    drop(lease);
    assert_pending!(refused.poll());
    let start = tokio::time::Instant::now();
    assert!(waiting.await.is_ok());
    assert!(start.elapsed() < PATIENCE / 10, "{:?}", start.elapsed());
    drop((waits.call(1), handle.next_request().await));
    assert_pending!(refused.poll());
    assert_ready_ok!(poll_ready!(comes_later));
}

#[tokio::test(start_paused = true)]
async fn what_one_was_promised_another_that_never_waits_does_not_take() {
    let pool = pool(&["a"]);
    pool.set_limit("a", Some(1));
    let (mut patient, mut handle) = patient(&pool, 1);
    handle.allow(1);
    let (mut fast, mut fast_handle) = fail_fast(&pool);
    fast_handle.allow(1);
    assert_ready_ok!(poll_ready!(patient));
    assert_ready_ok!(poll_ready!(fast));
    let error = assert_ready_err!(task::spawn(fast.call(1)).poll());
    assert_eq!(reason(&error), Some(Reason::AllAtLimit));
    let answer = patient.call(1);
    assert_eq!(pool.get("a").unwrap().load().in_flight(), 1);
    drop(answer);
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_long_ago_is_not_refused_where_nobody_wants_the_room() {
    let pool = pool(&["a"]);
    let lease = occupied(&pool);
    let (mut refused, mut handle) = patient(&pool, 0);
    handle.allow(1);
    assert_ready_ok!(poll_ready!(refused));
    drop(lease);
    let answer = refused.call(1);
    assert_eq!(pool.get("a").unwrap().load().in_flight(), 1);
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_time() {
    let pool = pool(&["a"]);
    pool.mark_unhealthy("a");
    let (mut service, _handle) = patient(&pool, 1);
    let before = tokio::time::Instant::now();
    assert!(std::future::poll_fn(|cx| service.poll_ready(cx)).await.is_ok());
    assert_eq!(before.elapsed().as_secs(), PATIENCE.as_secs());
    assert_eq!(reason(&service.call(1).await.unwrap_err()), Some(Reason::AllUnhealthy));
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_number_and_a_place_that_is_left_is_free() {
    let pool = pool(&["a"]);
    pool.mark_unhealthy("a");
    let (mut first, _handle) = patient(&pool, 1);
    let mut second = first.clone();
    assert_pending!(poll_ready!(first));
    assert_ready_ok!(poll_ready!(second));
    assert_eq!(reason(&second.call(1).await.unwrap_err()), Some(Reason::AllUnhealthy));

    drop(first);
    assert_pending!(poll_ready!(second));
}

#[tokio::test(start_paused = true)]
async fn once_ready_it_stays_ready_until_the_call() {
    let pool = pool(&["a"]);
    let (mut service, _handle) = patient(&pool, 1);
    assert_ready_ok!(poll_ready!(service));
    pool.mark_unhealthy("a");
    assert_ready_ok!(poll_ready!(service));
    assert_eq!(reason(&service.call(1).await.unwrap_err()), Some(Reason::AllUnhealthy));
    assert_pending!(poll_ready!(service));
}

#[tokio::test(start_paused = true)]
async fn a_clone_inherits_neither_readiness_nor_the_place_of_one_who_waits() {
    let pool = pool(&["a"]);
    let (mut service, _handle) = patient(&pool, 1);
    assert_ready_ok!(poll_ready!(service));
    pool.mark_unhealthy("a");
    let mut clone = service.clone();
    assert_pending!(poll_ready!(clone));
    assert_ready_ok!(poll_ready!(clone.clone()), "the one place was taken twice");
    assert_ready_ok!(poll_ready!(service));
}

// ---- the pick

#[tokio::test]
async fn the_pick_is_over_the_pool_of_the_moment_of_the_call() {
    let pool = pool(&["a", "b"]);
    let (mut service, mut handle) = fail_fast(&pool);
    let mut sent_to = async |service: &mut Balanced| {
        let response = service.call(1);
        let (sent, reply) = handle.next_request().await.unwrap();
        reply.send_response(String::new());
        sent.lease.complete(Outcome::Success, tokio::time::Instant::now().into_std());
        response.await.unwrap();
        sent.target
    };

    assert_ready_ok!(poll_ready!(service));
    pool.mark_unhealthy("a");
    assert_eq!(sent_to(&mut service).await, "b");

    assert_ready_ok!(poll_ready!(service));
    pool.remove("b");
    pool.insert(Member::new("c", "c")).unwrap();
    assert_eq!(sent_to(&mut service).await, "c");

    assert_ready_ok!(poll_ready!(service));
    pool.remove("a");
    pool.remove("c");
    assert_eq!(reason(&service.call(1).await.unwrap_err()), Some(Reason::NoBackends));
}

#[tokio::test]
async fn what_a_request_tells_of_itself_reaches_the_strategy() {
    /// Goes where the key says.
    #[derive(Clone, Copy)]
    struct ByKey;
    impl Strategy for ByKey {
        type Picker = Self;
        fn build(&self, _: &[Arc<Backend>]) -> Self {
            *self
        }
    }
    impl Picker for ByKey {
        fn pick(&self, _: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
            hint.key.map(|key| Index::new(key as usize))
        }
    }

    let echo = service_fn(|sent: Sent| async move { Ok::<_, BoxError>(sent.target) });
    let layer = BalancerLayer::new(&pool(&["a", "b", "c"]), ByKey);
    let service = layer.describe(|request: &u32, hint: &mut Hint<'_>| hint.key = Some(u64::from(*request))).layer(echo);
    for (request, target) in [(2, "c"), (0, "a"), (1, "b")] {
        assert_eq!(service.clone().oneshot(request).await.unwrap(), target);
    }
    // A pick beyond the members is a broken strategy: no panic, no backend.
    assert!(reason(&service.oneshot(3).await.unwrap_err()).is_some());
}

#[tokio::test]
async fn a_request_can_carry_what_it_has_tried() {
    struct Attempt {
        tried: Vec<BackendId>,
    }
    let echo = service_fn(|sent: Dispatch<&'static str, Attempt>| async move { Ok::<_, BoxError>(sent.target) });
    let layer = BalancerLayer::new(&pool(&["a", "b", "c"]), RoundRobin::new());
    let service = layer.describe(|request: &Attempt, hint| hint.excluded = &request.tried).layer(echo);
    for _ in 0..6 {
        let attempt = Attempt { tried: vec!["a".into(), "c".into()] };
        assert_eq!(service.clone().oneshot(attempt).await.unwrap(), "b");
    }
}

#[test]
fn what_was_tried_is_not_picked_while_something_else_is_eligible() {
    let pool = pool(&["a", "b", "c"]);
    let ids: Vec<_> = pool.backends().iter().map(|backend| backend.id().clone()).collect();
    for name in AnyStrategy::NAMES {
        let view = pool.view(name.parse::<AnyStrategy>().unwrap());
        let picked = |excluded: &[_], seed| {
            let snapshot = view.load();
            let hint = Hint::new(tokio::time::Instant::now().into_std(), seed).excluding(excluded);
            snapshot.pick(&hint).unwrap().0.id().clone()
        };
        for seed in 0..100 {
            assert_eq!(picked(&ids[..2], seed), ids[2], "{name}");
            assert_ne!(picked(&ids[..1], seed), ids[0], "{name}");
        }
        // With everything tried, a second try beats none.
        assert!((0..100).all(|seed| ids.contains(&picked(&ids, seed))));
        pool.mark_unhealthy("c");
        assert!((0..100).all(|seed| picked(&ids[..2], seed) != ids[2]), "{name} picked a backend that is out");
        pool.mark_healthy("c");
    }
}

#[tokio::test]
async fn sets_of_every_awkward_kind_are_served_or_refused_without_a_panic() {
    for name in AnyStrategy::NAMES {
        let pool = pool(&[]);
        let echo = service_fn(|sent: Sent| async move { Ok::<_, BoxError>(sent.target) });
        let service = BalancerLayer::new(&pool, name.parse::<AnyStrategy>().unwrap()).layer(echo);
        let ask = || service.clone().oneshot(1);

        assert_eq!(reason(&ask().await.unwrap_err()), Some(Reason::NoBackends));
        pool.insert(Member::new("a", "a").weight(Weight::new(0.0).unwrap())).unwrap();
        assert_eq!(ask().await.unwrap(), "a");
        pool.insert(Member::new("b", "b").weight(Weight::new(0.0).unwrap())).unwrap();
        assert!(["a", "b"].contains(&ask().await.unwrap()));
        pool.mark_unhealthy("a");
        assert_eq!(ask().await.unwrap(), "b");
        pool.mark_unhealthy("b");
        assert_eq!(reason(&ask().await.unwrap_err()), Some(Reason::AllUnhealthy));
        pool.replace([]).unwrap();
        assert_eq!(reason(&ask().await.unwrap_err()), Some(Reason::NoBackends));
    }
}

// ---- leases

#[tokio::test]
async fn the_lease_is_taken_at_the_pick_and_released_when_the_future_is_dropped_before_its_first_poll() {
    let pool = pool(&["a"]);
    let backend = &pool.backends()[0];
    let answer = service_fn(|_: Routed<_, u32>| std::future::pending::<Result<(), BoxError>>());
    let mut service = BalancerLayer::new(&pool, Random).layer(FeedbackLayer::default().layer(answer));

    let unpolled = service.ready().await.unwrap().call(1);
    assert_eq!(backend.load().in_flight(), 1);
    let mut polled = task::spawn(service.ready().await.unwrap().call(2));
    assert_pending!(polled.poll());
    assert_eq!(backend.load().in_flight(), 2);

    drop(unpolled);
    drop(polled);
    assert_eq!((backend.load().in_flight(), backend.load().count(Outcome::Cancelled)), (0, 2));
    assert!(backend.is_eligible(), "a request that was cancelled took its backend out");
}

#[tokio::test]
async fn a_clone_holds_no_lease() {
    let pool = pool(&["a"]);
    let echo = service_fn(|sent: Sent| async move { Ok::<_, BoxError>(sent) });
    let mut service = BalancerLayer::new(&pool, RoundRobin::new()).layer(echo);
    let sent = service.ready().await.unwrap().call(1).await.unwrap();
    let clone = service.clone();
    drop(service);
    drop(sent);
    assert_eq!(pool.backends()[0].load().in_flight(), 0);
    drop(clone);
}

// ---- any service

#[tokio::test]
async fn plain_services_are_balanced_by_direct_which_waits_for_the_target_to_be_ready() {
    let (first, mut first_handle) = mock::pair::<u32, u32>();
    let (second, mut second_handle) = mock::pair::<u32, u32>();
    first_handle.allow(0);
    let pool = BackendPool::from_members([Member::new("first", first), Member::new("second", second)]).unwrap();
    let mut service = BalancerLayer::new(&pool, RoundRobin::new()).layer(FeedbackLayer::default().layer(Direct));

    let mut waits = task::spawn(service.ready().await.unwrap().call(1));
    assert_pending!(waits.poll());
    let mut goes = task::spawn(service.ready().await.unwrap().call(2));
    assert_pending!(goes.poll());
    let (request, reply) = assert_ready!(task::spawn(second_handle.next_request()).poll()).unwrap();
    reply.send_response(request * 10);
    assert_eq!(assert_ready!(goes.poll()).unwrap(), 20);

    first_handle.allow(1);
    assert!(waits.is_woken());
    assert_pending!(waits.poll());
    let (request, reply) = first_handle.next_request().await.unwrap();
    reply.send_response(request * 10);
    assert_eq!(assert_ready!(waits.poll()).unwrap(), 10);
    assert!(matches!(poll_ready!(service), Poll::Ready(Ok(()))));
}
