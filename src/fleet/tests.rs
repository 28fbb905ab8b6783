use super::{
    ballot::{Ballot, Vote},
    council::{Council, Verdict},
};
use crate::rng::Rng;
use proptest::prelude::*;
use std::sync::Arc;

const BACKENDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn name(gateway: usize) -> Arc<str> {
    format!("gateway-{gateway}").into()
}

/// A fleet in which each has a council of its own, and what one has voted the others hear when they are told.
struct Fleet {
    councils: Vec<Council>,
    /// Whose network is broken: he finds everybody ill.
    blind: Vec<usize>,
    /// Who is ill in truth.
    ill: Vec<&'static str>,
}

impl Fleet {
    fn new(gateways: usize, k: usize) -> Self {
        let councils = (0..gateways).map(|gateway| Council::new(name(gateway), k)).collect();
        Self { councils, blind: Vec::new(), ill: Vec::new() }
    }

    /// Each asks whom it has to, as things are, and votes.
    fn ask(&mut self, gateway: usize) {
        let finds_ill = |backend: &&str| self.blind.contains(&gateway) || self.ill.contains(backend);
        let council = &mut self.councils[gateway];
        // Before anything is said of it, nobody is its.
        council.vote(Ballot { digest: 7, ..council.mine().clone() });
        let round = council.round();
        let mine = BACKENDS.iter().filter(|backend| round.rule(backend).is_mine);
        let vote = |backend: &&str| match finds_ill(backend) {
            true => Vote::Ill("refused".into()),
            false => Vote::Well,
        };
        let votes = mine.map(|backend| (Arc::from(*backend), vote(backend))).collect();
        council.vote(Ballot { digest: 7, votes });
    }

    fn tell(&mut self, from: usize, to: usize) {
        let ballot = self.councils[from].mine().clone();
        self.councils[to].hear(name(from), Some(ballot));
    }

    fn settle(&mut self) {
        let all = self.councils.len();
        for _ in 0..4 {
            (0..all).for_each(|gateway| self.ask(gateway));
            (0..all).flat_map(|from| (0..all).map(move |to| (from, to))).for_each(|(from, to)| self.tell(from, to));
        }
    }

    fn ask_for(&self, backend: &str) -> usize {
        self.councils.iter().filter(|council| council.round().rule(backend).is_mine).count()
    }

    fn verdicts(&self, backend: &str) -> Vec<Verdict> {
        self.councils.iter().map(|council| council.round().rule(backend).verdict).collect()
    }

    fn dissenters(&self) -> Vec<usize> {
        let dissents = |council: &Council| BACKENDS.iter().any(|backend| council.round().rule(backend).dissents);
        (0..self.councils.len()).filter(|gateway| dissents(&self.councils[*gateway])).collect()
    }
}

#[test]
fn each_backend_is_asked_by_k_and_by_all_where_there_are_fewer() {
    for (gateways, k, asked) in [(1, 2, 1), (2, 2, 2), (3, 2, 2), (7, 2, 2), (7, 3, 3), (3, 9, 3)] {
        let mut fleet = Fleet::new(gateways, k);
        fleet.settle();
        for backend in BACKENDS {
            assert_eq!(fleet.ask_for(backend), asked, "{backend} by {k} of {gateways}");
            assert!(fleet.verdicts(backend).iter().all(|verdict| *verdict == Verdict::Well { well: asked, of: asked }));
        }
    }
}

#[test]
fn one_that_sees_failures_alone_takes_nobody_out_and_knows_that_it_is_alone() {
    for (gateways, k) in [(2, 2), (3, 2), (3, 3), (9, 3)] {
        let mut fleet = Fleet::new(gateways, k);
        fleet.blind = vec![0];
        fleet.settle();
        for backend in BACKENDS {
            assert!(fleet.verdicts(backend).iter().all(|verdict| matches!(verdict, Verdict::Well { .. })), "{backend}");
        }
        assert!(fleet.dissenters().iter().all(|gateway| *gateway == 0));
        fleet.blind = (0..gateways).collect();
        fleet.settle();
        for backend in BACKENDS {
            assert!(fleet.verdicts(backend).iter().all(|verdict| matches!(verdict, Verdict::Ill { .. })), "{backend}");
        }
        assert!(fleet.dissenters().is_empty());
    }
}

#[test]
fn a_vote_that_is_missing_decides_nothing_and_whoever_asks_is_relieved_when_another_has_an_answer() {
    let mut fleet = Fleet::new(3, 2);
    fleet.settle();
    let asked_by = |fleet: &Fleet, backend: &str| -> Vec<usize> {
        (0..3).filter(|gateway| fleet.councils[*gateway].round().rule(backend).is_mine).collect()
    };
    let [one, other] = asked_by(&fleet, "a")[..] else { panic!() };
    let third = 3 - one - other;
    // One of them is gone, the other has become a dissenter at the same time: the third has not asked yet.
    fleet.councils.iter_mut().for_each(|council| council.hear(name(other), None));
    fleet.blind = vec![one];
    fleet.ask(one);
    fleet.tell(one, third);
    assert_eq!(fleet.councils[third].round().rule("a").verdict, Verdict::Open);
    assert!(fleet.councils[third].round().rule("a").is_mine);
    fleet.ask(third);
    fleet.tell(third, one);
    assert_eq!(fleet.councils[third].round().rule("a").verdict, Verdict::Well { well: 1, of: 2 });
    assert!(fleet.councils[one].round().rule("a").dissents);

    // The one that was gone is back, and has no vote yet: the third goes on.
    fleet.councils[third].hear(name(other), Some(Ballot { digest: 7, ..Ballot::default() }));
    assert!(fleet.councils[third].round().rule("a").is_mine);
    fleet.tell(third, other);
    fleet.tell(one, other);
    fleet.ask(other);
    fleet.tell(other, third);
    assert!(!fleet.councils[third].round().rule("a").is_mine);
}

#[test]
fn who_does_not_know_a_backend_is_not_waited_for() {
    let mut council = Council::new(name(0), 2);
    let votes = [("a".into(), Vote::Ill("refused".into()))].into();
    council.vote(Ballot { digest: 1, votes });
    for gateway in 1..9 {
        council.hear(name(gateway), Some(Ballot { digest: 2, ..Ballot::default() }));
    }
    let ruling = council.round().rule("a");
    assert!(ruling.is_mine && matches!(ruling.verdict, Verdict::Ill { ill: 1, of: 1, .. }));
    // One that votes on it knows it.
    council.hear(name(1), Some(Ballot { digest: 2, votes: [("a".into(), Vote::Well)].into() }));
    let ruling = council.round().rule("a");
    assert!(ruling.is_mine && ruling.dissents && ruling.verdict == Verdict::Well { well: 1, of: 2 });
}

#[test]
fn the_work_is_shared_evenly() {
    let (gateways, backends, k) = (10, 2_000, 2);
    let mut council = Council::new(name(0), k);
    (1..gateways).for_each(|gateway| council.hear(name(gateway), Some(Ballot::default())));
    let round = council.round();
    let mine = (0..backends).filter(|backend| round.rule(&backend.to_string()).is_mine).count();
    let fair = backends * k / gateways;
    assert!(mine.abs_diff(fair) < fair / 5, "{mine} instead of {fair}");
}

proptest! {
    #[test]
    fn whatever_is_heard_in_whatever_order_it_settles_with_k_askers_and_one_opinion(
        (gateways, k, seed) in (1..7_usize, 1..5_usize, any::<u64>()),
    ) {
        let mut rng = Rng::new(seed);
        let mut fleet = Fleet::new(gateways, k);
        for _ in 0..60 {
            let (from, to) = (rng.below(gateways), rng.below(gateways));
            match rng.below(4) {
                0 => fleet.ask(from),
                1 => fleet.tell(from, to),
                2 => fleet.councils[to].hear(name(from), None),
                _ => {
                    fleet.ill = BACKENDS.into_iter().filter(|_| rng.below(2) == 0).collect();
                    fleet.blind = (0..gateways).filter(|_| rng.below(4) == 0).collect();
                }
            }
            // Nobody is taken out by less than a majority of those who are to be asked.
            for council in &fleet.councils {
                for backend in BACKENDS {
                    let ruling = council.round().rule(backend);
                    if let Verdict::Ill { ill, of, .. } = ruling.verdict {
                        prop_assert!(2 * ill > of && of <= k && ill <= council.gateways());
                    }
                }
            }
        }
        fleet.blind.clear();
        fleet.settle();
        for backend in BACKENDS {
            prop_assert_eq!(fleet.ask_for(backend), k.min(gateways));
            let is_ill = fleet.ill.contains(&backend);
            for verdict in fleet.verdicts(backend) {
                prop_assert_eq!(matches!(verdict, Verdict::Ill { .. }), is_ill);
                prop_assert_ne!(verdict, Verdict::Open);
            }
        }
    }
}
