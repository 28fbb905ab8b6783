//! Limits that find themselves: the future that moves them, in virtual time.

use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tower_balancer::{
    BackendPool,
    backend::{Lease, Outcome},
    limit::AdaptiveLimits,
    pool::Member,
    strategy::{Hint, LeastRequest},
};

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[tokio::test(start_paused = true)]
async fn each_backend_gets_the_limit_that_it_can_bear_and_the_weight_where_that_is_wanted() {
    // One works on sixteen at once, the other on four; whoever has more takes longer for each.
    let pool = BackendPool::from_members([Member::new("strong", 16), Member::new("weak", 4)]).unwrap();
    let limits = tokio::spawn(AdaptiveLimits::new(&pool).between(2, 200).initial(10).weigh().run());
    let view = pool.view(LeastRequest::new());
    // A hundred callers, each with the next request as soon as the last one is answered or refused.
    let callers: Vec<_> = (0..100)
        .map(|caller: u64| {
            let view = view.clone();
            tokio::spawn(async move {
                for request in 0..3_000 {
                    let leased =
                        view.load().lease(&Hint::new(now(), caller * 3_000 + request)).map(|(lease, &n)| (lease, n));
                    let Ok((lease, workers)) = leased else {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    };
                    let in_flight = lease.backend().load().in_flight();
                    let work = 10.0 * (f64::from(in_flight) / f64::from(workers)).max(1.0);
                    tokio::time::sleep(Duration::from_secs_f64(work / 1_000.0)).await;
                    lease.complete(Outcome::Success, now());
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let limit = |id: &str| pool.get(id).unwrap().limit().unwrap();
    let (strong, weak) = (limit("strong"), limit("weak"));
    assert!((16..=60).contains(&strong) && (4..=20).contains(&weak), "{strong} {weak}");
    let weight = |id: &str| pool.get(id).unwrap().weight();
    // To a tenth: weights are not moved for less.
    assert!((weight("strong") / f64::from(strong) - 1.0).abs() <= 0.1, "{}", weight("strong"));
    assert!((weight("weak") / f64::from(weak) - 1.0).abs() <= 0.1, "{}", weight("weak"));

    // Stopped, it leaves them where they are.
    limits.abort();
    callers.into_iter().for_each(|caller| caller.abort());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((limit("strong"), limit("weak")), (strong, weak));
}

#[tokio::test(start_paused = true)]
async fn one_that_joins_weighs_what_it_may_and_bounds_hold_from_the_first() {
    let pool = BackendPool::from_members([Member::new("old", 1)]).unwrap();
    let _limits = tokio::spawn(AdaptiveLimits::new(&pool).between(4, 10).initial(20).weigh().run());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    pool.insert(Member::new("new", 1)).unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for backend in pool.backends() {
        assert_eq!((backend.limit(), backend.weight()), (Some(10), 10.0), "{}", backend.id());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_near_his_limit_keeps_it_and_who_joins_gets_one() {
    let pool = BackendPool::from_members([Member::new("idle", 1)]).unwrap();
    let _limits = tokio::spawn(AdaptiveLimits::new(&pool).initial(10).run());
    for _ in 0..50 {
        let lease = Lease::take(Arc::clone(&pool.backends()[0]), now());
        tokio::time::sleep(Duration::from_millis(100)).await;
        lease.complete(Outcome::Success, now());
    }
    assert_eq!(pool.backends()[0].limit(), Some(10));
    pool.insert(Member::new("late", 1)).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(pool.get("late").unwrap().limit(), Some(10));
}

#[tokio::test(start_paused = true)]
async fn one_that_was_away_for_a_moment_begins_anew() {
    let pool = BackendPool::from_members([Member::new("a", ()), Member::new("b", ())]).unwrap();
    let _limits = tokio::spawn(AdaptiveLimits::new(&pool).initial(10).run());
    tokio::time::sleep(Duration::from_millis(50)).await;
    pool.get("a").unwrap().set_limit(Some(7));
    assert!(pool.remove("a"));
    pool.insert(Member::new("a", ())).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(pool.get("a").unwrap().limit(), Some(10));
}
