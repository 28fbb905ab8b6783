//! What traffic finds out about a backend, and what becomes of it: without sockets, in virtual time.

use proptest::prelude::*;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tower_balancer::{
    BackendPool, Reason,
    backend::{Backend, Backoff, HealthState, Lease, Moment, Outcome, Window},
    pool::{Change, Detector, Ejection, FailOpen, Member},
    strategy::{Hint, LeastRequest, RoundRobin, SessionSecret, SessionToken, Sticky},
};

#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn origin() -> Instant {
    Instant::now()
}

fn pool_of(backends: usize) -> BackendPool<()> {
    BackendPool::from_members((0..backends).map(|name| Member::new(name.to_string(), ()))).unwrap()
}

fn answer(backend: &Arc<Backend>, outcome: Outcome, now: Instant) {
    Lease::take(Arc::clone(backend), now).complete(outcome, now);
}

fn states(pool: &BackendPool<()>) -> Vec<HealthState> {
    pool.backends().iter().map(|backend| backend.health().state()).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

use HealthState::{Disabled, Draining, Ejected, Healthy, Probing};

#[test]
fn five_failures_in_a_row_put_a_backend_out_and_an_answer_ends_the_row() {
    let (pool, now) = (pool_of(3), origin());
    pool.set_ejection(Ejection::default().detector(Detector::Off));
    let bad = &pool.backends()[1];
    for outcome in [Outcome::BackendFault, Outcome::Timeout, Outcome::Overload, Outcome::BackendFault, Outcome::Reset] {
        answer(bad, outcome, now);
    }
    // Four of them counted. A client's fault is an answer.
    answer(bad, Outcome::ClientFault, now);
    for _ in 0..4 {
        answer(bad, Outcome::BackendFault, now);
        answer(bad, Outcome::Cancelled, now);
    }
    assert_eq!(states(&pool), [Healthy; 3]);
    answer(bad, Outcome::BackendFault, now);
    assert_eq!(states(&pool), [Healthy, Ejected, Healthy]);
    let health = bad.health();
    assert_eq!(health.cause(), Some("5 failures in a row"));
    assert!((4.0..=6.0).contains(&(health.until().unwrap() - now).as_secs_f64()));
}

#[test]
fn one_that_fails_more_than_its_peers_is_out_and_a_fleet_that_fails_is_not() {
    for backends in [2, 3, 5] {
        let start = origin();
        let (pool, mut now) = (pool_of(backends), start);
        pool.set_ejection(Ejection::default().consecutive(0));
        let all = pool.backends();
        // The first half of the requests of the last backend fail.
        for request in 0..400 {
            now = start + millis(request * 10);
            for (place, backend) in all.iter().enumerate() {
                let fails = place + 1 == backends && request % 2 == 0;
                answer(backend, if fails { Outcome::BackendFault } else { Outcome::Success }, now);
            }
        }
        assert_eq!(all[backends - 1].health().state(), Ejected, "{backends}");
        assert_eq!(pool.healthy().len(), backends - 1, "{backends}");

        let (pool, start) = (pool_of(backends), now);
        for request in 0..400 {
            for backend in pool.backends() {
                answer(
                    &backend,
                    if request % 2 == 0 { Outcome::BackendFault } else { Outcome::Success },
                    start + millis(request * 10),
                );
            }
        }
        assert_eq!(pool.healthy().len(), backends, "{backends}");
    }
}

#[test]
fn no_more_go_than_may_and_never_the_last_of_a_zone() {
    // By a rule that asks for no peers, or nobody would go.
    let detector = Detector::FailurePercentage { percent: 50.0, hosts: 1, requests: 2 };
    let now = origin();
    let rules = Ejection::default().consecutive(0).detector(detector);
    for (backends, left) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (10, 5)] {
        let pool = pool_of(backends);
        pool.set_ejection(rules);
        for request in 0..50 {
            for backend in pool.backends() {
                answer(&backend, Outcome::BackendFault, now + millis(request * 100));
            }
        }
        assert_eq!(pool.healthy().len(), left, "{backends}");
    }
    // Each zone has a half of its own.
    let member = |(place, zone): (usize, &str)| Member::new(place.to_string(), ()).zone(zone);
    let pool = BackendPool::from_members(["a", "a", "a", "b"].into_iter().enumerate().map(member)).unwrap();
    pool.set_ejection(rules);
    for request in 0..50 {
        pool.backends().iter().for_each(|backend| answer(backend, Outcome::BackendFault, now + millis(request * 100)));
    }
    assert_eq!(states(&pool)[3], Healthy);
    assert_eq!(pool.healthy().len(), 3);
}

#[test]
fn one_request_at_a_time_tries_what_was_out() {
    let (pool, start) = (pool_of(2), origin());
    let view = pool.view(RoundRobin::new());
    let bad = pool.get("1").unwrap();
    bad.eject("test", start);
    let lease = |now: Instant| {
        view.advance(now);
        view.load().lease(&Hint::new(now, 0)).unwrap().0
    };
    let name = |lease: &Lease| lease.backend().id().to_string();
    assert_eq!([lease(start), lease(start)].map(|lease| name(&lease)), ["0", "0"]);

    // Its time is over. Nobody had to wait for that: the next request lets it pass.
    let now = start + Duration::from_secs(6);
    let leases: Vec<_> = (0..6).map(|_| lease(now)).collect();
    assert_eq!(states(&pool), [Healthy, Probing]);
    assert_eq!(leases.iter().filter(|lease| name(lease) == "1").count(), 1);

    // A trial that is cancelled says nothing, and the next one begins.
    drop(leases);
    for passed in 1..=2 {
        assert_eq!(states(&pool)[1], Probing);
        let mut trial = lease(now);
        while name(&trial) != "1" {
            trial = lease(now);
        }
        trial.complete(Outcome::Success, now);
        assert_eq!(states(&pool)[1] == Healthy, passed == 2);
    }

    // And out again, by a trial that fails: for longer.
    bad.eject("test", now);
    let first = bad.health().until().unwrap();
    let mut trial = lease(first);
    while name(&trial) != "1" {
        trial = lease(first);
    }
    trial.complete(Outcome::BackendFault, first);
    assert_eq!(states(&pool)[1], Ejected);
    assert!(bad.health().until().unwrap() - first > Duration::from_secs(8));
}

#[test]
fn an_ejection_ends_also_where_a_probe_failed_in_the_middle_of_it() {
    let (pool, start) = (pool_of(2), origin());
    let at = |seconds| start + Duration::from_secs(seconds);
    let bad = pool.get("1").unwrap();
    pool.get("0").unwrap().eject("test", start);
    bad.eject("test", at(2));
    bad.mark_unhealthy("status: 500", at(3));
    // The other's time is over, and everyone is looked at.
    pool.advance(at(6));
    assert_eq!(states(&pool), [Probing, HealthState::Unhealthy]);
    bad.mark_healthy("status: 200", at(6));
    pool.advance(at(9));
    assert_eq!(states(&pool), [Probing; 2]);
}

#[test]
fn only_trials_decide_on_a_trial() {
    let (pool, start) = (pool_of(2), origin());
    let bad = pool.get("1").unwrap();
    // Sent before it was out, and still without an answer.
    let stale: Vec<_> = (0..10).map(|_| Lease::take(Arc::clone(&bad), start)).collect();
    bad.eject("test", start);
    let now = bad.health().until().unwrap();
    pool.advance(now);
    for (number, lease) in stale.into_iter().enumerate() {
        match number % 2 {
            0 => lease.fail(Outcome::Timeout, "no answer", now),
            _ => lease.fail(Outcome::Reset, "Connection reset by peer", now),
        }
    }
    assert_eq!(states(&pool)[1], Probing);
    // The head of a stream ends a trial, however long the stream is.
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = Lease::try_take(&bad, 1.0, now).unwrap();
        stream.begun_answer(now);
        streams.push(stream);
    }
    assert_eq!(states(&pool)[1], Healthy);
}

#[test]
fn a_trial_that_nobody_makes_does_not_keep_others_in() {
    let (pool, start) = (pool_of(3), origin());
    pool.get("0").unwrap().eject("test", start);
    pool.advance(start + Duration::from_secs(6));
    assert_eq!(states(&pool)[0], Probing);
    let fail = |now: Instant| (0..20).for_each(|_| answer(&pool.get("1").unwrap(), Outcome::BackendFault, now));
    fail(start + Duration::from_secs(30));
    assert_eq!(states(&pool)[1], Healthy);
    fail(start + Duration::from_secs(90));
    assert_eq!(states(&pool)[1], Ejected);
}

#[test]
fn what_is_ten_seconds_old_is_forgotten_also_where_the_numbers_of_seconds_begin_anew() {
    let (backend, start) = (Arc::new(Backend::new("a")), origin());
    // The clock begins a day before the first moment, and its seconds are counted to 2^20.
    for begins in [0, 12_345, (1 << 20) - 86_400 - 20] {
        let at = |second: u64| start + Duration::from_secs(begins + second);
        let window = |second| backend.record().window(Moment::of(at(second)));
        for second in 0..40 {
            answer(&backend, Outcome::Success, at(second));
            answer(&backend, Outcome::BackendFault, at(second));
            let seconds = (second as u32 + 1).min(10);
            assert_eq!(window(second), Window { requests: 2 * seconds, faults: seconds }, "{begins} and {second}");
        }
        assert_eq!(window(48), Window { requests: 2, faults: 1 });
        assert_eq!(window(49), Window::default());
    }
}

#[test]
fn a_backend_on_trial_is_not_asked_by_two_and_nobody_else_is_no_reason() {
    let (pool, start) = (pool_of(1), origin());
    let view = pool.view(LeastRequest::new());
    pool.backends()[0].eject("test", start);
    let hint = |now| Hint::new(now, 0);
    let error = view.load().lease(&hint(start)).unwrap_err();
    assert_eq!(error.reason(), Reason::AllUnhealthy);
    assert!((3.9..=6.0).contains(&view.due(start).unwrap().as_secs_f64()));
    let now = start + Duration::from_secs(6);
    view.advance(now);
    let snapshot = view.load();
    let trial = snapshot.lease(&hint(now)).unwrap();
    // It is not well before that has succeeded.
    assert_eq!(snapshot.lease(&hint(now)).unwrap_err().reason(), Reason::AllUnhealthy);
    drop(trial);
    assert!(snapshot.lease(&hint(now)).is_ok());
}

#[test]
fn a_full_backend_is_passed_over_and_its_limit_is_never_exceeded() {
    let (pool, now) = (pool_of(3), origin());
    for (id, limit) in [("0", Some(1)), ("1", Some(2)), ("2", Some(0))] {
        assert!(pool.set_limit(id, limit));
    }
    let view = pool.view(RoundRobin::new());
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(view.load().lease(&Hint::new(now, 0)).unwrap().0);
    }
    assert_eq!(pool.backends().iter().map(|backend| backend.load().in_flight()).collect::<Vec<_>>(), [1, 2, 0]);
    assert_eq!(view.load().lease(&Hint::new(now, 0)).unwrap_err().reason(), Reason::AllAtLimit);
    drop(leases.pop());
    assert!(view.load().lease(&Hint::new(now, 0)).is_ok());
    assert!(pool.set_limit("2", None));
    leases.extend((0..9).map(|_| view.load().lease(&Hint::new(now, 0)).unwrap().0));
    assert!(pool.get("2").unwrap().load().in_flight() >= 8);
}

/// A session of `backend`, under a secret.
fn sticky(backend: &str) -> (Sticky<RoundRobin>, SessionToken) {
    let secret = SessionSecret::new([7; 16]);
    (Sticky::new(secret, RoundRobin::new()), secret.token(&backend.into()))
}

#[test]
fn a_session_of_a_drained_backend_that_cannot_take_it_goes_elsewhere() {
    let (pool, now) = (pool_of(3), origin());
    let (strategy, token) = sticky("1");
    let view = pool.view(strategy);
    let hint = Hint::new(now, 0).session(token);
    let place = |hint: &Hint<'_>| view.load().lease(hint).unwrap().0.backend().id().to_string();
    pool.drain("1").unwrap();
    assert_eq!(place(&hint), "1");

    // It is full.
    pool.set_limit("1", Some(1));
    let held = Lease::take(pool.get("1").unwrap(), now);
    assert_ne!(place(&hint), "1");
    drop(held);
    assert_eq!(place(&hint), "1");

    // It was tried.
    let tried = [pool.get("1").unwrap().id().clone()];
    assert_ne!(place(&hint.excluding(&tried)), "1");

    // It is gone before its last session.
    Lease::take(pool.get("1").unwrap(), now).fail(Outcome::ConnectFault, "Connection refused", now);
    assert_ne!(place(&hint), "1");
    assert_eq!(states(&pool)[1], Draining);
}

#[test]
fn that_somebodys_patience_is_at_its_end_is_no_sign_of_life() {
    let (backend, start) = (Arc::new(Backend::new("a")), origin());
    let take = |at: u64| Lease::take(Arc::clone(&backend), start + millis(at));
    (0..100).for_each(|n| take(n * 10).complete(Outcome::Success, start + millis(n * 10 + 5)));
    let [stuck, gone, refused, answered, _waits] = [1_000, 1_001, 1_002, 1_003, 1_004].map(take);
    let is_silent = |at: u64| backend.is_silent(start + millis(at));
    assert!(!is_silent(1_030) && is_silent(1_100));
    stuck.complete(Outcome::Timeout, start + millis(5_000));
    gone.give_up(start + millis(5_000));
    refused.complete(Outcome::Reset, start + millis(5_000));
    assert!(is_silent(5_000) && is_silent(5_100));
    // Any answer is, be it good or bad.
    answered.complete(Outcome::BackendFault, start + millis(6_000));
    assert!(!is_silent(6_010) && is_silent(6_100));
}

#[test]
fn who_goes_elsewhere_because_it_is_full_has_tried_nothing() {
    let (pool, start) = (pool_of(2), origin());
    let backend = pool.get("0").unwrap();
    (0..100).for_each(|n| {
        Lease::take(Arc::clone(&backend), start + millis(n)).complete(Outcome::Success, start + millis(n + 1));
    });
    pool.set_limit("0", Some(1));
    let view = pool.view(RoundRobin::new());
    let _long = Lease::take(Arc::clone(&backend), start + millis(1_000));
    for ms in 1_020..1_200 {
        let (lease, ()) = view.load().lease(&Hint::new(start + millis(ms), ms)).unwrap();
        assert_eq!(*lease.backend().id(), "1");
        assert!(!backend.has_stopped(start + millis(ms)), "{ms}");
    }
}

#[test]
fn no_length_of_an_ejection_is_too_short_or_too_long_for_the_clock() {
    for (base, cap) in
        [(Duration::MAX, Duration::MAX), (Duration::ZERO, Duration::MAX), (Duration::MAX, Duration::ZERO)]
    {
        let (pool, mut now) = (pool_of(2), origin());
        pool.set_ejection(Ejection::default().backoff(Backoff { base, cap }));
        let backend = pool.get("0").unwrap();
        Lease::take(Arc::clone(&backend), now).fail(Outcome::ConnectFault, "Connection refused", now);
        for probed in [true, true, false] {
            let until = backend.health().until().unwrap();
            assert!(until > now, "{base:?} {cap:?}");
            now = until;
            backend.advance(now, probed);
        }
        assert_eq!(states(&pool)[0], Probing);
    }
}

#[test]
fn one_that_is_on_trial_is_nobody_to_drain_to() {
    let (pool, now) = (pool_of(2), origin());
    let backend = pool.get("0").unwrap();
    backend.eject("it fails", now);
    backend.advance(backend.health().until().unwrap(), false);
    assert_eq!(states(&pool), [Probing, Healthy]);
    assert!(pool.drain("1").is_err());
    assert!(pool.drain("0").is_ok());
}

#[test]
fn only_who_is_bound_to_a_silent_backend_waits_for_it() {
    let (pool, start) = (pool_of(2), origin());
    let (strategy, bound) = sticky("1");
    let foreign = SessionSecret::new([8; 16]).token(&"1".into());
    let view = pool.view(strategy);
    let stuck = Lease::take(pool.get("1").unwrap(), start);
    let count = |token| {
        (0..200)
            .filter(|request| {
                let hint = Hint::new(start + millis(2_000 + request), 0).session(token);
                view.load().lease(&hint).unwrap().0.backend().id() == "1"
            })
            .count()
    };
    assert!(count(foreign) <= 1);
    assert_eq!(count(bound), 200);
    drop(stuck);
}

#[test]
fn one_that_has_stopped_answering_is_passed_by_and_asked_now_and_then() {
    let (pool, start) = (pool_of(3), origin());
    let view = pool.view(RoundRobin::new());
    let at = |ms: u64| start + millis(ms);
    let mut stuck = Vec::new();
    // A request each 5 ms, each answered after one, until backend 1 stops at 1 s; it goes on at 5 s.
    let mut answered_after = 0;
    for step in 0..1_600 {
        let now = at(step * 5);
        if step == 1_000 {
            stuck.drain(..).for_each(|lease: Lease| lease.complete(Outcome::Success, now));
        }
        let (lease, _) = view.load().lease(&Hint::new(now, step)).map(|(lease, _)| (lease, ())).unwrap();
        if (200..1_000).contains(&step) && lease.backend().id() == "1" {
            stuck.push(lease);
        } else {
            answered_after += u32::from(step > 1_010 && lease.backend().id() == "1");
            lease.complete(Outcome::Success, now + millis(1));
        }
        if step == 999 {
            // 800 requests, a third of which would have been stuck.
            assert!(stuck.len() <= 8, "{}", stuck.len());
        }
    }
    // Nobody was put out for it, and it has its share again.
    assert_eq!(states(&pool), [Healthy; 3]);
    assert!((190..=200).contains(&answered_after), "{answered_after}");
}

#[test]
fn with_too_few_left_it_fails_open_and_with_enough_it_closes() {
    let now = origin();
    for (policy, from) in [(FailOpen::Reject, 1), (FailOpen::AllBackends, 5), (FailOpen::LeastBad, 3)] {
        let pool = pool_of(6);
        let mut changes = pool.watch();
        pool.set_fail_open(policy);
        let backends = pool.backends();
        pool.disable("5");
        for id in ["0", "1"] {
            pool.mark_unhealthy(id);
        }
        assert_eq!(pool.healthy().len(), 3, "3 of 5 is enough: {policy:?}");
        backends[2].eject("badly", now);
        backends[3].eject("badly", now);
        assert_eq!(pool.healthy().len(), from, "{policy:?}");
        assert_eq!(backends[5].health().state(), Disabled);
        pool.mark_healthy("0");
        pool.mark_healthy("1");
        // 3 of 5 is not above 60 %.
        assert_eq!(pool.healthy().len(), if policy == FailOpen::LeastBad { 5 } else { from.max(3) }, "{policy:?}");
        pool.enable("5");
        assert_eq!(pool.healthy().len(), 4, "{policy:?}");
        let mut opened = Vec::new();
        while let Some(Some(change)) = futures_util::FutureExt::now_or_never(changes.next()) {
            if let Change::FailOpen(is_open) = change {
                opened.push(is_open);
            }
        }
        assert_eq!(opened, if policy == FailOpen::Reject { vec![] } else { vec![true, false] }, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_drained_when_its_last_request_has_ended() {
    let pool = pool_of(2);
    let one = pool.get("0").unwrap();
    let lease = Lease::take(Arc::clone(&one), origin());
    let draining = pool.drain("0").unwrap();
    assert_eq!((one.health().state(), one.health().cause()), (Draining, Some("drained by the host")));
    assert_eq!(pool.healthy().len(), 1);
    assert_eq!(draining.in_flight(), 1);
    assert!(tokio::time::timeout(Duration::from_secs(60), draining.done()).await.is_err());
    lease.complete(Outcome::Success, origin());
    draining.done().await;

    let error = pool.drain("1").unwrap_err().to_string();
    assert_eq!(error, "backend 1 is the last one that is well");
    assert_eq!(pool.drain("2").unwrap_err().to_string(), "the pool has no backend 2");
    assert_eq!(pool.healthy().len(), 1);
    pool.drain_anyway("1").unwrap().done().await;
    assert_eq!(pool.healthy().len(), 0);
    assert!(pool.enable("0") && !pool.enable("2") && !pool.disable("2"));
    assert_eq!(pool.healthy().len(), 1);
}

#[test]
fn who_is_slower_than_his_peers_can_explain_is_out_where_that_is_wanted() {
    for wanted in [false, true] {
        let (pool, start) = (pool_of(4), origin());
        if wanted {
            pool.set_ejection(Ejection::default().slower_than(3.0));
        }
        for request in 0..400 {
            let now = start + millis(request * 10);
            for (place, backend) in pool.backends().iter().enumerate() {
                let took = if place == 2 { 50 } else { 8 + (request % 5) };
                Lease::take(Arc::clone(backend), now).complete(Outcome::Success, now + millis(took));
            }
        }
        let expected = if wanted { Ejected } else { Healthy };
        assert_eq!(states(&pool), [Healthy, Healthy, expected, Healthy]);
        if wanted {
            let health = pool.backends()[2].health();
            let cause = health.cause().unwrap();
            assert!(cause.starts_with("answers take 50.0 ms, its peers' "), "{cause}");
        }
    }
}

#[test]
fn a_route_that_fails_everywhere_is_nobodys_fault() {
    let (pool, start) = (pool_of(4), origin());
    // Four of five requests fail, everywhere alike, in rows that would put any backend out.
    for step in 0..500 {
        for backend in pool.backends() {
            let outcome = if step % 10 < 8 { Outcome::BackendFault } else { Outcome::Success };
            answer(&backend, outcome, start + millis(step * 10 + 100));
        }
    }
    // In the first second nobody knew.
    assert!(pool.healthy().len() >= 2);
    let known: Vec<_> = pool.backends().iter().filter_map(|backend| backend.health().since()).collect();
    assert!(known.iter().all(|since| *since - start < Duration::from_secs(1)), "{known:?}");
}

#[test]
fn a_fleet_that_fails_together_stays_however_little_it_has_to_do() {
    for gap in [5, 300, 2_000] {
        let (pool, start) = (pool_of(6), origin());
        for step in 0..240 {
            let backend = &pool.backends()[step as usize % 6];
            answer(backend, Outcome::BackendFault, start + millis(step * gap));
        }
        assert_eq!(states(&pool), [Healthy; 6], "{gap}");
        // One alone goes.
        for step in 240..480 {
            let place = step as usize % 6;
            let outcome = if place == 0 { Outcome::BackendFault } else { Outcome::Success };
            answer(&pool.backends()[place], outcome, start + millis(step * gap));
        }
        assert_eq!(states(&pool)[1..], [Healthy; 5], "{gap}");
        assert_eq!(states(&pool)[0], Ejected, "{gap}");
    }
}

#[test]
fn where_most_of_the_pool_goes_at_once_nobody_is_ejected_for_his_answers() {
    let (pool, start) = (pool_of(5), origin());
    let mut changes = pool.watch();
    for id in ["0", "1", "2"] {
        Lease::take(pool.get(id).unwrap(), start).fail(Outcome::ConnectFault, "Connection refused", start);
    }
    let fail = |now: Instant| {
        (0..20).for_each(|_| answer(&pool.get("4").unwrap(), Outcome::Success, now));
        (0..20).for_each(|_| answer(&pool.get("3").unwrap(), Outcome::BackendFault, now));
    };
    fail(start + millis(9_000));
    assert_eq!(states(&pool)[3], Healthy);
    fail(start + millis(11_000));
    assert_eq!(states(&pool)[3], Ejected);
    let mut told = 0;
    while let Some(Some(change)) = futures_util::FutureExt::now_or_never(changes.next()) {
        told += u32::from(change == Change::Frozen);
    }
    assert!((1..=2).contains(&told), "{told}");
}

proptest! {
    /// Answers of any kind, in any order, at any time: they never take out the last of the pool, nor more than may go; and
    /// in the end, with answers that are good, everyone is back.
    #[test]
    fn answers_never_eject_the_last_and_nobody_is_stuck(
        backends in 1..6_usize,
        events in proptest::collection::vec((0..6_usize, 0..9_usize, 0..3_000_u64), 0..300),
    ) {
        let (pool, mut now) = (pool_of(backends), origin());
        let view = pool.view(RoundRobin::new());
        let most = pool.ejection().most_of(backends);
        for (place, outcome, later) in events {
            now += millis(later);
            view.advance(now);
            let outcome = Outcome::ALL[outcome];
            // What cannot be reached goes at once, and is another matter.
            let outcome = if outcome.is_transport_failure() { Outcome::BackendFault } else { outcome };
            match view.load().lease(&Hint::new(now, later)) {
                Ok((lease, _)) if place < 3 => lease.complete(outcome, now),
                _ => answer(&pool.backends()[place % backends], outcome, now),
            }
            let out = pool.backends().iter().filter(|backend| !backend.is_eligible()).count();
            prop_assert!(out <= most && out < backends, "{out} of {backends}");
        }
        for _ in 0..40 {
            now += Duration::from_secs(20);
            view.advance(now);
            for _ in 0..2 * backends {
                view.load().lease(&Hint::new(now, 0)).unwrap().0.complete(Outcome::Success, now);
            }
        }
        prop_assert_eq!(states(&pool), vec![Healthy; backends]);
    }
}
