use super::{
    DISCOVER_TARGET, Discoverer, Endpoint, Failure, Update,
    departures::Departures,
    ledger::{Ledger, Settled},
    run::now,
    update::News,
};
use crate::{
    backend::{BackendId, Weight},
    error::{BoxError, root_cause},
};
use std::{collections::HashMap, time::Instant};
use tracing::{info, warn};

/// Makes the pool agree with the ledger, and tells whoever wants to know.
pub(super) struct Reconciler<'a, T: Clone + Send + Sync + 'static, S> {
    discoverer: &'a Discoverer<T, S>,
    departures: Departures<T>,
    /// The weight of each, as the source said it last. What it says again is no news: somebody else may have set another since.
    weights: HashMap<BackendId, Weight>,
}

/// What its health says of one that its source drains.
const DRAINED: &str = "its source drains it";

impl<'a, T: Clone + Send + Sync + 'static, S> Reconciler<'a, T, S> {
    pub(super) fn new(discoverer: &'a Discoverer<T, S>) -> Self {
        Self { discoverer, departures: Departures::new(discoverer.pool.clone()), weights: HashMap::new() }
    }

    /// Puts into the pool who counts as there before the source has said who is.
    pub(super) fn begin(&mut self, ledger: &mut Ledger<T>) {
        let first = self.discoverer.first.iter().cloned().map(Into::into).collect();
        let Some(left) = ledger.assume(first) else { return };
        let now = now();
        self.put(ledger, now);
        left.into_iter().for_each(|id| self.departures.begin(id, self.discoverer.settings.drain, now));
    }

    /// When to look next whether those who have left are done.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.departures.due(now)
    }

    /// Removes those who have left and are done.
    pub(super) fn look(&mut self, now: Instant) {
        self.departures.look(now);
    }

    /// Takes in what the source says.
    pub(super) fn told(&mut self, ledger: &mut Ledger<T>, update: Update<T>) {
        let Update { news, version, mut skipped } = update;
        let (now, is_new) = (now(), !matches!(news, News::Unchanged));
        let mut settled = ledger.hear(news, &self.discoverer.settings.guard, now);
        skipped.extend(settled.twice.drain(..).map(|id| format!("{id}: listed more than once")));
        if is_new {
            self.put(ledger, now);
        }
        self.settle(ledger, settled);

        // What is told is told with no lock held: who listens may want to know the status.
        let before = self.discoverer.status();
        let source = &*before.source;
        for entry in skipped.iter().filter(|entry| !before.skipped.contains(entry)) {
            warn!(target: DISCOVER_TARGET, source, entry, "skipped");
        }
        if before.failures > 0 {
            info!(target: DISCOVER_TARGET, source, failures = before.failures, "the source answers again");
        }
        self.discoverer.status.send_modify(|status| {
            status.last_success = Some(now);
            status.failures = 0;
            status.failing_since = None;
            if is_new {
                status.version = version;
                status.members = ledger.listed().len();
                status.skipped = skipped.into();
            }
        });
    }

    /// Takes in that what the source said last holds.
    pub(super) fn affirmed(&mut self, ledger: &mut Ledger<T>) {
        let settled = ledger.review(&self.discoverer.settings.guard, now());
        self.settle(ledger, settled);
    }

    /// Puts into the pool who is there.
    fn put(&mut self, ledger: &Ledger<T>, now: Instant) {
        let pool = &self.discoverer.pool;
        self.weights.retain(|id, _| pool.get(id.as_str()).is_some());
        let member = |endpoint: &Endpoint<T>| {
            let member = endpoint.member.clone();
            let is_news = self.weights.insert(member.id().clone(), member.said_weight()) != Some(member.said_weight());
            if is_news { member } else { member.keep_weight() }
        };
        let members: Vec<_> = ledger.listed().map(member).collect();
        // Each id stands in the ledger once.
        _ = pool.update(members, []);
        for endpoint in ledger.listed() {
            self.departures.recall(endpoint.id());
            if let Some(backend) = self.discoverer.pool.get(endpoint.id().as_str()) {
                backend.leave(endpoint.is_draining.then_some(DRAINED), now);
            }
        }
    }

    /// Lets go of those who have left.
    fn settle(&mut self, ledger: &Ledger<T>, settled: Settled) {
        let Settled { left, doubted, .. } = settled;
        let now = now();
        for id in left {
            self.departures.begin(id, self.discoverer.settings.drain, now);
        }
        self.departures.look(now);
        self.discoverer.status.send_modify(|status| status.doubted = ledger.doubted());
        if let Some(first) = doubted.first() {
            let (source, missing, listed) = (self.discoverer.status().source, doubted.len(), ledger.listed().len());
            warn!(
                target: DISCOVER_TARGET, source = &*source, missing, listed, %first,
                "too many are missing at once: they stay until that is confirmed"
            );
        }
    }

    /// Takes in that the source has failed. How often it has in a row.
    pub(super) fn failed(&self, error: &BoxError) -> u32 {
        let (before, cause) = (self.discoverer.status(), root_cause(&**error));
        let failures = before.failures.saturating_add(1);
        warn!(
            target: DISCOVER_TARGET, source = &*before.source, cause, failures, members = before.members,
            "the source failed: the members stay"
        );
        self.discoverer.status.send_modify(|status| {
            status.failures = failures;
            status.failing_since.get_or_insert_with(now);
            status.last_failure = Some(Failure { when: now(), cause: cause.into() });
        });
        failures
    }

    /// Takes in that the source has nothing more to say.
    pub(super) fn ended(&self) {
        self.discoverer.status.send_modify(|status| status.has_ended = true);
    }
}
