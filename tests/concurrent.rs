//! Threads that pick while others mark, insert, remove and replace: nothing is lost, nothing is torn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_balancer::{
    BackendPool, Rng,
    backend::{Backend, Lease, Outcome},
    balance::BalancerLayer,
    feedback::FeedbackLayer,
    pool::{Member, Routed},
    strategy::{AnyStrategy, Candidates, Hint, Index, Picker, RoundRobin, Strategy},
};

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Picks at random, and remembers over which members it was built: a snapshot that mixes versions gives itself away.
#[derive(Clone, Copy)]
struct Witness;

/// The addresses of the backends it was built over: compared, never followed.
struct BuiltOver(Vec<usize>);

impl Strategy for Witness {
    type Picker = BuiltOver;
    fn build(&self, members: &[Arc<Backend>]) -> BuiltOver {
        BuiltOver(members.iter().map(|backend| Arc::as_ptr(backend) as usize).collect())
    }
}

impl Picker for BuiltOver {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let members: Vec<_> = candidates.backends().iter().map(|backend| Arc::as_ptr(backend) as usize).collect();
        assert_eq!(self.0, members, "the picker of one version met the members of another");
        for &index in candidates.eligible() {
            assert!(index.get() < members.len() && candidates.is_eligible(index), "an index of an old version");
        }
        let mut rng = hint.rng();
        candidates.eligible().get(rng.below(candidates.len())).copied()
    }
}

const IDS: u64 = 24;

/// One change of the pool, of whatever kind comes up.
fn change(pool: &BackendPool<u64>, rng: &mut Rng) {
    let number = rng.next_u64() % IDS;
    let id = number.to_string();
    match rng.below(20) {
        0..8 => _ = pool.mark_unhealthy(&id),
        8..16 => _ = pool.mark_healthy(&id),
        16 => _ = pool.insert(Member::new(id, number)),
        17 => _ = pool.remove(&id),
        _ => {
            let some = (0..IDS).filter(|_| rng.below(2) == 0).map(|number| Member::new(number.to_string(), number));
            let list: Vec<_> = some.collect();
            pool.replace(list).unwrap();
        }
    }
}

#[test]
fn a_snapshot_is_never_torn_and_leases_add_up_exactly() {
    let pool = BackendPool::from_members((0..IDS).map(|number| Member::new(number.to_string(), number))).unwrap();
    let view = pool.view(Witness);
    let (stop, picks) = (AtomicBool::new(false), AtomicU64::new(0));
    let ended: [AtomicU64; Outcome::ALL.len()] = Default::default();
    // Every backend that ever served, also those that have left.
    let served = std::sync::Mutex::new(Vec::<Arc<Backend>>::new());

    thread::scope(|scope| {
        let pickers: Vec<_> = (0..3)
            .map(|seed| {
                let (view, served, ended, picks, stop) = (view.clone(), &served, &ended, &picks, &stop);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    let mut held = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let snapshot = view.load();
                        if let Ok((backend, &target)) = snapshot.pick(&Hint::new(now(), rng.next_u64())) {
                            assert_eq!(backend.id().as_str(), target.to_string(), "a backend met another's target");
                            picks.fetch_add(1, Ordering::Relaxed);
                            held.push(Lease::take(Arc::clone(backend), now()));
                        }
                        drop(snapshot);
                        if held.len() > 16 {
                            let lease = held.swap_remove(rng.below(held.len()));
                            served.lock().unwrap().push(Arc::clone(lease.backend()));
                            let outcome = Outcome::ALL[rng.below(Outcome::ALL.len())];
                            ended[outcome as usize].fetch_add(1, Ordering::Relaxed);
                            match outcome {
                                Outcome::Cancelled => drop(lease),
                                Outcome::Reset => lease.fail(outcome, "reset", now()),
                                outcome => lease.complete(outcome, now()),
                            }
                        }
                    }
                    for lease in held {
                        served.lock().unwrap().push(Arc::clone(lease.backend()));
                        ended[Outcome::Cancelled as usize].fetch_add(1, Ordering::Relaxed);
                        drop(lease);
                    }
                })
            })
            .collect();
        let changers: Vec<_> = (100..102)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    for _ in 0..20_000 {
                        change(pool, &mut rng);
                    }
                })
            })
            .collect();
        changers.into_iter().for_each(|changer| changer.join().unwrap());
        // On a busy machine the changers may end before a picker began.
        while picks.load(Ordering::Relaxed) < 1_000 {
            pool.insert(Member::new("0", 0)).ok();
            pool.mark_healthy("0");
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        pickers.into_iter().for_each(|picker| picker.join().unwrap());
    });

    let mut served = served.into_inner().unwrap();
    served.sort_by_key(|backend| Arc::as_ptr(backend) as usize);
    served.dedup_by_key(|backend| Arc::as_ptr(backend) as usize);
    for outcome in Outcome::ALL {
        let counted: u64 = served.iter().map(|backend| backend.load().count(outcome)).sum();
        assert_eq!(counted, ended[outcome as usize].load(Ordering::Relaxed), "{outcome:?}");
    }
    assert!(served.iter().all(|backend| backend.load().in_flight() == 0));
    let completed: u64 = served.iter().map(|backend| backend.load().completed()).sum();
    assert_eq!(completed, picks.load(Ordering::Relaxed));
}

#[test]
fn after_any_storm_of_changes_the_eligible_are_exactly_the_healthy_in_every_view() {
    let pool = BackendPool::from_members((0..IDS).map(|number| Member::new(number.to_string(), number))).unwrap();
    let views = AnyStrategy::NAMES.map(|name| pool.view(name.parse::<AnyStrategy>().unwrap()));
    for round in 0..50 {
        thread::scope(|scope| {
            for seed in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut rng = Rng::new(round * 10 + seed);
                    (0..100).for_each(|_| change(pool, &mut rng));
                });
            }
        });
        let healthy = |backends: &[Arc<Backend>]| -> Vec<_> {
            backends.iter().filter(|backend| backend.is_eligible()).map(|backend| backend.id().clone()).collect()
        };
        let expected = healthy(&pool.backends());
        assert_eq!(pool.healthy().iter().map(|backend| backend.id().clone()).collect::<Vec<_>>(), expected);
        for view in &views {
            let snapshot = view.load();
            let eligible: Vec<_> = snapshot.candidates().iter().map(|(_, backend)| backend.id().clone()).collect();
            assert_eq!(eligible, expected);
        }
    }
}

#[test]
fn round_robin_is_exactly_even_under_many_threads() {
    let pool = BackendPool::from_members((0..5).map(|number| Member::new(number.to_string(), number))).unwrap();
    let view = pool.view("round_robin".parse::<AnyStrategy>().unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let snapshot = view.load();
                    let (backend, _) = snapshot.pick(&Hint::new(now(), 0)).unwrap();
                    Lease::take(Arc::clone(backend), now()).complete(Outcome::Success, now());
                }
            });
        }
    });
    for backend in pool.backends() {
        assert_eq!(backend.load().completed(), 4_000);
    }
}

#[test]
fn nobody_who_waits_for_room_is_refused_or_forgotten() {
    const ROUNDS: u32 = 5_000;
    let pool = BackendPool::from_members(["a", "b"].map(|id| Member::new(id, ()))).unwrap();
    for id in ["a", "b"] {
        pool.set_limit(id, Some(1));
    }
    let service = ServiceBuilder::new()
        .layer(BalancerLayer::new(&pool, RoundRobin::new()).wait(std::time::Duration::from_secs(60), 100))
        .layer(FeedbackLayer::default())
        .service(service_fn(|_: Routed<(), u32>| async {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(())
        }));
    let service = BoxCloneSyncService::new(service);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let service = service.clone();
            runtime.spawn(async move {
                for round in 0..ROUNDS {
                    service.clone().oneshot(round).await.expect("it was promised room");
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for caller in callers {
            caller.await.unwrap();
        }
    });
    assert!(pool.backends().iter().all(|backend| backend.load().in_flight() == 0));
}
