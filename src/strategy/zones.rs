use super::{GroupState, Grouping, hash_key};
use crate::backend::Backend;
use std::{collections::HashMap, sync::Arc};

/// Groups by [zone](crate::backend::Locality::zone): a request stays in the zone that it comes from, as far as that zone's
/// backends are enough for it.
///
/// Balancers stand in zones too, and each zone is the source of a part of the traffic. A zone with as large a part of the
/// backends' weight keeps all of its own. One with less keeps what it has the backends for, and sends the rest where
/// backends are left over, in proportion to how much is. So every backend gets the same load, and no more crosses a
/// border than must. A backend without a zone counts as one far away.
#[derive(Clone, Debug)]
pub struct Zones {
    local: u32,
    sources: Option<HashMap<u32, f64>>,
}

impl Zones {
    /// For a balancer in the zone `local`, where all zones are sources of as much traffic.
    pub fn new(local: &str) -> Self {
        Self { local: number(Some(local)), sources: None }
    }

    /// What each zone is the source of, in any unit: the number of its balancers, say. A zone that is not named is the
    /// source of nothing; what is negative or no number counts as nothing.
    pub fn sources<'a>(self, sources: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let source = |(zone, part): (&str, f64)| (number(Some(zone)), if part > 0.0 { part } else { 0.0 });
        Self { sources: Some(sources.into_iter().map(source).collect()), ..self }
    }
}

/// The number of a zone's group: a hash of its name, and the greatest for none.
fn number(zone: Option<&str>) -> u32 {
    zone.map_or(u32::MAX, |zone| (hash_key(zone) >> 33) as u32)
}

impl Grouping for Zones {
    fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32> {
        members.iter().map(|backend| number(backend.locality().zone.as_deref())).collect()
    }

    fn shares(&self, groups: &[GroupState]) -> Vec<f64> {
        // Where nothing weighs anything, backends count.
        let weighs = groups.iter().any(|zone| zone.weight > 0.0);
        let size = |zone: &GroupState| if weighs { zone.weight } else { zone.eligible as f64 };
        let source = |zone: &GroupState| match &self.sources {
            Some(sources) => sources.get(&zone.group).copied().unwrap_or_default(),
            None => f64::from(u8::from(zone.group != u32::MAX)),
        };
        let part = |of: &dyn Fn(&GroupState) -> f64| -> Vec<f64> {
            let total: f64 = groups.iter().map(of).sum();
            groups.iter().map(|zone| if total > 0.0 { of(zone) / total } else { 0.0 }).collect()
        };
        let (capacity, traffic) = (part(&size), part(&source));
        let Some(local) = groups.iter().position(|zone| zone.group == self.local) else { return capacity };
        let keeps = if traffic[local] > 0.0 { (capacity[local] / traffic[local]).min(1.0) } else { 1.0 };
        // What other zones have beyond their own traffic; there is some where one has too little.
        let over: Vec<f64> =
            capacity.iter().zip(&traffic).map(|(capacity, traffic)| (capacity - traffic).max(0.0)).collect();
        let all_over: f64 = over.iter().sum();
        let rest = |over: &f64| if all_over > 0.0 { (1.0 - keeps) * over / all_over } else { 0.0 };
        over.iter().enumerate().map(|(zone, over)| if zone == local { keeps } else { rest(over) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(zones: &Zones, weights: &[(&str, f64)]) -> Vec<f64> {
        let zone =
            |&(zone, weight): &(&str, f64)| GroupState { group: number(Some(zone)), members: 9, eligible: 9, weight };
        let shares = zones.shares(&weights.iter().map(zone).collect::<Vec<_>>());
        shares.iter().map(|share| (share * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn a_zone_keeps_what_it_has_the_backends_for_and_sends_the_rest_where_some_are_left_over() {
        let zones = Zones::new("a");
        assert!(shares(&zones, &[("a", 1.0), ("b", 1.0), ("c", 1.0)]) == [1.0, 0.0, 0.0]);
        assert!(shares(&zones, &[("a", 2.0), ("b", 1.0), ("c", 1.0)]) == [1.0, 0.0, 0.0]);
        // A sixth of the backends, a third of the traffic; b has a sixth too much.
        assert!(shares(&zones, &[("a", 1.0), ("b", 3.0), ("c", 2.0)]) == [0.5, 0.5, 0.0]);
        assert!(shares(&zones, &[("a", 0.0), ("b", 1.0), ("c", 1.0)]) == [0.0, 0.5, 0.5]);
        // In a zone that has none, and with nothing that weighs.
        assert!(shares(&zones, &[("b", 3.0), ("c", 1.0)]) == [0.75, 0.25]);
        assert!(shares(&zones, &[("a", 0.0), ("b", 0.0)]) == [1.0, 0.0]);
        assert!(shares(&zones, &[]).is_empty());
    }

    #[test]
    fn every_backend_gets_the_same_load_whatever_the_zones() {
        let (weights, sources) = ([("a", 1.0), ("b", 3.0), ("c", 4.0)], [("a", 5.0), ("b", 2.0), ("c", 1.0)]);
        let mut load = [0.0; 3];
        for (zone, part) in sources {
            let shares = shares(&Zones::new(zone).sources(sources), &weights);
            load.iter_mut().zip(shares).for_each(|(load, share)| *load += share * part);
        }
        for (load, (_, weight)) in load.into_iter().zip(weights) {
            assert!((load / weight - 1.0).abs() < 1e-5, "{load} for {weight}");
        }
    }
}
