use super::ballot::{Ballot, Vote};
use crate::hash::{hash_key, mix};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// Who asks whom, and what the answers come to. Pure: it knows the ballots and nothing else.
///
/// Each backend has an order of the gateways, by rendezvous hashing; the first `k` of those that know it ask it. The votes of
/// the first `k` that have one decide. Alone, a gateway asks everybody and decides by itself.
#[derive(Debug)]
pub(super) struct Council {
    k: usize,
    me: Arc<str>,
    /// Of all that are there, this gateway's among them.
    ballots: BTreeMap<Arc<str>, Ballot>,
    /// Whether the others do not count, because what they say is not heard.
    is_alone: bool,
}

/// What the council says of one backend.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruling {
    /// Whether this gateway asks it.
    pub(super) is_mine: bool,
    pub(super) verdict: Verdict,
    /// Whether this gateway's vote is that it is ill, and the verdict another.
    pub(super) dissents: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// So many of so many say so, and one of them why.
    Ill {
        ill: usize,
        of: usize,
        cause: Arc<str>,
    },
    Well {
        well: usize,
        of: usize,
    },
    /// Votes are missing without which neither can be said: it stays as it is.
    Open,
    /// The same; but one of whom nobody has said anything yet is to be out until somebody has.
    Unasked,
}

/// What is the same for all backends of a round.
pub(super) struct Round<'a> {
    council: &'a Council,
    mine: &'a Ballot,
    /// Who knows the same backends as this gateway.
    alike: Vec<Gateway<'a>>,
    votes: HashMap<&'a str, Vec<(Gateway<'a>, &'a Vote)>>,
    /// Backends that somebody has yet to ask, which is no vote.
    unasked: HashSet<&'a str>,
}

/// A gateway and the hash of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gateway<'a> {
    hash: u64,
    pub(super) name: &'a Arc<str>,
}

impl<'a> Gateway<'a> {
    pub(super) fn new(name: &'a Arc<str>) -> Self {
        Self { hash: hash_key(&**name), name }
    }
}

/// The first `k` of `gateways` in the order of a backend: highest random weight (Thaler, Ravishankar 1998). One pass and
/// no list of all: it is done for each backend at each look.
pub(super) fn first<'a>(k: usize, gateways: impl Iterator<Item = Gateway<'a>>, backend: u64) -> Vec<Gateway<'a>> {
    let mut first: Vec<(u64, Gateway<'a>)> = Vec::new();
    for gateway in gateways {
        let ranked = (mix(gateway.hash, backend), gateway);
        if first.len() < k || first.last().is_some_and(|last| *last < ranked) {
            first.truncate(k - 1);
            first.insert(first.partition_point(|before| *before > ranked), ranked);
        }
    }
    first.into_iter().map(|(_, gateway)| gateway).collect()
}

impl Council {
    pub(super) fn new(me: Arc<str>, k: usize) -> Self {
        let ballots = BTreeMap::from([(Arc::clone(&me), Ballot::default())]);
        Self { k: k.max(1), me, ballots, is_alone: false }
    }

    /// How many gateways there are.
    pub(super) fn gateways(&self) -> usize {
        self.present().count()
    }

    /// This gateway's own ballot. Returns whether it has changed.
    pub(super) fn vote(&mut self, ballot: Ballot) -> bool {
        let before = self.ballots.insert(Arc::clone(&self.me), ballot);
        before.as_ref() != self.ballots.get(&self.me)
    }

    /// Another's ballot; `None` where it is gone. What is said of this gateway is not heard: it knows better.
    pub(super) fn hear(&mut self, gateway: Arc<str>, ballot: Option<Ballot>) {
        if gateway == self.me {
            return;
        }
        match ballot {
            Some(ballot) => _ = self.ballots.insert(gateway, ballot),
            None => _ = self.ballots.remove(&gateway),
        }
    }

    /// All ballots of others are told anew.
    pub(super) fn forget(&mut self) {
        self.ballots.retain(|gateway, _| *gateway == self.me);
    }

    /// From now on the others do not count, or do again.
    pub(super) fn set_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// The ballots that count.
    fn present(&self) -> impl Iterator<Item = (&Arc<str>, &Ballot)> {
        self.ballots.iter().filter(|(gateway, _)| !self.is_alone || **gateway == self.me)
    }

    /// Whether all know the same backends.
    pub(super) fn is_unanimous(&self) -> bool {
        self.present().all(|(_, ballot)| ballot.digest == self.mine().digest)
    }

    pub(super) fn mine(&self) -> &Ballot {
        &self.ballots[&self.me]
    }

    pub(super) fn round(&self) -> Round<'_> {
        let mine = self.mine();
        let (mut alike, mut votes, mut unasked) = (Vec::new(), HashMap::<_, Vec<_>>::new(), HashSet::new());
        for (name, ballot) in self.present() {
            let gateway = Gateway::new(name);
            if ballot.digest == mine.digest {
                alike.push(gateway);
            }
            for (backend, vote) in &ballot.votes {
                match vote {
                    Vote::Unasked => _ = unasked.insert(&**backend),
                    vote => votes.entry(&**backend).or_default().push((gateway, vote)),
                }
            }
        }
        Round { council: self, mine, alike, votes, unasked }
    }
}

impl<'a> Round<'a> {
    /// What is to be done about `backend`.
    pub(super) fn rule(&self, backend: &str) -> Ruling {
        let (k, hash) = (self.council.k, hash_key(backend));
        // Who votes on it knows it, whatever else he knows.
        let voters = self.votes.get(backend).map_or(&[][..], Vec::as_slice);
        let is_alike = |gateway: &Gateway<'_>| self.council.ballots[gateway.name].digest == self.mine.digest;
        let others = voters.iter().map(|(gateway, _)| *gateway).filter(|gateway| !is_alike(gateway));
        let probers = first(k, self.alike.iter().copied().chain(others), hash);
        let needed = probers.len();
        let panel = first(k, voters.iter().map(|(gateway, _)| *gateway), hash);

        let is_me = |gateway: &Gateway<'_>| *gateway.name == self.council.me;
        let is_prober = probers.iter().any(is_me);
        // Who has been relieved goes on until those who come after him have something to say.
        let all_have_voted = probers.iter().all(|prober| panel.contains(prober));
        let is_mine = is_prober || (panel.iter().any(is_me) && !all_have_voted);

        let seated = || voters.iter().filter(|(gateway, _)| panel.contains(gateway)).map(|(_, vote)| *vote);
        let ill = seated().filter(|vote| vote.is_ill()).count();
        let well = seated().count() - ill;
        let cause = seated().find_map(|vote| if let Vote::Ill(cause) = vote { Some(cause) } else { None });
        let verdict = match cause {
            Some(cause) if 2 * ill > needed => Verdict::Ill { ill, of: needed, cause: Arc::clone(cause) },
            _ if 2 * well >= needed && well > 0 => Verdict::Well { well, of: needed },
            _ if self.unasked.contains(backend) => Verdict::Unasked,
            _ => Verdict::Open,
        };
        let mine_is_ill = self.mine.votes.get(backend).is_some_and(Vote::is_ill);
        let dissents = is_prober && mine_is_ill && matches!(verdict, Verdict::Well { .. });
        Ruling { is_mine, verdict, dissents }
    }
}
