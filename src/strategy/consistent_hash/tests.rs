//! What every layout does, and what each does beyond.

use super::*;
use crate::{
    backend::{Lease, Outcome, Weight},
    rng::Rng,
    strategy::{Eligible, Strategy, conformance},
};
use proptest::prelude::*;
use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn now() -> Instant {
    Instant::now()
}

fn members<S: Into<String>>(ids: impl IntoIterator<Item = S>) -> Vec<Arc<Backend>> {
    ids.into_iter().map(|id| Arc::new(Backend::new(id.into()))).collect()
}

fn numbered(n: usize) -> Vec<Arc<Backend>> {
    members((0..n).map(|n| n.to_string()))
}

fn weighted(weights: &[f64]) -> Vec<Arc<Backend>> {
    let backends = numbered(weights.len());
    backends.iter().zip(weights).for_each(|(backend, &weight)| backend.set_weight(Weight::new(weight).unwrap()));
    backends
}

fn owner(table: &impl Table, key: u64) -> usize {
    table.first(key, |_| true).unwrap().get()
}

/// The share of the keys that each backend owns.
fn shares(table: &impl Table, backends: usize, keys: u64) -> Vec<f64> {
    let mut shares = vec![0.0; backends];
    (0..keys).for_each(|key| shares[owner(table, mix(key, 7))] += 1.0 / keys as f64);
    shares
}

/// Of all keys, the shares that moved when the backend at `left` did leave: its own, and others.
fn moved(hashing: &impl Hashing, n: usize, left: usize, keys: u64) -> (f64, f64) {
    let before = numbered(n);
    let after: Vec<_> =
        before.iter().enumerate().filter(|(place, _)| *place != left).map(|(_, it)| it.clone()).collect();
    let (old, new) = (hashing.table(&before), hashing.table(&after));
    let (mut own, mut others) = (0, 0);
    for key in (0..keys).map(|key| mix(key, 7)) {
        let (was, is) = (owner(&old, key), owner(&new, key));
        match was == left {
            true => own += 1,
            false => others += u64::from(before[was].id() != after[is].id()),
        }
    }
    (own as f64 / keys as f64, others as f64 / keys as f64)
}

#[test]
fn every_layout_conforms() {
    conformance::check(|| ConsistentHash::new(Maglev::new()), now());
    conformance::check(|| ConsistentHash::new(Ring::new()), now());
    conformance::check(|| ConsistentHash::new(Ring::ketama()), now());
    conformance::check(|| ConsistentHash::new(Rendezvous), now());
    conformance::check(|| ConsistentHash::new(Memento::new()), now());
    conformance::check(|| ConsistentHash::new(Maglev::new()).bounded(1.25), now());
    conformance::check(|| ConsistentHash::new(Ring::new()).bounded(1.0), now());
    conformance::check(|| ConsistentHash::new(Rendezvous).bounded(f64::NAN), now());
}

#[test]
fn a_backend_that_leaves_moves_its_own_keys_only() {
    for (own, others) in [
        moved(&Ring::new(), 100, 17, 20_000),
        moved(&Rendezvous, 100, 17, 20_000),
        moved(&Memento::new(), 100, 17, 20_000),
        moved(&Memento::new(), 1_000, 999, 20_000),
        moved(&Rendezvous, 1_000, 500, 5_000),
    ] {
        assert_eq!(others, 0.0);
        assert!(own > 0.0);
    }
}

#[test]
fn maglev_moves_few_of_the_others() {
    let left = [3, 250, 500, 777];
    let others = left.map(|left| moved(&Maglev::new(), 1_000, left, 50_000).1).iter().sum::<f64>() / 4.0;
    assert!(others < 0.0042, "{others}");
    // A list that grows past a size of the table moves all keys; between, few; with a size of its own, few anywhere.
    assert!(moved(&Maglev::new(), 100, 50, 50_000).1 < 0.02);
    assert!(moved(&Maglev::new(), 164, 50, 50_000).1 > 0.9);
    for members in [164, 328] {
        assert!(moved(&Maglev::with_slots(131_101), members, 50, 50_000).1 < 0.02, "{members}");
    }
}

#[test]
fn shares_are_even() {
    let backends = numbered(20);
    for (shares, within) in [
        (shares(&Maglev::new().table(&backends), 20, 200_000), 0.04),
        (shares(&Rendezvous.table(&backends), 20, 200_000), 0.04),
        (shares(&Memento::new().table(&backends), 20, 200_000), 0.04),
        (shares(&Ring::new().table(&backends), 20, 200_000), 0.25),
    ] {
        assert!(shares.iter().all(|share| (share * 20.0 - 1.0).abs() < within), "{shares:?}");
    }
}

#[test]
fn shares_follow_the_weights() {
    let backends = weighted(&[1.0, 2.0, 3.0, 0.0, 4.0]);
    for (shares, within) in [
        (shares(&Maglev::new().table(&backends), 5, 200_000), 0.04),
        (shares(&Rendezvous.table(&backends), 5, 200_000), 0.04),
        (shares(&Ring::with_points(1_000).table(&backends), 5, 200_000), 0.1),
    ] {
        assert_eq!(shares[3], 0.0);
        for (share, expected) in shares.iter().zip([0.1, 0.2, 0.3, 0.0, 0.4]) {
            assert!((share - expected).abs() <= within * expected, "{shares:?}");
        }
    }
}

#[test]
fn a_weight_that_grows_takes_keys_and_moves_none_between_others() {
    let owners = |weight| {
        let backends = weighted(&[1.0, 1.0, weight, 1.0]);
        (0..20_000).map(|key| owner(&Rendezvous.table(&backends), mix(key, 7))).collect::<Vec<_>>()
    };
    let (before, after) = (owners(1.5), owners(2.5));
    assert!(before.iter().zip(&after).all(|(was, is)| was == is || *is == 2));
}

#[test]
fn the_ring_of_memcached_is_ketama() {
    // libketama's own example list, laid out by a second implementation in Python.
    let servers = [600.0, 300.0, 200.0, 350.0, 1_000.0, 800.0, 950.0, 100.0];
    let backends = members((1..=8).map(|n| format!("10.0.1.{n}:11211")));
    backends.iter().zip(servers).for_each(|(backend, memory)| backend.set_weight(Weight::new(memory).unwrap()));
    let table = Ring::ketama().table(&backends);
    assert_eq!(Ring::ketama_key("foo") >> 32, 3_675_831_724);
    let keys = ["a", "b", "user-1", "user-2", "user-3", "foo", "bar", "12345"];
    let owners = keys.map(|key| owner(&table, Ring::ketama_key(key)) + 1);
    assert_eq!(owners, [8, 6, 5, 5, 2, 7, 6, 5]);
}

#[test]
fn the_order_of_the_members_does_not_matter() {
    let (forth, mut back) = (numbered(50), numbered(50));
    back.reverse();
    fn same(
        hashing: impl Fn() -> Box<dyn Fn(&[Arc<Backend>], u64) -> usize>,
        forth: &[Arc<Backend>],
        back: &[Arc<Backend>],
    ) {
        for key in (0..200).map(|key| mix(key, 7)) {
            assert_eq!(hashing()(forth, key), 49 - hashing()(back, key));
        }
    }
    same(|| Box::new(|members, key| owner(&Rendezvous.table(members), key)), &forth, &back);
    same(|| Box::new(|members, key| owner(&Ring::new().table(members), key)), &forth, &back);
    same(|| Box::new(|members, key| owner(&Memento::new().table(members), key)), &forth, &back);
}

proptest! {
    /// Whoever comes and goes: a key moves only from a backend that left, or to one that came.
    #[test]
    fn no_change_moves_a_key_that_it_need_not(changes in proptest::collection::vec(0..40_usize, 1..30)) {
        let memento = Memento::new();
        let all = numbered(40);
        let mut present: Vec<bool> = (0..40).map(|n| n % 2 == 0).collect();
        let list = |present: &[bool]| -> Vec<_> {
            all.iter().zip(present).filter(|(_, there)| **there).map(|(it, _)| it.clone()).collect()
        };
        let mut before = list(&present);
        let mut table = memento.table(&before);
        for change in changes {
            present[change] = !present[change];
            let after = list(&present);
            let next = memento.table(&after);
            for key in (0..100).map(|key| mix(key, 7)) {
                let name = |table: &MementoTable, list: &[Arc<Backend>]| {
                    table.first(key, |_| true).map(|index| list[index.get()].id().clone())
                };
                let (was, is) = (name(&table, &before), name(&next, &after));
                let changed = Some(all[change].id().clone());
                let end = if present[change] { &is } else { &was };
                prop_assert!(was == is || *end == changed);
            }
            (before, table) = (after, next);
        }
    }

    /// Whoever is out: the keys of those who are in stay.
    #[test]
    fn what_is_out_moves_its_own_keys_only(out in proptest::collection::vec(any::<bool>(), 30)) {
        fn check(hashing: impl Hashing, out: &[bool]) {
            let backends = numbered(out.len());
            let picker = ConsistentHash::new(hashing).build(&backends);
            let (all, some) = (Eligible::new(out.iter().map(|_| true)), Eligible::new(out.iter().map(|out| !out)));
            for key in (0..50).map(|key| mix(key, 7)) {
                let hint = Hint::new(now(), 0).key(key);
                let was = picker.pick(&Candidates::new(&backends, &all), &hint).unwrap();
                let is = picker.pick(&Candidates::new(&backends, &some), &hint);
                assert!(out[was.get()] || is == Some(was));
            }
        }
        check(Maglev::new(), &out);
        check(Ring::new(), &out);
        check(Rendezvous, &out);
        check(Memento::new(), &out);
    }
}

fn shuffled(mut list: Vec<Arc<Backend>>, rng: &mut Rng) -> Vec<Arc<Backend>> {
    (1..list.len()).for_each(|last| list.swap(last, rng.below(last + 1)));
    list
}

/// Some of `all`, by lot, in an order by lot.
fn some(all: &[Arc<Backend>], rng: &mut Rng) -> Vec<Arc<Backend>> {
    let share = rng.below(101);
    let some = all.iter().filter(|_| rng.below(100) < share).cloned().collect();
    shuffled(some, rng)
}

#[test]
fn however_many_come_and_go_at_once_a_key_leaves_one_that_stays_only_for_one_that_came() {
    fn check(name: &str, hashing: &impl Hashing) {
        let (all, mut rng) = (numbered(30), Rng::new(1));
        let mut before = all.clone();
        let mut table = hashing.table(&before);
        for change in 0..60 {
            let after = some(&all, &mut rng);
            let next = hashing.table(&after);
            let is_in = |list: &[Arc<Backend>], id: &_| list.iter().any(|it| it.id() == id);
            for key in (0..200).map(|key| mix(key, change)) {
                let of = |table: &_, list: &[Arc<Backend>]| {
                    Table::first(table, key, |_| true).map(|index| list[index.get()].id().clone())
                };
                let (was, is) = (of(&table, &before), of(&next, &after));
                assert_eq!(is.is_none(), after.is_empty());
                let (Some(was), Some(is)) = (was, is) else { continue };
                let may_move = !is_in(&after, &was) || !is_in(&before, &is);
                assert!(was == is || may_move, "{name}, change {change}: a key went from {was} to {is}");
            }
            (before, table) = (after, next);
        }
    }
    check("memento", &Memento::new());
    check("ring", &Ring::new());
    check("rendezvous", &Rendezvous);
}

#[test]
fn those_that_leave_memento_together_and_come_back_together_find_their_keys() {
    let (memento, all, mut rng) = (Memento::new(), numbered(30), Rng::new(2));
    let owners = |list: &[Arc<Backend>]| -> Vec<_> {
        let table = memento.table(list);
        (0..500).map(|key| list[owner(&table, mix(key, 7))].id().clone()).collect()
    };
    let before = owners(&all);
    for round in 0..30 {
        let rest = some(&all, &mut rng);
        memento.table(&rest);
        assert!(owners(&shuffled(all.clone(), &mut rng)) == before, "round {round}: {} had stayed", rest.len());
    }
}

#[test]
fn the_bound_is_never_exceeded_and_a_hot_key_spreads() {
    for factor in [1.0, 1.25, 2.0] {
        let backends = weighted(&[1.0, 1.0, 2.0, 4.0]);
        let all = Eligible::new([true; 4]);
        let picker = ConsistentHash::new(Ring::new()).bounded(factor).build(&backends);
        let mut rng = Rng::new(1);
        let mut open: Vec<Lease> = Vec::new();
        for round in 0..2_000 {
            if open.len() > 40 && rng.below(2) == 0 {
                let _ended = open.swap_remove(rng.below(open.len()));
            }
            // Half of all requests are for one key.
            let key = if round % 2 == 0 { 42 } else { rng.next_u64() };
            let hint = Hint::new(now(), rng.next_u64()).key(key);
            let index = picker.pick(&Candidates::new(&backends, &all), &hint).unwrap();
            let backend = &backends[index.get()];
            let bound = factor * (open.len() + 1) as f64 * backend.weight() / 8.0;
            assert!(f64::from(backend.load().in_flight()) + 1.0 <= bound.ceil(), "{factor}");
            open.push(Lease::take(Arc::clone(backend), now()));
        }
    }
}

/// 400 in flight on 20 backends, keys of a Zipf law over 100 000. What share of the requests is at home, and the most that one
/// backend had in flight, over the mean. `each` says after each pick how many are in flight, and on how many of them.
fn zipf<H: Hashing>(
    hashing: H,
    factor: f64,
    backends: &[Arc<Backend>],
    mut each: impl FnMut(usize, u32),
) -> (f64, f64) {
    const IN_FLIGHT: usize = 400;
    let all = Eligible::new(backends.iter().map(|_| true));
    let candidates = Candidates::new(backends, &all);
    let picker = ConsistentHash::new(hashing).bounded(factor).build(backends);
    let mut sum = 0.0;
    let up_to: Vec<f64> = (1..=100_000).map(|rank| (sum += 1.0 / f64::from(rank), sum).1).collect();
    let (mut rng, now) = (Rng::new(1), now());
    let (mut open, mut at_home, mut worst) = (Vec::new(), 0_u32, 0);
    for _ in 0..10_000 {
        if open.len() == IN_FLIGHT {
            let _ended: Lease = open.swap_remove(rng.below(IN_FLIGHT));
        }
        let drawn = rng.unit() * sum;
        let key = mix(up_to.partition_point(|&up_to| up_to <= drawn) as u64, 7);
        let index = picker.pick(&candidates, &Hint::new(now, rng.next_u64()).key(key)).unwrap();
        at_home += u32::from(owner(&picker.table, key) == index.get());
        open.push(Lease::take(Arc::clone(&backends[index.get()]), now));
        let in_flight = backends[index.get()].load().in_flight();
        worst = worst.max(in_flight);
        each(open.len(), in_flight);
    }
    (f64::from(at_home) / 10_000.0, f64::from(worst) * backends.len() as f64 / IN_FLIGHT as f64)
}

#[test]
fn under_zipf_no_backend_has_ever_more_than_the_bound_and_most_keys_are_at_home() {
    fn check<H: Hashing>(name: &str, hashing: impl Fn() -> H) {
        let home = [1.0_f64, 1.1, 1.25, 2.0].map(|factor| {
            let (home, worst) = zipf(hashing(), factor, &numbered(20), |open, in_flight| {
                let bound = (factor * open as f64 / 20.0 - 1e-9).ceil();
                assert!(f64::from(in_flight) <= bound, "{name}, {factor}: {in_flight} where {bound} may be");
            });
            assert!(worst <= factor && worst > 0.9 * factor, "{name}, {factor}: {worst}");
            home
        });
        // At a factor of 1 there is but one place left in all, wherever that is.
        assert!(home.is_sorted() && home[1] > 0.55 && home[2] > 0.75 && home[3] > 0.9, "{name}: {home:?}");
    }
    check("ring", Ring::new);
    check("maglev", Maglev::new);
    check("rendezvous", || Rendezvous);
    check("memento", Memento::new);
}

#[test]
fn one_that_fails_leaves_the_others_a_bound() {
    // It has nothing in flight, so the rest have more than all may have together at a factor of 1.
    let backends = numbered(20);
    for _ in 0..50 {
        Lease::take(Arc::clone(&backends[0]), now()).complete(Outcome::BackendFault, now());
    }
    let mut most = 0;
    zipf(Maglev::new(), 1.0, &backends, |open, in_flight| {
        let others = (open as f64 / 19.0).ceil() as u32 + 1;
        most = most.max(in_flight.saturating_sub(others));
    });
    assert_eq!(most, 0, "one has {most} more than its share among those that are well");
    let load = backends[0].load();
    let got = load.completed() - 50 + u64::from(load.in_flight());
    assert!(got < 100, "the one that fails got {got} of 10000, for it has room");
}

#[test]
fn one_at_its_limit_is_passed_over_while_another_is_not() {
    let (backends, mut rng) = (numbered(8), Rng::new(3));
    let all = Eligible::new([true; 8]);
    let picker = ConsistentHash::new(Maglev::new()).bounded(1.25).build(&backends);
    for round in 0..200 {
        let limits: Vec<u32> = backends.iter().map(|_| rng.below(4) as u32).collect();
        backends.iter().zip(&limits).for_each(|(backend, &limit)| backend.set_limit(Some(limit)));
        let room: u32 = limits.iter().sum();
        let mut open = Vec::new();
        for request in 0..room + 5 {
            let hint = Hint::new(now(), rng.next_u64()).key(rng.next_u64());
            let backend = &backends[picker.pick(&Candidates::new(&backends, &all), &hint).unwrap().get()];
            assert!(request >= room || !backend.is_full(), "round {round}, request {request} of {room}");
            open.extend(Lease::try_take(backend, 1.0, now()));
        }
    }
}

#[test]
fn where_all_fail_the_bound_holds_all_the_same() {
    let backends = numbered(4);
    for backend in backends.iter().flat_map(|backend| [backend; 50]) {
        Lease::take(Arc::clone(backend), now()).complete(Outcome::BackendFault, now());
    }
    let (picker, all) = (ConsistentHash::new(Ring::new()).bounded(1.25).build(&backends), Eligible::new([true; 4]));
    let mut open = Vec::new();
    for request in 1..=200_u32 {
        // All for one key.
        let hint = Hint::new(now(), mix(request.into(), 7)).key(42);
        let backend = &backends[picker.pick(&Candidates::new(&backends, &all), &hint).unwrap().get()];
        open.push(Lease::take(Arc::clone(backend), now()));
        let bound = (1.25 * f64::from(request) / 4.0).ceil() + 1.0;
        assert!(f64::from(backend.load().in_flight()) <= bound, "{} of {request}", backend.load().in_flight());
    }
}

#[test]
fn a_request_without_a_key_goes_anywhere() {
    let backends = numbered(4);
    let (picker, all) = (ConsistentHash::new(Maglev::new()).build(&backends), Eligible::new([true; 4]));
    let mut counts = [0; 4];
    (0..400).for_each(|seed| {
        let hint = Hint::new(now(), mix(seed, 7));
        counts[picker.pick(&Candidates::new(&backends, &all), &hint).unwrap().get()] += 1;
    });
    assert!(counts.iter().all(|&count| count > 50), "{counts:?}");
}

#[test]
fn a_ring_of_one_and_of_none_are_defined() {
    fn check(hashing: &impl Hashing) {
        assert!(hashing.table(&[]).first(7, |_| true).is_none());
        let one = hashing.table(&numbered(1));
        for key in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(owner(&one, key), 0);
            assert!(one.first(key, |_| false).is_none());
        }
    }
    check(&Maglev::new());
    check(&Maglev::with_slots(0));
    check(&Ring::new());
    check(&Ring::ketama());
    check(&Ring::with_points(0));
    check(&Rendezvous);
    check(&Memento::new());
}

#[test]
fn a_large_set_is_laid_out() {
    let backends = numbered(20_000);
    assert!(owner(&Memento::new().table(&backends), 42) < 20_000);
    assert!(owner(&Ring::with_points(400).table(&backends), 42) < 20_000);
}

#[test]
fn one_that_outweighs_all_others_is_laid_out_as_fast_as_any() {
    let mut weights = vec![1.0; 3_000];
    weights[7] = 1e9;
    // By the turns of the heaviest this would take ten thousand million steps.
    let shares = shares(&Maglev::new().table(&weighted(&weights)), 3_000, 20_000);
    assert!(shares[7] > 0.99, "{}", shares[7]);
}

#[test]
fn where_nothing_that_is_left_has_weight_keys_still_spread() {
    for weights in [vec![1.0, 0.0, 0.0, 0.0, 0.0], vec![f64::MAX, f64::MAX, f64::MAX, f64::MAX, 1.0]] {
        let backends = weighted(&weights);
        let picker = ConsistentHash::new(Rendezvous).build(&backends);
        let without_first = Eligible::new([false, true, true, true, true]);
        let mut counts = [0_u32; 5];
        for key in (0..8_000).map(|key| mix(key, 7)) {
            let hint = Hint::new(now(), 0).key(key);
            counts[picker.pick(&Candidates::new(&backends, &without_first), &hint).unwrap().get()] += 1;
        }
        // The last of the second list weighs next to nothing beside the others.
        let alike = if weights[1] == 0.0 { &counts[1..] } else { &counts[1..4] };
        let mean = 8_000 / alike.len() as u32;
        assert!(alike.iter().all(|count| count.abs_diff(mean) < 200), "{counts:?}");
    }
}

#[test]
fn when_nearly_all_are_out_the_rest_are_ranked_by_weight() {
    for (weights, share) in [([0.0, 1.0], 0.0), ([1.0, 3.0], 0.25)] {
        let mut all = vec![1.0; 101];
        all[..2].copy_from_slice(&weights);
        let backends = weighted(&all);
        let picker = ConsistentHash::new(Maglev::new()).build(&backends);
        let two = Eligible::new((0..101).map(|place| place < 2));
        let first = (0..8_000).map(|key| mix(key, 7)).filter(|&key| {
            picker.pick(&Candidates::new(&backends, &two), &Hint::new(now(), 0).key(key)).unwrap().get() == 0
        });
        let first = first.count() as f64 / 8_000.0;
        assert!((first - share).abs() < 0.08 && (share > 0.0 || first == 0.0), "{weights:?}: {first}");
    }
}

#[test]
fn ketama_gives_each_of_alike_servers_all_its_points() {
    // Single precision alone would give 156 to each, at 25 and at 100.
    for n in [3, 25, 47, 100] {
        let points = Ring::ketama().table(&numbered(n));
        assert_eq!(points.len(), 160 * n, "{n}");
    }
}

#[test]
fn what_costs_nothing_still_fits_its_owner() {
    let backends = numbered(20);
    let picker = ConsistentHash::new(Maglev::new()).bounded(1.25).build(&backends);
    let _busy: Vec<_> = backends[1..].iter().map(|backend| Lease::take(Arc::clone(backend), now())).collect();
    let all = Eligible::new([true; 20]);
    let idle = (0..1_000).map(|key| mix(key, 7)).filter(|&key| {
        let hint = Hint::new(now(), 0).key(key).cost(0.0);
        picker.pick(&Candidates::new(&backends, &all), &hint).unwrap().get() == 0
    });
    assert!(idle.count() < 100);
}
