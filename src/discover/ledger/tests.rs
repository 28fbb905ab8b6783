use super::*;
use crate::{pool::Member, rng::Rng};
use proptest::prelude::*;
use std::{collections::BTreeSet, time::Duration};

#[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
fn origin() -> Instant {
    Instant::now()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn endpoint(id: u8) -> Endpoint<()> {
    Member::new(id.to_string(), ()).into()
}

fn set(ids: impl IntoIterator<Item = u8>) -> News<()> {
    News::Set(ids.into_iter().map(endpoint).collect())
}

fn id(id: u8) -> BackendId {
    id.to_string().into()
}

fn ids(list: impl IntoIterator<Item = u8>) -> Vec<BackendId> {
    list.into_iter().map(id).collect()
}

/// Who the pool has.
fn held(ledger: &Ledger<()>) -> BTreeSet<BackendId> {
    ledger.listed.keys().chain(ledger.doubted.keys()).cloned().collect()
}

#[test]
fn an_empty_answer_empties_nothing_until_it_is_confirmed() {
    let (guard, start) = (Guard::default(), origin());
    let mut ledger = Ledger::new();
    ledger.hear(set(0..4), &guard, start);
    let settled = ledger.hear(set([]), &guard, start + seconds(1));
    assert_eq!((settled.left, settled.doubted), (vec![], ids(0..4)));
    assert_eq!(ledger.due(&guard), Some(start + seconds(31)));
    // Said again too early, it is still the same answer.
    assert_eq!(ledger.hear(set([]), &guard, start + seconds(30)), Settled::default());
    assert_eq!(ledger.doubted(), 4);
    assert_eq!(ledger.hear(set([]), &guard, start + seconds(31)).left, ids(0..4));
    assert!(held(&ledger).is_empty() && ledger.due(&guard).is_none());
}

#[test]
fn who_reappears_was_never_away_and_is_doubted_anew_the_next_time() {
    let (guard, start) = (Guard::default(), origin());
    let mut ledger = Ledger::new();
    ledger.hear(set(0..4), &guard, start);
    ledger.hear(set([0]), &guard, start + seconds(10));
    ledger.hear(set([0, 1, 2]), &guard, start + seconds(20));
    // One of four is few enough.
    assert_eq!((ledger.doubted(), ledger.due(&guard)), (0, None));
    ledger.hear(set([0]), &guard, start + seconds(39));
    assert_eq!((held(&ledger).len(), ledger.due(&guard)), (3, Some(start + seconds(69))));
}

#[test]
fn those_who_leave_one_by_one_leave_together() {
    let (guard, start) = (Guard::default(), origin());
    let mut ledger = Ledger::new();
    ledger.hear(set(0..10), &guard, start);
    let left = |ledger: &mut Ledger<()>, gone: u8, at: u64| {
        ledger.hear(News::Changes(vec![Change::Remove(id(gone))]), &guard, start + seconds(at)).left
    };
    let first: Vec<_> = (0..9).filter(|gone| !left(&mut ledger, *gone, 1).is_empty()).collect();
    assert_eq!((first, ledger.doubted()), (vec![0, 1, 2, 3, 4], 4));
    // Later it is another event; those who were doubted are then confirmed.
    assert_eq!(ledger.review(&guard, start + seconds(31)).left, ids(5..9));
    assert_eq!(held(&ledger), [id(9)].into());
}

#[test]
fn a_rollout_one_by_one_is_no_accident() {
    let (guard, start) = (Guard::default(), origin());
    let mut ledger = Ledger::new();
    ledger.hear(set(0..3), &guard, start);
    for old in 0..3 {
        let new = 10 + old;
        ledger.hear(News::Changes(vec![Change::Insert(endpoint(new))]), &guard, start + seconds(1));
        let settled = ledger.hear(News::Changes(vec![Change::Remove(id(old))]), &guard, start + seconds(1));
        assert_eq!(settled.left, [id(old)]);
    }
}

#[test]
fn who_was_drained_may_leave_and_is_nobody_to_count_on() {
    let (guard, start) = (Guard::default(), origin());
    let mut ledger = Ledger::new();
    ledger.hear(News::Set(vec![endpoint(0), endpoint(1).draining(), endpoint(2).draining()]), &guard, start);
    let settled = ledger.hear(set([0]), &guard, start);
    assert_eq!((settled.left, settled.doubted), (ids(1..3), vec![]));
    // The last one that takes requests is the last one.
    ledger.hear(News::Set(vec![endpoint(0), endpoint(1).draining()]), &guard, start);
    assert_eq!(ledger.hear(News::Set(vec![endpoint(1).draining()]), &guard, start).doubted, [id(0)]);
}

#[test]
fn who_is_listed_twice_is_there_once_and_named() {
    let mut ledger = Ledger::new();
    let twice = ledger.hear(set([1, 2, 1]), &Guard::default(), origin()).twice;
    assert_eq!((twice, ledger.listed().len()), (vec![id(1)], 2));
}

#[test]
fn without_a_guard_every_answer_is_believed() {
    let mut ledger = Ledger::new();
    ledger.hear(set(0..4), &Guard::off(), origin());
    assert_eq!(ledger.hear(set([]), &Guard::off(), origin()).left, ids(0..4));
}

/// What a source might say: anything, in any order, often the same again.
fn saying() -> impl Strategy<Value = Result<Vec<u8>, Vec<(bool, u8)>>> {
    prop_oneof![
        proptest::collection::vec(0..12_u8, 0..14).prop_map(Ok),
        proptest::collection::vec((any::<bool>(), 0..12_u8), 0..8).prop_map(Err),
    ]
}

fn news(saying: &Result<Vec<u8>, Vec<(bool, u8)>>) -> News<()> {
    let change = |(there, who): &(bool, u8)| match there {
        true => Change::Insert(endpoint(*who)),
        false => Change::Remove(id(*who)),
    };
    match saying {
        Ok(all) => set(all.iter().copied()),
        Err(changes) => News::Changes(changes.iter().map(change).collect()),
    }
}

proptest! {
    #[test]
    fn whatever_is_said_nobody_goes_who_is_there_nor_too_many_at_once_and_what_is_said_for_long_comes_true(
        sayings in proptest::collection::vec((saying(), 0..20_u64), 0..40),
        share in 0.0..1.0_f64,
    ) {
        let guard = Guard::default().at_once(share);
        let (mut now, mut ledger) = (origin(), Ledger::new());
        let mut model = BTreeSet::new();
        let mut missing_since: BTreeMap<BackendId, Instant> = BTreeMap::new();
        let mut left_early: Vec<Instant> = Vec::new();
        for (saying, later) in &sayings {
            now += seconds(*later);
            let before = held(&ledger);
            let left: BTreeSet<_> = ledger.hear(news(saying), &guard, now).left.into_iter().collect();

            // Who is there by the source's word, told in another way.
            match saying {
                Ok(all) => model = all.iter().map(|who| id(*who)).collect(),
                Err(changes) => for (there, who) in changes {
                    if *there { model.insert(id(*who)); } else { model.remove(&id(*who)); }
                },
            }
            let listed: BTreeSet<_> = ledger.listed().map(|endpoint| endpoint.id().clone()).collect();
            prop_assert_eq!(&listed, &model);

            // Nobody who is listed leaves, nobody gets lost, and nobody comes who is not listed.
            prop_assert!(left.is_disjoint(&model) && left.is_subset(&before));
            let expected: BTreeSet<_> = before.difference(&left).chain(&model).cloned().collect();
            prop_assert_eq!(held(&ledger), expected);

            // Within the time no more leave early than the share of those who were there in it.
            missing_since.retain(|who, _| !model.contains(who));
            for who in before.difference(&model) {
                missing_since.entry(who.clone()).or_insert(now);
            }
            let confirmed = |who: &&BackendId| missing_since[*who] + seconds(30) <= now;
            left_early.retain(|when| now < *when + seconds(30));
            let early = left.iter().filter(|who| !confirmed(who)).count();
            if early > 0 {
                let there = before.len() - left.iter().filter(confirmed).count();
                let most = ((there + left_early.len()) as f64 * share) as usize;
                prop_assert!(left_early.len() + early <= most.max(1), "{early} of {there}");
                prop_assert!(!model.is_empty());
            }
            left_early.extend(std::iter::repeat_n(now, early));
            missing_since.retain(|who, _| !left.contains(who));
            let doubted: BTreeSet<_> = ledger.doubted.keys().cloned().collect();
            prop_assert_eq!(doubted, missing_since.keys().cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(ledger.due(&guard), missing_since.values().min().map(|since| *since + seconds(30)));
        }
        // What is said for so long is so, be it nobody.
        ledger.review(&guard, now + seconds(30));
        prop_assert_eq!(held(&ledger), model);
    }

    #[test]
    fn changes_and_sets_that_say_the_same_come_to_the_same(seed in any::<u64>()) {
        let guard = Guard::default();
        let (mut rng, mut now) = (Rng::new(seed), origin());
        let (mut by_set, mut by_change) = (Ledger::new(), Ledger::new());
        let mut there = BTreeSet::new();
        for _ in 0..60 {
            now += seconds(rng.below(12) as u64);
            let mut changes = Vec::new();
            for _ in 0..rng.below(6) {
                let who = rng.below(10) as u8;
                if rng.below(2) == 0 {
                    there.insert(who);
                    changes.push(Change::Insert(endpoint(who)));
                } else {
                    there.remove(&who);
                    changes.push(Change::Remove(id(who)));
                }
            }
            // Who leaves and is back in one go has not been away: a set knows nothing of it.
            let one = by_set.hear(set(there.iter().copied()), &guard, now);
            let other = by_change.hear(News::Changes(changes), &guard, now);
            prop_assert_eq!(one.left, other.left);
            prop_assert_eq!(&by_set.doubted, &by_change.doubted);
            prop_assert_eq!(by_set.due(&guard), by_change.due(&guard));
        }
    }
}
