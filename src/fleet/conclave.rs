use super::{
    ballot::{Ballot, Vote, digest},
    council::{Council, Verdict},
    fleets::{FLEET_TARGET, Fleet},
    order::clock,
    sentence::{is_out_of_reach, pass, reach},
    told::Told,
    wire::News,
};
use crate::{
    backend::{Backend, BackendId, HealthState, beginning},
    pool::{Member, Members},
};
use std::{collections::BTreeSet, sync::Arc, time::Instant};
use tracing::{info, warn};

/// What one run knows, and what it makes of it for the pool.
pub(super) struct Conclave<'a, T> {
    fleet: &'a Fleet<T>,
    council: Council,
    told: Told,
    /// Whom this gateway alone finds ill.
    dissents: BTreeSet<BackendId>,
    /// When etcd last answered; `None` where this gateway is alone.
    contact: Option<Instant>,
    /// When this run began, until etcd answers for the first time: others may know more of those whom this gateway finds ill.
    begun: Option<Instant>,
    /// What the share was made of.
    members: Option<Arc<Members<T>>>,
}

impl<'a, T: Clone + Send + Sync + 'static> Conclave<'a, T> {
    pub(super) fn new(fleet: &'a Fleet<T>, now: Instant) -> Self {
        let (told, dissents) = Default::default();
        let council = Council::new(Arc::clone(&fleet.name), fleet.probers);
        Self { fleet, council, told, dissents, contact: None, begun: Some(now), members: None }
    }

    /// When this gateway is alone unless etcd answers before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.contact.or(self.begun).map(|contact| contact + self.fleet.ttl)
    }

    pub(super) fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::All(ballots) => {
                self.council.forget();
                ballots.into_iter().for_each(|(name, ballot)| self.council.hear(name, Some(ballot)));
                self.answered(now);
            }
            News::Ballot(name, ballot) => self.council.hear(name, ballot),
            // It may come after this gateway was alone, on the same connection: what the others said is not told again.
            News::Alive => self.answered(now),
        }
    }

    fn answered(&mut self, now: Instant) {
        self.council.set_alone(false);
        if self.contact.is_none() {
            let gateways = self.council.gateways();
            info!(target: FLEET_TARGET, gateways, "the health checks are shared");
        }
        (self.contact, self.begun) = (Some(now), None);
    }

    /// Makes the share, the pool and the own ballot agree with what is known.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            // From here on the others count this one as gone as well.
            (self.contact, self.begun) = (None, None);
            self.council.set_alone(true);
            warn!(target: FLEET_TARGET, "etcd does not answer: this gateway checks all backends by itself");
        }
        let (pool, share) = (&self.fleet.pool, &self.fleet.share);
        // Whom nobody may have whose backends are not known here.
        let knows_all = self.contact.is_some() && self.council.is_unanimous();
        self.fleet.orders.send_if_modified(|orders| {
            let is_news = self.told.settle(pool, orders, now, clock());
            orders.tidy(|id| !knows_all || pool.get(id).is_some(), now, clock()) || is_news
        });

        let members = pool.members();
        self.council.vote(ballot(&members, &share.members()));
        self.fleet.ballot.send_if_modified(|ballot| {
            let is_news = ballot != self.council.mine();
            if is_news {
                ballot.clone_from(self.council.mine());
            }
            is_news
        });

        let round = self.council.round();
        let (mut mine, mut dissents) = (Vec::new(), BTreeSet::new());
        for (backend, target) in members.iter() {
            let ruling = round.rule(backend.id().as_str());
            if ruling.is_mine || is_out_of_reach(backend) {
                mine.push(Member::new(backend.id().clone(), target.clone()));
            }
            if ruling.dissents {
                dissents.insert(backend.id().clone());
            }
            let is_ill = matches!(ruling.verdict, Verdict::Ill { .. });
            if !is_ill || self.begun.is_none() {
                pass(backend, &ruling.verdict, now);
            }
            if !is_ill && is_out_of_reach(backend) {
                reach(backend, share.get(backend.id().as_str()).as_deref(), now);
            }
        }
        for backend in dissents.difference(&self.dissents) {
            warn!(target: FLEET_TARGET, %backend, "this gateway alone finds it ill: it may be ill itself");
        }
        self.dissents = dissents;

        let same = |members_before: &Arc<Members<T>>| Arc::ptr_eq(members_before, &members);
        let there = share.members();
        let is_there = |member: &Member<T>| there.place(member.id().as_str()).is_some();
        let asked = mine.len();
        if !self.members.as_ref().is_some_and(same) || asked != there.backends().len() || !mine.iter().all(is_there) {
            // Each id stands in the pool once.
            _ = share.replace(mine);
            self.members = Some(members);
        }
        self.tell(asked);
    }

    fn tell(&self, asked: usize) {
        let gateways = self.council.gateways();
        self.fleet.status.send_if_modified(|status| {
            let before = status.clone();
            status.is_shared = self.contact.is_some();
            (status.gateways, status.asked) = (gateways, asked);
            if !status.dissents.iter().eq(&self.dissents) {
                status.dissents = self.dissents.iter().cloned().collect();
            }
            *status != before
        });
    }
}

/// How much of a cause others are told, in bytes: those of all that are ill go into one value of etcd, and a backend may have
/// a word in its own.
const CAUSE: usize = 120;

/// What the checks of the share have found out.
fn ballot<T>(members: &Members<T>, share: &Members<T>) -> Ballot {
    let vote = |backend: &Arc<Backend>| {
        let health = backend.health();
        // One that nobody has asked yet has no cause.
        let cause = health.cause()?;
        let vote = match health.state() {
            HealthState::Healthy => Vote::Well,
            // The checker has taken it out before the first check: that says nothing to others, who may know more.
            HealthState::Unhealthy if backend.stats().checks_passed() + backend.stats().checks_failed() == 0 => {
                Vote::Unasked
            }
            HealthState::Unhealthy => Vote::Ill(beginning(cause, CAUSE).into()),
            _ => return None,
        };
        Some((backend.id().as_str().into(), vote))
    };
    let digest = digest(members.backends().iter().map(|backend| backend.id()));
    Ballot { digest, votes: share.backends().iter().filter_map(vote).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{discover::EtcdConfig, pool::BackendPool};
    use std::{collections::BTreeMap, time::Duration};

    #[test]
    fn of_a_long_cause_others_are_told_the_beginning() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let share = BackendPool::from_members([Member::new("a", ()), Member::new("b", ())]).unwrap();
        for (id, cause) in [("a", &*"é".repeat(1_000)), ("b", "refused")] {
            let backend = share.get(id).unwrap();
            backend.stats().checked(false);
            backend.mark_unhealthy(cause, now);
        }
        let votes = ballot(&share.members(), &share.members()).votes;
        assert_eq!([&votes["a"], &votes["b"]], [&Vote::Ill("é".repeat(60).into()), &Vote::Ill("refused".into())]);
    }

    #[test]
    fn an_answer_of_etcd_that_comes_too_late_makes_the_others_count_again() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pool = BackendPool::from_members([Member::new("a", ())]).unwrap();
        let fleet = Fleet::new(&pool, EtcdConfig::new([""; 0]), "/gateways/").ttl(Duration::from_secs(10));
        let mut conclave = Conclave::new(&fleet, start);
        let digest = digest(pool.members().backends().iter().map(|backend| backend.id()));
        let other = || Ballot { digest, votes: [("a".into(), Vote::Ill("refused".into()))].into() };
        let mut settled = |news: Option<News>, now| {
            news.into_iter().for_each(|news| conclave.hear(news, now));
            conclave.settle(now);
            let status = fleet.status();
            (status.is_shared, status.gateways)
        };
        assert_eq!(settled(Some(News::All(BTreeMap::from([("other".into(), other())]))), start), (true, 2));
        assert_eq!(settled(None, at(10)), (false, 1));
        // Nor does what is heard meanwhile.
        assert_eq!(settled(Some(News::Ballot("third".into(), Some(other()))), at(11)), (false, 1));
        assert_eq!(settled(Some(News::Alive), at(12)), (true, 3));
    }
}
