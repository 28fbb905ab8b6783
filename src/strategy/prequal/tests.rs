use super::*;
use crate::{
    backend::{Lease, Locality, Outcome, Report, Weight},
    strategy::{Eligible, Grouped, Tiers, conformance},
};
use proptest::prelude::{Just, any, prop_assert, prop_oneof, proptest};
use std::{collections::BTreeSet, time::Instant};

#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn start() -> Instant {
    Instant::now()
}

fn told(in_flight: f64, latency: f64) -> Report {
    Report { in_flight: Some(in_flight), latency: Some(latency), ..Report::default() }
}

/// Backends that are called by their places.
fn members(n: usize) -> Vec<Arc<Backend>> {
    (0..n).map(|n| Arc::new(Backend::new(n.to_string()))).collect()
}

/// The place of the next backend to probe.
fn wanted(prequal: &Prequal) -> Option<usize> {
    prequal.wanted().map(|backend| backend.id().as_str().parse().unwrap())
}

fn known(loads: &[(f64, f64)]) -> Vec<Known> {
    let known = |&(in_flight, latency): &(f64, f64)| Known { in_flight, latency, weight: 1.0, ..Known::default() };
    loads.iter().map(known).collect()
}

#[test]
fn it_conforms_with_and_without_probes() {
    conformance::check(Prequal::new, start());
    conformance::check(|| Prequal::new().probes(0), start());
}

#[test]
fn the_fastest_of_the_cold_is_picked() {
    let loads = known(&[(1.0, 0.030), (2.0, 0.020), (3.0, 0.010), (9.0, 0.001)]);
    let picked = |cold| coldest(&loads, cold, &mut Rng::new(1)).unwrap().latency;
    assert_eq!(picked(0.0), 0.030);
    assert_eq!(picked(0.34), 0.020);
    assert_eq!(picked(0.66), 0.020);
    assert_eq!(picked(0.67), 0.010);
    assert_eq!(picked(1.0), 0.001);
}

#[test]
fn what_was_sent_since_a_backend_told_counts_on_top() {
    let start = start();
    let backends = [Arc::new(Backend::new("a")), Arc::new(Backend::new("b"))];
    let (all, prequal) = (Eligible::new([true; 2]), Prequal::new().cold(0.0));
    let picker = prequal.build(&backends);
    backends[0].reported(&told(3.0, 0.01), start);
    backends[1].reported(&told(5.0, 0.01), start);
    let mut leases = Vec::new();
    let mut pick = |seed| {
        let index = picker.pick(&Candidates::new(&backends, &all), &Hint::new(start, seed)).unwrap();
        leases.push(Lease::take(Arc::clone(&backends[index.get()]), start));
        index.get()
    };
    assert!([pick(1), pick(2)] == [0, 0]);
    let next = [pick(3), pick(4)];
    assert!(next == [0, 1] || next == [1, 0], "{next:?}");
}

#[test]
fn what_was_told_too_long_ago_counts_for_nothing() {
    let start = start();
    let backends = members(3);
    let (all, picker) = (Eligible::new([true; 3]), Prequal::new().build(&backends));
    backends.iter().zip([1.0, 9.0, 9.0]).for_each(|(backend, load)| backend.reported(&told(load, load), start));
    let picks = |now| {
        let pick = |seed| picker.pick(&Candidates::new(&backends, &all), &Hint::new(now, seed)).unwrap().get();
        (0..100).map(pick).filter(|&place| place == 0).count()
    };
    assert_eq!(picks(start + Duration::from_millis(900)), 100);
    assert!((10..60).contains(&picks(start + Duration::from_millis(1_100))));
}

#[test]
fn what_was_told_before_a_probe_is_no_answer_to_it() {
    let start = start();
    let backends = members(40);
    let (all, prequal) = (Eligible::new([true; 40]), Prequal::new());
    let picker = prequal.build(&backends);
    let asked_at = |now: Instant, answer: bool| {
        let candidates = Candidates::new(&backends, &all);
        let mut picks = [0; 40];
        for seed in 0..200 {
            let now = now + Duration::from_micros(seed * 100);
            picks[picker.pick(&candidates, &Hint::new(now, seed)).unwrap().get()] += 1;
            while let Some(place) = wanted(&prequal) {
                // Number 0 hangs, and has once told that it is idle.
                if answer || place != 0 {
                    let (busy, latency) = if place == 0 { (0.0, 1e-6) } else { (5.0, 1e-5) };
                    backends[place].reported(&told(busy, latency), now);
                }
            }
        }
        picks[0]
    };
    assert!(asked_at(start, true) > 5);
    assert_eq!(asked_at(start + Duration::from_millis(100), false), 0);
}

#[test]
fn probes_are_wanted_of_whoever_has_told_nothing_for_as_long_as_a_request_takes() {
    let start = start();
    let backends = members(3);
    let (all, prequal) = (Eligible::new([true; 3]), Prequal::new());
    let picker = prequal.build(&backends);
    let wanted = |now| {
        picker.pick(&Candidates::new(&backends, &all), &Hint::new(now, 1));
        let mut wanted: Vec<_> = std::iter::from_fn(|| wanted(&prequal)).collect();
        wanted.sort_unstable();
        wanted
    };
    assert_eq!(wanted(start), [0, 1, 2]);
    backends[1].reported(&told(1.0, 0.5), start);
    assert_eq!(wanted(start + Duration::from_millis(400)), [0, 2]);
    assert_eq!(wanted(start + Duration::from_millis(600)), [0, 1, 2]);
}

/// The share of ten thousand requests, one each millisecond, that goes to a backend that fails in 1 ms, where `members`
/// backends answer each probe and the others answer in 50 ms.
fn share_of_one_that_fails(members: usize, prequal: &Prequal, latency: Option<f64>) -> f64 {
    const REQUESTS: u64 = 10_000;
    let (start, backends, mut rng) = (start(), self::members(members), Rng::new(3));
    let (all, picker) = (Eligible::new(vec![true; members]), prequal.build(&backends));
    let mut open: Vec<(Instant, Outcome, Lease)> = Vec::new();
    let mut failed = 0;
    for request in 0..REQUESTS {
        let now = start + Duration::from_millis(request);
        for (ended, outcome, lease) in open.extract_if(.., |(ended, ..)| *ended <= now) {
            lease.complete(outcome, ended);
        }
        while let Some(place) = wanted(prequal) {
            let in_flight = Some(backends[place].load().in_flight().into());
            backends[place].reported(&Report { in_flight, latency, ..Report::default() }, now);
        }
        let hint = Hint::new(now, rng.next_u64());
        let place = picker.pick(&Candidates::new(&backends, &all), &hint).unwrap().get();
        failed += u64::from(place == 0);
        let (outcome, takes) = if place == 0 { (Outcome::BackendFault, 1) } else { (Outcome::Success, 50) };
        let lease = Lease::take(Arc::clone(&backends[place]), now);
        open.push((now + Duration::from_millis(takes), outcome, lease));
    }
    failed as f64 / REQUESTS as f64
}

#[test]
fn one_that_fails_at_once_draws_nothing_however_many_there_are_and_whatever_they_tell() {
    for members in [2, 3, 5, 10, 20, 40] {
        for cold in [0.0, 0.84, 1.0] {
            for latency in [Some(0.05), Some(0.0), None] {
                let share = share_of_one_that_fails(members, &Prequal::new().cold(cold), latency);
                let fair = 1.0 / members as f64;
                assert!(share < fair / 2.0, "{members} members, {cold} cold, {latency:?}: {share} of {fair}");
            }
        }
    }
}

#[test]
fn probes_are_wanted_of_the_backends_that_are_picked_from() {
    // Ten in the first tier, all of them out, thirty in the second.
    let backends = members(40);
    backends[10..].iter().for_each(|backend| backend.set_locality(Locality { priority: 1, zone: None }));
    let all_of_the_second = Eligible::new((0..40).map(|n| n >= 10));
    let prequal = Prequal::new();
    let within = prequal.clone();
    let picker = Grouped::new(Tiers, move || within.clone()).build(&backends);
    let mut asked = BTreeSet::new();
    for seed in 0..100 {
        picker.pick(&Candidates::new(&backends, &all_of_the_second), &Hint::new(start(), seed)).unwrap();
        asked.extend(std::iter::from_fn(|| wanted(&prequal)));
    }
    assert_eq!(asked, (10..40).collect());
}

proptest! {
    #[test]
    fn whatever_backends_tell_and_weigh_one_is_picked(
        backends in proptest::collection::vec((
            prop_oneof![Just(0.0), Just(1.0), Just(1e-300), Just(f64::MAX)],
            prop_oneof![Just(0.0), Just(1.0), Just(f64::from(f32::MAX)), Just(f64::NAN)],
            prop_oneof![Just(0.0), Just(1.0), Just(f64::from(f32::MAX)), Just(f64::NAN)],
        ), 1..40),
        cost in prop_oneof![Just(0.0), Just(-1.0), Just(f64::NAN), Just(f64::MAX), Just(1.0)],
        cold in prop_oneof![Just(0.0), Just(0.84), Just(1.0), Just(f64::NAN)],
        seed in any::<u64>(),
    ) {
        let (now, members) = (start(), members(backends.len()));
        for (backend, (weight, in_flight, latency)) in members.iter().zip(&backends) {
            backend.set_weight(Weight::new(*weight).unwrap());
            backend.reported(&told(*in_flight, *latency), now);
        }
        let (all, picker) = (Eligible::new(vec![true; members.len()]), Prequal::new().cold(cold).build(&members));
        for seed in (0..20).map(|n| seed.wrapping_add(n)) {
            let hint = Hint::new(now, seed).cost(cost);
            prop_assert!(picker.pick(&Candidates::new(&members, &all), &hint).is_some());
        }
    }
}

#[test]
fn the_quantile_that_is_not_hot_is_the_papers() {
    assert_eq!(Prequal::new().rule.cold, 0.840_896_415_253_714_5);
    // Of 16, the 13th by what it has in flight is the last that is cold: the faster the busier, it is the one.
    let (start, backends) = (start(), members(16));
    for (place, backend) in backends.iter().enumerate() {
        backend.reported(&told(place as f64, 0.1 - place as f64 / 1e3), start);
    }
    let (all, picker) = (Eligible::new([true; 16]), Prequal::new().build(&backends));
    for seed in 0..100 {
        let picked = picker.pick(&Candidates::new(&backends, &all), &Hint::new(start, seed));
        assert_eq!(picked, Some(Index::new(12)));
    }
}

#[test]
fn what_was_told_is_used_as_often_as_the_paper_says() {
    let uses = |members, probes| Prequal::new().probes(probes).build(&self::members(members)).uses;
    // 2 / ((1 - 16 / n) r - 1)
    let golden = [((29, 3), 5), ((32, 3), 4), ((40, 3), 2), ((64, 3), 1), ((1_000, 3), 1), ((32, 4), 2), ((64, 2), 4)];
    for ((members, probes), expected) in golden {
        assert_eq!(uses(members, probes), expected, "{members} members, {probes} probes");
    }
    assert!([0, 1, 16, 24].into_iter().all(|members| (1..=1_000).contains(&uses(members, 3))));
}

/// What is in the slots of a picker: places, and how often each may still be used.
fn slots(picker: &PrequalPicker) -> Vec<(usize, u64)> {
    let words = picker.slots.iter().map(|word| word.load(Ordering::Relaxed));
    words.filter_map(|word| Some((place(word)?.get(), word >> 32))).collect()
}

#[test]
fn those_that_were_drawn_last_are_known_and_no_more_than_16() {
    let (start, backends) = (start(), members(1_000));
    let (all, prequal, mut rng) = (Eligible::new([true; 1_000]), Prequal::new(), Rng::new(1));
    let picker = prequal.build(&backends);
    let mut drawn = Vec::new();
    for draw in 1..20 {
        picker.draw(&Candidates::new(&backends, &all), Moment::of(start), &mut rng);
        drawn.extend(std::iter::from_fn(|| wanted(&prequal)));
        assert_eq!(drawn.len(), draw * 3);
        // The oldest had to go.
        let mut known: Vec<_> = slots(&picker).into_iter().map(|(place, _)| place).collect();
        let mut last = drawn[drawn.len().saturating_sub(16)..].to_vec();
        known.sort_unstable();
        last.sort_unstable();
        assert_eq!(known, last);
    }
}

#[test]
fn what_is_used_counts_down_and_the_busiest_is_forgotten_by_every_other_pick() {
    // May be used four times.
    let picker = Prequal::new().build(&members(32));
    let all: Vec<_> = (0..KNOWN)
        .map(|slot| Known { slot, place: slot as u32, in_flight: (slot * 7 % KNOWN) as f64, ..Known::default() })
        .collect();
    let fill = |picks: u64| {
        picker.next.store(picks * 3, Ordering::Relaxed);
        for (place, slot) in picker.slots.iter().enumerate() {
            slot.store(4 << 32 | (place as u64 + 1), Ordering::Relaxed);
        }
    };
    let busiest = all.iter().position(|known| known.in_flight == 15.0).unwrap();

    fill(1);
    for left in [3, 2, 1] {
        picker.use_up(&all, &all[0]);
        assert_eq!(slots(&picker)[0], (0, left));
    }
    assert_eq!(slots(&picker).len(), 16);
    picker.use_up(&all, &all[0]);
    assert_eq!(slots(&picker).first(), Some(&(1, 4)));
    assert_eq!(slots(&picker).len(), 15);

    fill(2);
    picker.use_up(&all, &all[0]);
    let left: Vec<_> = slots(&picker).into_iter().map(|(place, _)| place).collect();
    assert_eq!(left, (0..16).filter(|&place| place != busiest).collect::<Vec<_>>());
}

#[test]
fn in_a_large_pool_too_what_was_told_counts_for_a_second() {
    let (start, backends) = (start(), members(40));
    let (all, picker) = (Eligible::new([true; 40]), Prequal::new().build(&backends));
    backends.iter().for_each(|backend| backend.reported(&told(1.0, 0.01), start));
    let candidates = Candidates::new(&backends, &all);
    let score = |millis| {
        picker.score(&candidates, Index::new(0), &Hint::new(start + Duration::from_millis(millis), 1)).is_some()
    };
    assert_eq!([0, 999, 1_000, 1_001].map(score), [true, true, true, false]);
    assert_eq!(Prequal::new().rule.fresh, 1.0);
}

#[test]
fn the_same_seeds_give_the_same_picks() {
    let start = start();
    let picks = |members: usize, seed: u64| {
        let (backends, prequal, mut rng) = (self::members(members), Prequal::new(), Rng::new(seed));
        let (all, picker) = (Eligible::new(vec![true; members]), prequal.build(&backends));
        let mut leases = Vec::new();
        let mut pick = |request| {
            let now = start + Duration::from_millis(request);
            while let Some(place) = wanted(&prequal) {
                let in_flight = backends[place].load().in_flight();
                backends[place].reported(&told(in_flight.into(), 0.01), now);
            }
            let index = picker.pick(&Candidates::new(&backends, &all), &Hint::new(now, rng.next_u64())).unwrap();
            leases.push(Lease::take(Arc::clone(&backends[index.get()]), now));
            index
        };
        (0..300).map(&mut pick).collect::<Vec<_>>()
    };
    for members in [10, 40] {
        assert_eq!(picks(members, 1), picks(members, 1));
        assert_ne!(picks(members, 1), picks(members, 2));
    }
}
