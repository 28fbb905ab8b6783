use crate::{
    backend::{Admin, Backend, BackendId, Weight},
    pool::BackendPool,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Instant,
};
use tokio::sync::watch;

/// What the operator wants of a backend, as it stands in etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Order {
    #[serde(default)]
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Enabled,
    Draining,
    Disabled,
}

impl Order {
    pub(super) fn weight(self, weight: Weight) -> Self {
        Self { weight: Some(weight.get()), ..self }
    }

    fn admin(self) -> Admin {
        match self.state {
            State::Enabled => Admin::Enabled,
            State::Draining => Admin::Draining,
            State::Disabled => Admin::Disabled,
        }
    }

    pub(super) fn state(self, admin: Admin) -> Self {
        let state = match admin {
            Admin::Enabled => State::Enabled,
            Admin::Draining => State::Draining,
            Admin::Disabled => State::Disabled,
        };
        Self { state, ..self }
    }
}

/// What was said here, and is not in etcd yet.
pub(super) type Pending = BTreeMap<Arc<str>, Order>;

/// What all gateways are to do, and what was done here.
#[derive(Debug, Default)]
pub(super) struct Orders {
    known: BTreeMap<Arc<str>, Order>,
    seen: HashMap<BackendId, (Weak<Backend>, Admin)>,
}

impl Orders {
    /// What stands in etcd, or no longer does: then nothing is wanted of it.
    pub(super) fn hear(&mut self, backend: Arc<str>, order: Option<Order>, pending: &watch::Sender<Pending>) {
        if !pending.borrow().contains_key(&backend) {
            self.known.insert(backend, order.unwrap_or_default());
        }
    }

    /// All that stands there. Nobody takes an order out of it, so what is missing was lost, and is put back.
    pub(super) fn hear_all(&mut self, orders: BTreeMap<Arc<str>, Order>, pending: &watch::Sender<Pending>) {
        let lost = |(backend, _): &(&Arc<str>, &Order)| !orders.contains_key(*backend);
        let lost: Vec<_> = self.known.iter().filter(lost).map(|(backend, order)| (backend.clone(), *order)).collect();
        if !lost.is_empty() {
            pending.send_modify(|pending| {
                lost.into_iter().for_each(|(backend, order)| {
                    pending.entry(backend).or_insert(order);
                })
            });
        }
        orders.into_iter().for_each(|(backend, order)| self.hear(backend, Some(order), pending));
    }

    /// Makes the pool agree with what was said elsewhere, and notes what was said here.
    pub(super) fn settle<T: Clone + Send + Sync + 'static>(
        &mut self,
        pool: &BackendPool<T>,
        pending: &watch::Sender<Pending>,
        now: Instant,
    ) {
        self.known.extend(pending.borrow().iter().map(|(backend, order)| (Arc::clone(backend), *order)));
        let members = pool.members();
        for backend in members.backends() {
            let known = self.known.get(backend.id().as_str()).copied();
            // One that has left and come back under the same id is another one, of which nobody has said anything here.
            let same = |(seen, _): &&(Weak<Backend>, Admin)| std::ptr::eq(seen.as_ptr(), Arc::as_ptr(backend));
            let seen = self.seen.get(backend.id()).filter(same).map_or(Admin::Enabled, |(_, admin)| *admin);
            let mut admin = backend.admin();
            if admin != seen {
                let order = known.unwrap_or_default().state(admin);
                self.known.insert(backend.id().as_str().into(), order);
                pending.send_modify(|pending| _ = pending.insert(backend.id().as_str().into(), order));
            } else if let Some(order) = known
                && order.admin() != admin
            {
                admin = order.admin();
                backend.administer(admin, now);
            }
            self.seen.insert(backend.id().clone(), (Arc::downgrade(backend), admin));
            if let Some(weight) = known.and_then(|order| Weight::new(order.weight?).ok())
                && backend.weight() != weight.get()
            {
                pool.set_weight(backend.id().as_str(), weight);
            }
        }
        self.seen.retain(|_, (backend, _)| backend.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::HealthState, pool::Member};

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn gateway() -> (BackendPool<()>, Orders, watch::Sender<Pending>) {
        let pool = BackendPool::from_members([Member::new("a", ()), Member::new("b", ())]).unwrap();
        (pool, Orders::default(), watch::Sender::default())
    }

    /// What one gateway has said reaches another, by way of what stands in etcd.
    fn tell(from: &watch::Sender<Pending>, to: &mut Orders, pending: &watch::Sender<Pending>) {
        from.send_replace(Pending::new()).into_iter().for_each(|(id, order)| to.hear(id, Some(order), pending));
    }

    #[test]
    fn what_is_said_at_one_gateway_is_done_at_the_other_and_taken_back_by_either() {
        let (one, mut at_one, from_one) = gateway();
        let (other, mut at_other, from_other) = gateway();
        let state = |pool: &BackendPool<()>| pool.get("a").unwrap().health().state();
        for (say, expected) in [(Admin::Draining, HealthState::Draining), (Admin::Disabled, HealthState::Disabled)] {
            one.get("a").unwrap().administer(say, now());
            at_one.settle(&one, &from_one, now());
            tell(&from_one, &mut at_other, &from_other);
            at_other.settle(&other, &from_other, now());
            assert_eq!(state(&other), expected);
            // It is nobody's news any more.
            assert!(from_other.borrow().is_empty() && from_one.borrow().is_empty());
        }
        other.get("a").unwrap().administer(Admin::Enabled, now());
        at_other.settle(&other, &from_other, now());
        tell(&from_other, &mut at_one, &from_one);
        at_one.settle(&one, &from_one, now());
        assert_eq!(state(&one), HealthState::Healthy);
    }

    #[test]
    fn who_comes_back_is_drained_as_he_was_and_a_weight_that_was_set_goes_before_what_a_source_says() {
        let (pool, mut orders, pending) = gateway();
        let order = Order::default().state(Admin::Draining).weight(Weight::new(3.0).unwrap());
        orders.hear("a".into(), Some(order), &pending);
        for _ in 0..2 {
            orders.settle(&pool, &pending, now());
            let backend = pool.get("a").unwrap();
            assert_eq!((backend.health().state(), backend.weight()), (HealthState::Draining, 3.0));
            pool.remove("a");
            pool.insert(Member::new("a", ())).unwrap();
        }
        orders.settle(&pool, &pending, now());
        pool.set_weight("a", Weight::ONE);
        orders.settle(&pool, &pending, now());
        assert_eq!(pool.get("a").unwrap().weight(), 3.0);
        assert!(pending.borrow().is_empty());
    }

    #[test]
    fn an_etcd_that_has_lost_its_data_takes_nothing_back_and_is_told_again() {
        let (pool, mut orders, pending) = gateway();
        let order = Order::default().state(Admin::Disabled);
        orders.hear_all([("a".into(), order)].into(), &pending);
        orders.settle(&pool, &pending, now());
        orders.hear_all(BTreeMap::new(), &pending);
        orders.settle(&pool, &pending, now());
        assert_eq!(pool.get("a").unwrap().health().state(), HealthState::Disabled);
        assert_eq!(pending.borrow().get("a"), Some(&order));
        // What was said here while nobody listened goes before what stands there.
        pool.enable("a");
        orders.settle(&pool, &pending, now());
        orders.hear_all([("a".into(), order)].into(), &pending);
        orders.settle(&pool, &pending, now());
        assert_eq!(pool.get("a").unwrap().health().state(), HealthState::Healthy);
    }
}
