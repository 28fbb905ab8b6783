//! Stages before strategies: tiers, zones, subsets, shuffle sharding, slow start, cost. Each with each strategy.

#![expect(clippy::disallowed_methods, reason = "any instant will do as an origin of virtual time")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tower_balancer::{
    BackendPool, Rng,
    backend::{Backend, Lease, Outcome},
    pool::Member,
    strategy::{
        AnyStrategy, Candidates, Eligible, Grouped, Grouping, Hint, Picker, RoundRobin, ShuffleShard, SlowStart,
        Strategy, Subset, Tiers, Zones, conformance, hash_key,
    },
};

fn named(name: &str) -> AnyStrategy {
    name.parse().unwrap()
}

/// How many of so many picks each backend gets; each request ends at once, and well.
fn shares<T>(pool: &BackendPool<T>, strategy: impl Strategy, picks: u64, start: Instant) -> Vec<f64>
where
    T: Clone + Send + Sync + 'static,
{
    let view = pool.view(strategy);
    let ids: Vec<_> = pool.backends().iter().map(|backend| backend.id().clone()).collect();
    let mut counts = vec![0.0; ids.len()];
    let mut rng = Rng::new(1);
    for pick in 0..picks {
        let now = start + Duration::from_micros(pick * 10);
        let hint = Hint::new(now, rng.next_u64()).key(rng.next_u64());
        let snapshot = view.load();
        let (backend, _) = snapshot.pick(&hint).unwrap();
        Lease::take(Arc::clone(backend), now).complete(Outcome::Success, now + Duration::from_millis(5));
        counts[ids.iter().position(|id| id == backend.id()).unwrap()] += 1.0 / picks as f64;
    }
    counts
}

fn assert_near(shares: &[f64], expected: &[f64], within: f64, what: &str) {
    let near = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < within);
    assert!(near, "{what}: {shares:.3?}, expected {expected:.3?}");
}

#[test]
fn every_stage_conforms_around_every_strategy() {
    let start = Instant::now();
    for name in AnyStrategy::NAMES {
        let strategy = move || named(name);
        type Check = Box<dyn Fn()>;
        let checks: [(&str, Check); 5] = [
            ("tiers", Box::new(move || conformance::check(|| Grouped::new(Tiers, strategy), start))),
            ("zones", Box::new(move || conformance::check(|| Grouped::new(Zones::new("a"), strategy), start))),
            // Not less than the ten that have to get something: then the larger pools have a second group.
            ("subset", Box::new(move || conformance::check(|| Grouped::new(Subset::new("me", 10), strategy), start))),
            ("shuffle shard", Box::new(move || conformance::check(|| ShuffleShard::new(3, strategy()), start))),
            ("slow start", Box::new(move || conformance::check(|| SlowStart::new(strategy()), start))),
        ];
        for (stage, check) in checks {
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
            assert!(checked.is_ok(), "{name} in {stage} does not conform");
        }
    }
}

/// Ten in the first tier, ten in the second.
fn tiered() -> BackendPool<()> {
    let member = |n: u32| Member::new(n.to_string(), ()).priority(n / 10);
    BackendPool::from_members((0..20).map(member)).unwrap()
}

#[test]
fn a_tier_takes_everything_until_too_much_of_it_is_out_and_then_spills_over() {
    for name in AnyStrategy::NAMES {
        let pool = tiered();
        let first_tier = |pool: &BackendPool<()>| -> f64 {
            let strategy = Grouped::new(Tiers, move || named(name));
            shares(pool, strategy, 4_000, Instant::now())[..10].iter().sum()
        };
        assert_eq!((first_tier(&pool) * 4_000.0).round(), 4_000.0, "{name}");
        (0..5).for_each(|n: u32| assert!(pool.mark_unhealthy(&n.to_string())));
        // Half of it, times 1.4.
        assert_near(&[first_tier(&pool)], &[0.7], 0.03, name);
        (5..10).for_each(|n: u32| assert!(pool.mark_unhealthy(&n.to_string())));
        assert_eq!(first_tier(&pool), 0.0, "{name}");
    }
}

#[test]
fn turns_within_a_group_are_exact_and_survive_a_rebuild() {
    let pool = tiered();
    let view = pool.view(Grouped::new(Tiers, RoundRobin::new));
    let next = |seed| view.load().pick(&Hint::new(Instant::now(), seed)).unwrap().0.id().to_string();
    let before: Vec<String> = (0..5).map(next).collect();
    pool.insert(Member::new("20", ()).priority(1)).unwrap();
    let after: Vec<String> = (5..10).map(next).collect();
    assert_eq!(before, ["0", "1", "2", "3", "4"]);
    assert_eq!(after, ["5", "6", "7", "8", "9"]);
}

#[test]
fn a_backend_that_changes_its_tier_keeps_its_state_and_moves() {
    let pool = tiered();
    pool.mark_unhealthy("3");
    let view = pool.view(Grouped::new(Tiers, RoundRobin::new));
    let list = (0..20_u32).map(|n| Member::new(n.to_string(), ()).priority(1 - n / 10));
    pool.replace(list).unwrap();
    assert!(!pool.get("3").unwrap().is_eligible());
    let picked = view.load().pick(&Hint::new(Instant::now(), 1)).unwrap().0.id().to_string();
    assert_eq!(picked, "10");
}

#[test]
fn requests_stay_in_their_zone_as_far_as_it_has_the_backends() {
    for name in AnyStrategy::NAMES {
        let zone = |n: u32| Member::new(n.to_string(), ()).zone(if n < 2 { "a" } else { "b" });
        let pool = BackendPool::from_members((0..8).map(zone)).unwrap();
        let strategy = Grouped::new(Zones::new("a"), move || named(name));
        let shares = shares(&pool, strategy, 6_000, Instant::now());
        // A quarter of the backends for half of the traffic.
        assert_near(&[shares[..2].iter().sum()], &[0.5], 0.03, name);
    }
}

#[test]
fn a_subset_that_is_out_falls_back_on_the_others() {
    let pool = tiered();
    let strategy = || Grouped::new(Subset::new("me", 3), RoundRobin::new);
    let used = |pool: &BackendPool<()>| -> Vec<usize> {
        let shares = shares(pool, strategy(), 400, Instant::now());
        (0..20).filter(|&place| shares[place] > 0.0).collect()
    };
    let subset = used(&pool);
    assert_eq!(subset.len(), 3);
    for place in &subset {
        pool.mark_unhealthy(&place.to_string());
    }
    assert_eq!(used(&pool).len(), 17);
}

#[test]
fn every_strategy_falls_back_on_the_rest_only_while_all_of_the_subset_are_out() {
    const MEMBERS: usize = 40;
    let rule = Subset::new("me", 5);
    for name in AnyStrategy::NAMES {
        let pool = BackendPool::from_members((0..MEMBERS).map(|n| Member::new(n.to_string(), ()))).unwrap();
        let groups = rule.groups(&pool.backends());
        let of = |group| (0..MEMBERS).filter(|&place| groups[place] == group).collect::<Vec<_>>();
        let (subset, rest) = (of(0), of(1));
        assert_eq!((subset.len(), rest.len()), (5, 35));
        let used = || -> Vec<usize> {
            let shares = shares(&pool, Grouped::new(rule, move || named(name)), 2_000, Instant::now());
            (0..MEMBERS).filter(|&place| shares[place] > 0.0).collect()
        };
        assert_eq!(used(), subset, "{name}, all in");
        // One after the other, to the last.
        for out in 0..5 {
            assert!(pool.mark_unhealthy(&subset[out].to_string()));
            let left = if out == 4 { &rest[..] } else { &subset[out + 1..] };
            assert_eq!(used(), left, "{name}, {} out", out + 1);
        }
        assert!(pool.mark_healthy(&subset[2].to_string()));
        assert_eq!(used(), [subset[2]], "{name}, one is back");
    }
}

#[test]
fn a_tenant_stays_on_his_own_few_and_tenants_differ() {
    let backends: Vec<_> = (0..20).map(|n| Arc::new(Backend::new(n.to_string()))).collect();
    let all = Eligible::new([true; 20]);
    let picker = ShuffleShard::new(3, RoundRobin::new()).build(&backends);
    let hand = |tenant: &str, eligible: &Eligible| {
        let hint = |seed| Hint::new(Instant::now(), seed).key(hash_key(tenant));
        let candidates = Candidates::new(&backends, eligible);
        let mut hand: Vec<_> = (0..60).map(|seed| picker.pick(&candidates, &hint(seed)).unwrap()).collect();
        hand.sort_unstable();
        hand.dedup();
        hand
    };
    let hands: Vec<_> = ["blue", "green", "red", "white"].iter().map(|tenant| hand(tenant, &all)).collect();
    assert!(hands.iter().all(|hand| hand.len() == 3), "{hands:?}");
    assert!(hands.windows(2).all(|pair| pair[0] != pair[1]), "{hands:?}");
    // One of the hand is out: the others stay. All are: anyone will do.
    let without_one = all.with(hands[0][0], false);
    assert_eq!(hand("blue", &without_one), hands[0][1..]);
    let without_all = hands[0].iter().fold(all.clone(), |eligible, &index| eligible.with(index, false));
    assert!(hand("blue", &without_all).len() > 3);
}

#[test]
fn one_that_is_new_in_rotation_gets_little_at_first() {
    for name in AnyStrategy::NAMES {
        let pool = BackendPool::from_members((0..4).map(|n| Member::new(n.to_string(), ()))).unwrap();
        let strategy = SlowStart::new(named(name)).window(Duration::from_secs(100));
        let view = pool.view(strategy);
        let start = Instant::now();
        // Everybody has been warm for long, but number 3.
        for backend in &pool.backends()[..3] {
            Lease::take(Arc::clone(backend), start).complete(Outcome::Success, start + Duration::from_millis(5));
        }
        let now = start + Duration::from_secs(200);
        let cold = |from: Instant| {
            let mut rng = Rng::new(1);
            let mut open = std::collections::VecDeque::new();
            let mut got = 0.0;
            for pick in 0..2_000 {
                let now = from + Duration::from_millis(pick);
                let hint = Hint::new(now, rng.next_u64()).key(rng.next_u64());
                let backend = Arc::clone(view.load().pick(&hint).unwrap().0);
                got += f64::from(u8::from(*backend.id() == "3"));
                open.push_back(Lease::take(backend, now));
                if open.len() > 16 {
                    let lease: Lease = open.pop_front().unwrap();
                    lease.complete(Outcome::Success, now);
                }
            }
            got / 2_000.0
        };
        let (at_first, warm) = (cold(now), cold(now + Duration::from_secs(150)));
        assert!(at_first < 0.15, "{name} gives it {at_first} at first");
        assert!(warm > 0.19, "{name} gives it {warm} when it is warm");
    }
}

#[test]
fn one_that_is_new_gets_something_however_little_there_is_to_do() {
    let start = Instant::now();
    let slow = |name| SlowStart::new(named(name)).window(Duration::from_secs(60));
    for (name, evidence) in AnyStrategy::NAMES.into_iter().flat_map(|name| [(name, 0), (name, 50)]) {
        let backends: Vec<_> = (0..4).map(|n| Arc::new(Backend::new(n.to_string()))).collect();
        let all = Eligible::new([true; 4]);
        let serve = |backend: &Arc<Backend>, now| {
            Lease::take(Arc::clone(backend), now).complete(Outcome::Success, now + Duration::from_millis(10));
        };
        // All but the last are warm, by time and by evidence.
        for number in 0..50 {
            backends[..3].iter().for_each(|backend| serve(backend, start + Duration::from_millis(number)));
        }
        let picker = slow(name).evidence(evidence).build(&backends);
        // One at a time, 20 a second.
        let mut rng = Rng::new(1);
        let mut got = |from: u64, to: u64| {
            let picks = (from..to).filter(|request| {
                let now = start + Duration::from_millis(100_000 + request * 50);
                let hint = Hint::new(now, rng.next_u64()).key(rng.next_u64());
                let picked = picker.pick(&Candidates::new(&backends, &all), &hint).unwrap();
                serve(&backends[picked.get()], now);
                picked.get() == 3
            });
            picks.count() as f64 / (to - from) as f64
        };
        let (at_first, warm) = (got(0, 400), (got(400, 6_000), got(6_000, 8_000)).1);
        assert!((0.001..0.2).contains(&at_first), "{name}, {evidence}: {at_first} at first");
        assert!(warm > 0.19, "{name}, {evidence}: {warm} when it is warm");
    }
}

#[test]
fn where_all_are_new_nobody_gets_little() {
    let start = Instant::now();
    for (name, n) in
        ["ring", "maglev", "rendezvous", "memento", "round_robin"].into_iter().flat_map(|it| [(it, 10), (it, 100)])
    {
        let backends: Vec<_> = (0..n).map(|n| Arc::new(Backend::new(n.to_string()))).collect();
        let all = Eligible::new((0..n).map(|_| true));
        let (plain, slow) = (named(name).build(&backends), SlowStart::new(named(name)).build(&backends));
        let mut rng = Rng::new(1);
        let mut same = |seconds| {
            let candidates = Candidates::new(&backends, &all);
            (0..200).for_each(|_| {
                let hint = Hint::new(start + Duration::from_secs(seconds), rng.next_u64()).key(rng.next_u64());
                assert_eq!(plain.pick(&candidates, &hint), slow.pick(&candidates, &hint), "{name} after {seconds} s");
            });
        };
        same(0);
        backends.iter().for_each(|backend| drop(Lease::take(Arc::clone(backend), start)));
        [0, 1, 10, 30, 61].into_iter().for_each(same);
    }
}

#[test]
fn half_a_share_beside_a_whole_one_is_a_third_of_both() {
    let start = Instant::now();
    let backends: Vec<_> = (0..2).map(|n| Arc::new(Backend::new(n.to_string()))).collect();
    let (all, new) = (Eligible::new([true; 2]), start + Duration::from_secs(100));
    backends.iter().zip([start, new]).for_each(|(backend, since)| drop(Lease::take(Arc::clone(backend), since)));
    for name in ["random", "round_robin", "weighted_round_robin"] {
        let picker = SlowStart::new(named(name)).build(&backends);
        let mut rng = Rng::new(1);
        let picks = (0..40_000).filter(|_| {
            let hint = Hint::new(new + Duration::from_secs(30), rng.next_u64());
            picker.pick(&Candidates::new(&backends, &all), &hint).unwrap().get() == 1
        });
        assert_near(&[picks.count() as f64 / 40_000.0], &[1.0 / 3.0], 0.01, name);
    }
}

#[test]
fn evidence_warms_a_backend_and_slow_answers_are_none() {
    let pool = BackendPool::from_members((0..4).map(|n| Member::new(n.to_string(), ()))).unwrap();
    let view = pool.view(SlowStart::new(RoundRobin::new()).evidence(50));
    let start = Instant::now();
    let share_of_1 = |takes: Duration| {
        let mut rng = Rng::new(2);
        let mut got = 0;
        for pick in 0..2_000 {
            let now = start + Duration::from_millis(pick);
            let backend = Arc::clone(view.load().pick(&Hint::new(now, rng.next_u64())).unwrap().0);
            let is_1 = *backend.id() == "1";
            got += u32::from(is_1);
            let took = if is_1 { takes } else { Duration::from_millis(5) };
            Lease::take(backend, now).complete(Outcome::Success, now + took);
        }
        f64::from(got) / 2_000.0
    };
    // All begin; the one that is slow stays where it began.
    let slow = share_of_1(Duration::from_millis(50));
    assert!(slow < 0.1, "{slow}");
    // Its mean comes down first, and then its answers count.
    (0..3).for_each(|_| _ = share_of_1(Duration::from_millis(5)));
    let fast = share_of_1(Duration::from_millis(5));
    assert!(fast > 0.2, "{fast}");
}

#[test]
fn a_request_that_costs_more_counts_for_more() {
    for name in ["least_request", "peak_ewma", "least_latency", "ring", "maglev", "rendezvous", "memento"] {
        let pool = BackendPool::from_members((0..3).map(|n| Member::new(n.to_string(), ()))).unwrap();
        let view = pool.view(named(name));
        let start = Instant::now();
        let pick = |cost: f64, seed: u64| {
            let now = start + Duration::from_millis(seed);
            let hint = Hint::new(now, seed).key(hash_key(seed.to_string())).cost(cost);
            let backend = Arc::clone(view.load().pick(&hint).unwrap().0);
            Lease::costing(backend, hint.work(), now)
        };
        // Everybody is known, and as fast as the others.
        for backend in pool.backends() {
            Lease::take(backend, start).complete(Outcome::Success, start + Duration::from_millis(10));
        }
        let large = pick(20.0, 0);
        let small: Vec<_> = (1..=10).map(|seed| pick(1.0, seed)).collect();
        let beside = small.iter().filter(|lease| lease.backend().id() == large.backend().id()).count();
        assert!(beside <= 1, "{name} sent {beside} of 10 to where the large one is");
        assert_eq!(large.backend().load().work(), 20.0 + beside as f64);
        drop(large);
        drop(small);
        assert!(pool.backends().iter().all(|backend| backend.load().work() == 0.0));
    }
}

#[test]
fn a_cost_that_is_no_number_counts_as_one() {
    for (cost, work) in [(f64::NAN, 1.0), (-1.0, 1.0), (f64::INFINITY, 1e6), (0.0, 0.0), (2.5, 2.5)] {
        assert_eq!(Hint::new(Instant::now(), 0).cost(cost).work(), work, "{cost}");
    }
}

#[test]
fn a_hundred_thousand_backends_are_picked_from() {
    let start = Instant::now();
    let backends: Vec<_> = (0..100_000).map(|n| Arc::new(Backend::new(n.to_string()))).collect();
    // All but a few are out, at the far end.
    let eligible = Eligible::new((0..100_000).map(|n| n >= 99_990));
    for name in AnyStrategy::NAMES {
        let picker = named(name).build(&backends);
        let candidates = Candidates::new(&backends, &eligible);
        for seed in 0..3 {
            let picked = picker.pick(&candidates, &Hint::new(start, seed).key(seed)).unwrap();
            assert!(picked.get() >= 99_990, "{name}");
        }
    }
}
