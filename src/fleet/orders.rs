use super::order::Order;
use crate::backend::Weight;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// The orders that are known, and where etcd is to be told of them. Pure.
///
/// What is heard and what is said is joined, so nothing that is older ever takes the place of something newer. What etcd
/// lacks is told to it: what was said here while nobody listened, and what it has lost.
///
/// An order that nobody needs, because it wants nothing or no gateway has its backend, is taken out when that has been so
/// for [`IDLE`] and it is old. Until then it keeps those from undoing it who were cut off and know an older one.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    known: BTreeMap<Arc<str>, Order>,
    /// Where etcd is not known to agree.
    untold: BTreeSet<Arc<str>>,
    /// Since when nobody needs it.
    idle: HashMap<Arc<str>, Instant>,
    /// What backends weighed here before an order said another weight: what they weigh again when it is taken out.
    displaced: HashMap<Arc<str>, Weight>,
}

/// A backend that is gone for less may only be restarted.
const IDLE: Duration = Duration::from_secs(3_600);

/// What to make of what is found in etcd.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Revision {
    Keep,
    Put(Order),
    TakeOut,
}

/// What is to become of `found`, which stands in etcd, where `known` is known.
pub(super) fn revise(known: Option<Order>, found: Option<Order>, clock: u64) -> Revision {
    match (known, found) {
        (Some(known), found) => {
            let order = found.unwrap_or_default().dated(known, clock).join(known);
            if Some(order) == found { Revision::Keep } else { Revision::Put(order) }
        }
        // Somebody may have said something since.
        (None, Some(found)) if found.dated(Order::default(), clock).is_old(clock) => Revision::TakeOut,
        (None, _) => Revision::Keep,
    }
}

impl Orders {
    pub(super) fn of(&self, backend: &str) -> Order {
        self.known.get(backend).copied().unwrap_or_default()
    }

    /// Something is said here. Returns whether it is news.
    pub(super) fn say(&mut self, backend: Arc<str>, order: Order) -> bool {
        let known = self.of(&backend);
        let order = known.join(order);
        let is_news = order != known;
        if is_news {
            self.known.insert(Arc::clone(&backend), order);
            self.untold.insert(backend);
        }
        is_news
    }

    /// A backend that weighed `before` weighs something else now, because an order says so.
    pub(super) fn displace(&mut self, backend: Arc<str>, before: Weight) {
        self.displaced.insert(backend, before);
    }

    /// What `backend` is to weigh again, where no order says any more what it should. Told once.
    pub(super) fn replaced(&mut self, backend: &str) -> Option<Weight> {
        if self.of(backend).weight().is_some() { None } else { self.displaced.remove(backend) }
    }

    /// What stands in etcd since now, or no longer does.
    pub(super) fn hear(&mut self, backend: Arc<str>, found: Option<Order>, clock: u64) {
        let known = self.of(&backend);
        let order = match found {
            Some(found) => found.dated(known, clock).join(known),
            // It was taken out here, or what was said here is still to be told.
            None if !self.known.contains_key(&backend) || self.untold.contains(&backend) => return,
            None if self.is_over(&backend, clock) => {
                self.known.remove(&backend);
                return;
            }
            // Somebody has taken it out by hand, for all.
            None => known.then_nothing(clock),
        };
        if Some(order) == found {
            self.untold.remove(&backend);
        } else {
            self.untold.insert(Arc::clone(&backend));
        }
        self.known.insert(backend, order);
    }

    /// All that stands there. What does not was lost, unless nobody needs it: then another has taken it out.
    pub(super) fn hear_all(&mut self, found: BTreeMap<Arc<str>, Order>, clock: u64) {
        let missing: Vec<_> = self.known.keys().filter(|backend| !found.contains_key(*backend)).cloned().collect();
        for backend in missing {
            if self.is_over(&backend, clock) {
                self.known.remove(&backend);
            } else {
                self.untold.insert(backend);
            }
        }
        found.into_iter().for_each(|(backend, order)| self.hear(backend, Some(order), clock));
    }

    /// A backend of which etcd is to be told, and what; `None` where its order is to be taken out.
    pub(super) fn untold(&self) -> Option<(Arc<str>, Option<Order>)> {
        let backend = self.untold.first()?;
        Some((Arc::clone(backend), self.known.get(backend).copied()))
    }

    /// Etcd was told, and this is what stands there now.
    pub(super) fn told(&mut self, backend: Arc<str>, stands: Option<Order>, clock: u64) {
        match stands {
            Some(_) => self.hear(backend, stands, clock),
            None if !self.known.contains_key(&backend) => _ = self.untold.remove(&backend),
            None => {}
        }
    }

    /// Notes which orders nobody needs, where `is_there` says which backends some gateway has or may have, and forgets those
    /// that are over. Returns whether etcd is to be told.
    pub(super) fn tidy(&mut self, is_there: impl Fn(&str) -> bool, now: Instant, clock: u64) -> bool {
        self.idle.retain(|backend, _| self.known.contains_key(backend));
        // The others have their weight back, or are gone.
        self.displaced.retain(|backend, _| self.known.get(backend).is_some_and(|order| order.weight().is_some()));
        for (backend, order) in &self.known {
            if order.wants_nothing() || !is_there(backend) {
                self.idle.entry(Arc::clone(backend)).or_insert(now);
            } else {
                self.idle.remove(backend);
            }
        }
        let is_over = |(backend, since): &(&Arc<str>, &Instant)| **since + IDLE <= now && self.is_over(backend, clock);
        let over: Vec<_> = self.idle.iter().filter(is_over).map(|(backend, _)| Arc::clone(backend)).collect();
        for backend in &over {
            self.known.remove(backend);
            self.untold.insert(Arc::clone(backend));
        }
        !over.is_empty()
    }

    fn is_over(&self, backend: &str, clock: u64) -> bool {
        self.idle.contains_key(backend) && self.of(backend).is_old(clock)
    }
}

#[cfg(test)]
mod tests;
