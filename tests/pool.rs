//! The pool as its host sees it: membership, identity, changes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tower_balancer::{
    BackendPool,
    backend::{Backend, HealthState, Lease, Outcome, Weight},
    pool::{Change, InvalidMember, Member},
    strategy::{Candidates, Hint, Index, Picker, RoundRobin, Strategy},
};

fn pool(ids: &[&'static str]) -> BackendPool<&'static str> {
    BackendPool::from_members(ids.iter().map(|&id| Member::new(id, id))).unwrap()
}

fn ids(backends: &[Arc<Backend>]) -> Vec<&str> {
    backends.iter().map(|backend| backend.id().as_str()).collect()
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Counts how often it is asked to build.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Strategy for Counting {
    type Picker = RoundRobin;
    fn build(&self, members: &[Arc<Backend>]) -> RoundRobin {
        self.0.fetch_add(1, Ordering::Relaxed);
        RoundRobin::new().build(members)
    }
}

#[test]
#[cfg(feature = "http")]
fn a_bad_url_is_named_and_so_is_a_duplicate_in_whatever_spelling() {
    let error = BackendPool::new(["http://a:1", "a:2"]).unwrap_err().to_string();
    assert_eq!(
        error,
        r#"invalid backend URL "a:2": http:// is missing before it; expected http://host:port or https://host:port"#
    );
    let error = BackendPool::new(["http://a:80", "http://b", "HTTP://A/"]).unwrap_err();
    assert_eq!(error, InvalidMember::Duplicate("http://a".into()));
    assert_eq!(error.to_string(), "duplicate backend http://a: expected each backend once");
}

#[test]
fn an_empty_pool_is_legal() {
    let pool = pool(&[]);
    assert!(pool.backends().is_empty() && pool.healthy().is_empty());
}

#[test]
fn backends_join_and_leave() {
    let pool = pool(&["a"]);
    pool.insert(Member::new("b", "b")).unwrap();
    assert_eq!(pool.insert(Member::new("a", "other")), Err(InvalidMember::Duplicate("a".into())));
    assert_eq!(ids(&pool.backends()), ["a", "b"]);
    assert!(pool.remove("a") && !pool.remove("a"));
    assert_eq!(ids(&pool.backends()), ["b"]);
}

#[test]
fn what_stays_keeps_its_counters_and_its_health_and_takes_the_new_target_and_weight() {
    let pool = pool(&["a", "b", "c"]);
    let b = pool.get("b").unwrap();
    let in_flight = Lease::take(Arc::clone(&b), now());
    Lease::take(Arc::clone(&b), now()).complete(Outcome::BackendFault, now());
    pool.mark_unhealthy("b");

    let weight = Weight::new(2.5).unwrap();
    pool.replace([Member::new("d", "d"), Member::new("b", "elsewhere").weight(weight)]).unwrap();
    assert_eq!((ids(&pool.backends()), ids(&pool.healthy())), (vec!["d", "b"], vec!["d"]));
    let members = pool.members();
    let (stayed, target) = members.find("b").unwrap();
    assert!(Arc::ptr_eq(stayed, &b));
    assert_eq!((*target, stayed.weight(), stayed.load().in_flight()), ("elsewhere", 2.5, 1));
    assert_eq!(stayed.load().count(Outcome::BackendFault), 1);
    in_flight.complete(Outcome::Success, now());
    assert_eq!(stayed.load().in_flight(), 0);
}

#[test]
fn a_list_with_a_duplicate_changes_nothing() {
    let pool = pool(&["a", "b"]);
    let list = ["c", "a", "c"].map(|id| Member::new(id, id).weight(Weight::new(9.0).unwrap()));
    assert_eq!(pool.replace(list), Err(InvalidMember::Duplicate("c".into())));
    assert_eq!(ids(&pool.backends()), ["a", "b"]);
    assert_eq!(pool.get("a").unwrap().weight(), 1.0);
}

#[test]
fn an_update_puts_in_and_takes_out_in_one_step_and_leaves_the_others_alone() {
    let pool = pool(&["a", "b", "c"]);
    let b = pool.get("b").unwrap();
    let strategy = Counting::default();
    let _view = pool.view(strategy.clone());
    let weight = Weight::new(2.0).unwrap();
    // Who is both put in and taken out is put in.
    let removed = ["a", "b", "nobody"].map(Into::into);
    pool.update([Member::new("d", "d"), Member::new("b", "elsewhere").weight(weight)], removed).unwrap();
    assert_eq!(ids(&pool.backends()), ["b", "c", "d"]);
    let members = pool.members();
    let (stayed, target) = members.find("b").unwrap();
    assert!(Arc::ptr_eq(stayed, &b));
    assert_eq!((*target, stayed.weight(), strategy.0.load(Ordering::Relaxed)), ("elsewhere", 2.0, 2));

    // What changes nothing builds nothing.
    pool.update([Member::new("b", "b").weight(weight)], []).unwrap();
    assert_eq!(strategy.0.load(Ordering::Relaxed), 2);
    let twice = [Member::new("e", "e"), Member::new("e", "e")];
    assert_eq!(pool.update(twice, ["b".into()]), Err(InvalidMember::Duplicate("e".into())));
    assert_eq!(ids(&pool.backends()), ["b", "c", "d"]);
}

#[test]
fn a_backend_that_left_cannot_speak_for_one_that_came_under_its_name() {
    let pool = pool(&["a"]);
    let old = pool.get("a").unwrap();
    pool.remove("a");
    pool.insert(Member::new("a", "a")).unwrap();
    let mut watch = tokio_test::task::spawn(pool.watch());
    old.mark_unhealthy("Connection refused", now());
    assert_eq!(ids(&pool.healthy()), ["a"]);
    let change = watch.enter(|_, mut watch| tokio_test::task::spawn(async move { watch.next().await }).poll());
    assert!(change.is_pending(), "it spoke: {change:?}");
}

#[test]
fn a_health_change_publishes_a_new_eligible_list_and_builds_nothing() {
    let pool = pool(&["a", "b", "c"]);
    let strategy = Counting::default();
    let view = pool.view(strategy.clone());
    let built = || strategy.0.load(Ordering::Relaxed);
    assert_eq!(built(), 1);
    pool.mark_unhealthy("b");
    pool.mark_healthy("b");
    pool.mark_unhealthy("a");
    assert_eq!(built(), 1);
    assert_eq!(view.load().candidates().len(), 2);

    pool.insert(Member::new("d", "d")).unwrap();
    assert_eq!(built(), 2);
    assert!(pool.set_weight("d", Weight::new(2.0).unwrap()));
    assert_eq!(built(), 3);
    assert!(!pool.set_weight("e", Weight::ONE));
    assert_eq!((built(), view.load().candidates().len()), (3, 3));

    // The same list once more brings new targets and no new tables; another order or weight does.
    let list = |ids: [&'static str; 4]| {
        ids.map(|id| Member::new(id, "new").weight(Weight::new(if id == "d" { 2.0 } else { 1.0 }).unwrap()))
    };
    pool.replace(list(["a", "b", "c", "d"])).unwrap();
    assert_eq!((built(), view.load().members().iter().all(|(_, target)| *target == "new")), (3, true));
    pool.replace(list(["b", "a", "c", "d"])).unwrap();
    assert_eq!(built(), 4);
    pool.replace(["b", "a", "c", "d"].map(|id| Member::new(id, id))).unwrap();
    assert_eq!(built(), 5);
}

#[test]
fn every_view_sees_every_change_and_one_that_is_dropped_is_forgotten() {
    let pool = pool(&["a", "b"]);
    let dropped = Counting::default();
    let views = [pool.view(RoundRobin::new()), pool.view(RoundRobin::new())];
    drop(pool.view(dropped.clone()));
    pool.mark_unhealthy("a");
    pool.insert(Member::new("c", "c")).unwrap();
    for view in &views {
        assert_eq!(view.load().pick(&Hint::new(now(), 0)).unwrap().0.id(), &"b");
        assert_eq!(view.load().members().backends().len(), 3);
    }
    assert_eq!(dropped.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_view_keeps_its_pool_alive_so_that_marks_still_arrive() {
    let view = pool(&["a"]).view(RoundRobin::new());
    let backend = Arc::clone(&view.load().members().backends()[0]);
    backend.mark_unhealthy("Connection refused", now());
    assert!(view.load().candidates().is_empty());
}

#[test]
fn a_strategy_may_look_at_health_while_it_builds_and_others_mark() {
    /// Builds from what it finds out about health, as one that starts slowly would.
    #[derive(Clone)]
    struct Curious;
    impl Strategy for Curious {
        type Picker = RoundRobin;
        fn build(&self, members: &[Arc<Backend>]) -> RoundRobin {
            for backend in members {
                std::hint::black_box(backend.health().since());
                std::thread::yield_now();
            }
            RoundRobin::new()
        }
    }
    let pool = pool(&["a", "b"]);
    let _view = pool.view(Curious);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..5_000).for_each(|_| assert!(pool.mark_unhealthy("a") && pool.mark_healthy("a"))));
        scope.spawn(|| (0..5_000).for_each(|_| assert!(pool.set_weight("b", Weight::ONE))));
    });
}

#[test]
fn a_strategy_that_panics_while_it_builds_leaves_every_view_at_the_version_before() {
    #[derive(Clone)]
    struct Touchy;
    impl Strategy for Touchy {
        type Picker = RoundRobin;
        fn build(&self, members: &[Arc<Backend>]) -> RoundRobin {
            assert!(members.len() < 3, "three are too many");
            RoundRobin::new()
        }
    }
    let pool = pool(&["a", "b"]);
    let (calm, touchy) = (pool.view(RoundRobin::new()), pool.view(Touchy));
    let insert = std::panic::AssertUnwindSafe(|| pool.insert(Member::new("c", "c")));
    assert!(std::panic::catch_unwind(insert).is_err());
    pool.mark_unhealthy("a");
    for (members, healthy) in [
        (calm.load().members().backends().len(), calm.load().candidates().len()),
        (touchy.load().members().backends().len(), touchy.load().candidates().len()),
        (pool.backends().len(), pool.healthy().len()),
    ] {
        assert_eq!((members, healthy), (2, 1));
    }
}

#[test]
fn a_pick_of_something_else_than_a_candidate_is_no_pick() {
    #[derive(Clone)]
    struct Stubborn;
    impl Strategy for Stubborn {
        type Picker = Self;
        fn build(&self, _: &[Arc<Backend>]) -> Self {
            Self
        }
    }
    impl Picker for Stubborn {
        fn pick(&self, _: &Candidates<'_>, _: &Hint<'_>) -> Option<Index> {
            Some(Index::new(0))
        }
    }
    let pool = pool(&["a", "b"]);
    let view = pool.view(Stubborn);
    assert_eq!(view.load().pick(&Hint::new(now(), 0)).unwrap().0.id(), &"a");
    pool.mark_unhealthy("a");
    assert!(view.load().pick(&Hint::new(now(), 0)).is_err());
}

#[test]
fn a_snapshot_in_the_hand_does_not_change() {
    let pool = pool(&["a", "b"]);
    let view = pool.view(RoundRobin::new());
    let old = view.load().clone();
    pool.replace([Member::new("c", "c")]).unwrap();
    assert_eq!(old.members().backends().len(), 2);
    assert_eq!(old.candidates().len(), 2);
    assert_eq!(view.load().members().backends().len(), 1);
}

#[tokio::test]
async fn every_change_is_told_in_order() {
    let pool = pool(&["a", "b"]);
    let mut watch = pool.watch();
    let health = |state, cause: &str| Change::Health { id: "a".into(), state, cause: cause.into() };
    let a = pool.get("a").unwrap();
    a.mark_healthy("status: 200", now());
    a.mark_healthy("status: 200", now());
    a.mark_unhealthy("Connection refused", now());
    a.mark_unhealthy("still refused", now());
    pool.replace([Member::new("c", "c"), Member::new("a", "a").weight(Weight::new(2.0).unwrap())]).unwrap();
    pool.insert(Member::new("d", "d")).unwrap();
    pool.remove("c");
    pool.set_weight("d", Weight::new(3.0).unwrap());

    for expected in [
        health(HealthState::Healthy, "status: 200"),
        health(HealthState::Unhealthy, "Connection refused"),
        Change::Removed("b".into()),
        Change::Added("c".into()),
        Change::Weight("a".into()),
        Change::Added("d".into()),
        Change::Removed("c".into()),
        Change::Weight("d".into()),
    ] {
        assert_eq!(watch.next().await, Some(expected));
    }
    drop((pool, a));
    assert_eq!(watch.next().await, None, "the pool is gone");
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told_so() {
    let pool = pool(&["a"]);
    let mut watch = pool.watch();
    for _ in 0..300 {
        pool.mark_unhealthy("a");
        pool.mark_healthy("a");
    }
    assert!(matches!(watch.next().await, Some(Change::Missed(missed)) if missed > 0));
    assert!(matches!(watch.next().await, Some(Change::Health { .. })));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn a_pick_is_explained_with_every_member_and_why() {
    use std::time::Instant;
    use tower_balancer::{
        backend::Lease,
        pool::WhyOut,
        strategy::{AnyStrategy, Grouped, Hint, LeastRequest, Tiers},
    };

    let pool = BackendPool::from_members((0..4).map(|n| Member::new(n.to_string(), n))).unwrap();
    pool.mark_unhealthy("3");
    let now = Instant::now();
    let _busy = Lease::take(pool.get("1").unwrap(), now);
    let tried = [pool.get("2").unwrap().id().clone()];

    let strategy = Grouped::new(Tiers, || LeastRequest::new().choices(9));
    let explanation = pool.view(strategy).load().explain(&Hint::new(now, 1).excluding(&tried));
    assert_eq!(explanation.picked.as_ref().unwrap(), &"0");
    assert_eq!(explanation.tied, 1);
    let candidates: Vec<_> = explanation.candidates.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(candidates, ["0", "1"]);
    let busy = explanation.candidates[1].1.as_ref().unwrap();
    assert_eq!(busy.cost, 2.0);
    assert!(busy.parts.contains(&("in flight", 1.0)) && busy.parts.contains(&("the group's share", 1.0)));
    assert_eq!(explanation.out[0], (tried[0].clone(), WhyOut::Tried));
    assert!(matches!(explanation.out[1].1, WhyOut::Out { .. }));
    let told = explanation.to_string();
    assert!(told.starts_with("picked 0 of 2 candidates, 2 out\n  0: cost 1"), "{told}");
    assert!(told.contains("\n  2 is out: tried already"), "{told}");

    // Every strategy can be asked, and one that does not compare says no more than it knows.
    for name in AnyStrategy::NAMES {
        let view = pool.view(name.parse::<AnyStrategy>().unwrap());
        let explanation = view.load().explain(&Hint::new(now, 1).key(7));
        assert_eq!(explanation.candidates.len(), 3, "{name}");
        assert!(explanation.picked.is_some(), "{name}");
    }
    let empty =
        BackendPool::<u8>::from_members([]).unwrap().view(LeastRequest::new()).load().explain(&Hint::new(now, 1));
    assert_eq!(empty.to_string(), "picked none of 0 candidates, 0 out");
}
