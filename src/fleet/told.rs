use super::{order::Order, orders::Orders};
use crate::{
    backend::{Admin, Backend, BackendId, Weight},
    pool::BackendPool,
};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Instant,
};

/// What the backends of a pool were told to do, so that it is noticed when the host tells them something else.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<BackendId, (Weak<Backend>, Admin)>);

impl Told {
    /// Notes in `orders` what the host has said, and makes `pool` agree with them. Returns whether there is news for others.
    pub(super) fn settle<T: Clone + Send + Sync + 'static>(
        &mut self,
        pool: &BackendPool<T>,
        orders: &mut Orders,
        now: Instant,
        clock: u64,
    ) -> bool {
        let mut is_news = false;
        for backend in pool.members().backends() {
            let id = backend.id();
            let (admin, since) = backend.admin();
            // One that has left and come back under the same id is another one.
            let same = |(seen, _): &&(Weak<Backend>, Admin)| std::ptr::eq(seen.as_ptr(), Arc::as_ptr(backend));
            let known = orders.of(id.as_str());
            let said = match self.0.get(id).filter(same) {
                Some((_, told)) => (*told != admin).then(|| known.then_state(admin, clock)),
                // Others may have said something since.
                None => since.map(|since| Order::state(admin, clock.saturating_sub(milliseconds(now, since)))),
            };
            is_news |= said.is_some_and(|said| orders.say(id.as_str().into(), said));
            let order = orders.of(id.as_str());
            if order.admin() != admin {
                backend.administer(order.admin(), now);
            }
            self.0.insert(id.clone(), (Arc::downgrade(backend), order.admin()));
            let wanted = order.weight().or_else(|| orders.replaced(id.as_str()));
            if let Some(weight) = wanted.filter(|weight| backend.weight() != weight.get()) {
                if order.weight().is_some() {
                    orders.displace(id.as_str().into(), Weight::new(backend.weight()).unwrap_or_default());
                }
                pool.set_weight(id.as_str(), weight);
            }
        }
        self.0.retain(|_, (backend, _)| backend.strong_count() > 0);
        is_news
    }
}

fn milliseconds(now: Instant, since: Instant) -> u64 {
    now.saturating_duration_since(since).as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::HealthState, discover::EtcdConfig, fleet::Fleet, pool::Member};
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn pool() -> BackendPool<()> {
        BackendPool::from_members([Member::new("a", ()), Member::new("b", ())]).unwrap()
    }

    fn state(pool: &BackendPool<()>) -> HealthState {
        pool.get("a").unwrap().health().state()
    }

    /// What one gateway has said reaches another, by way of what stands in etcd.
    fn tell(from: &mut Orders, to: &mut Orders) {
        while let Some((backend, order)) = from.untold() {
            from.told(Arc::clone(&backend), order, 0);
            to.hear(backend, order, 0);
        }
    }

    #[test]
    fn what_is_said_at_one_gateway_is_done_at_the_other_and_taken_back_by_either() {
        let (one, other) = (pool(), pool());
        let [(mut told_one, mut of_one), (mut told_other, mut of_other)] = <[(Told, Orders); 2]>::default();
        told_one.settle(&one, &mut of_one, now(), 1);
        for (say, expected) in [(Admin::Draining, HealthState::Draining), (Admin::Disabled, HealthState::Disabled)] {
            one.get("a").unwrap().administer(say, now());
            assert!(told_one.settle(&one, &mut of_one, now(), 2));
            tell(&mut of_one, &mut of_other);
            assert!(!told_other.settle(&other, &mut of_other, now(), 2));
            assert_eq!(state(&other), expected);
        }
        other.get("a").unwrap().administer(Admin::Enabled, now());
        assert!(told_other.settle(&other, &mut of_other, now(), 1));
        tell(&mut of_other, &mut of_one);
        told_one.settle(&one, &mut of_one, now(), 2);
        assert_eq!(state(&one), HealthState::Healthy);
    }

    #[test]
    fn who_comes_back_is_drained_as_he_was_and_a_weight_that_was_set_goes_before_what_a_source_says() {
        let (pool, (mut told, mut orders)) = (pool(), <(Told, Orders)>::default());
        let order = Order::state(Admin::Draining, 1).then_weight(Weight::new(3.0).unwrap(), 1);
        orders.hear("a".into(), Some(order), 1);
        for _ in 0..2 {
            assert!(!told.settle(&pool, &mut orders, now(), 1));
            assert_eq!((state(&pool), pool.get("a").unwrap().weight()), (HealthState::Draining, 3.0));
            pool.remove("a");
            pool.insert(Member::new("a", ())).unwrap();
        }
        told.settle(&pool, &mut orders, now(), 1);
        pool.set_weight("a", Weight::ONE);
        told.settle(&pool, &mut orders, now(), 1);
        assert_eq!(pool.get("a").unwrap().weight(), 3.0);
        assert_eq!(orders.untold(), None);
    }

    #[test]
    fn a_weight_that_is_taken_out_is_what_the_source_says_again_wherever_it_was_set() {
        let weight = |weight| Weight::new(weight).unwrap();
        for is_set_here in [true, false] {
            let (pool, mut told) = (pool(), Told::default());
            let fleet = Fleet::new(&pool, EtcdConfig::new([""; 0]), "/gateways/");
            let mut orders = match is_set_here {
                true => {
                    fleet.set_weight("a", weight(2.0));
                    fleet.set_weight("a", weight(3.0));
                    fleet.orders.borrow().clone()
                }
                false => Orders::default(),
            };
            let order = Order::default().then_weight(weight(3.0), u64::MAX - 1);
            orders.hear("a".into(), Some(order), 1);
            let mut settled = |orders: &mut Orders| {
                told.settle(&pool, orders, now(), 1);
                orders.tidy(|_| true, now(), 1);
                pool.get("a").unwrap().weight()
            };
            assert_eq!(settled(&mut orders), 3.0);
            orders.hear("a".into(), None, 1);
            assert_eq!(settled(&mut orders), 1.0, "{is_set_here}");
            // From then on it is the source's again.
            pool.set_weight("a", weight(5.0));
            assert_eq!(settled(&mut orders), 5.0);
        }
    }

    #[test]
    fn what_the_host_said_before_this_began_is_as_old_as_it_is() {
        let (start, second) = (now(), Duration::from_secs(1));
        for (said, expected) in [(1_500, HealthState::Healthy), (500, HealthState::Draining)] {
            let (pool, (mut told, mut orders)) = (pool(), <(Told, Orders)>::default());
            pool.get("a").unwrap().administer(Admin::Draining, start);
            orders.hear("a".into(), Some(Order::state(Admin::Enabled, said)), said);
            told.settle(&pool, &mut orders, start + second, 2_000);
            assert_eq!(state(&pool), expected);
        }
    }
}
