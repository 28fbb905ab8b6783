use super::{
    Backend, Backends, MOST, Service,
    addresses::{Known, Merged, ask},
    answer::{Answer, First, Kind, Records},
    resolver::Resolver,
    settings::Settings,
};
use crate::error::BoxError;
use futures_util::stream::{self, StreamExt};
use hickory_resolver::proto::rr::{Name, rdata::SRV};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

/// Few enough to be no burden for a name server, many enough that a thousand targets take no minute.
const AT_ONCE: usize = 16;

/// The services of `name`, with the addresses of their targets.
///
/// # Errors
///
/// Where there is no such name, or nobody can say; or nobody can say where any of the targets is.
pub(super) async fn look_up(
    resolver: &Resolver,
    settings: &Settings,
    name: &Name,
    known: &mut Known,
) -> Result<Backends, BoxError> {
    let Records { mut services, mut lifetime, mut skipped, .. } = records(resolver, settings, name).await?;
    // A service that is not to be had says so by a target without a name.
    services.retain(|service| !service.target.is_root());
    if services.len() > MOST {
        skipped.push(format!("more than {MOST} records: {} are left out", services.len() - MOST));
        services.truncate(MOST);
    }

    let targets: BTreeSet<Name> = services.iter().map(|service| service.target.clone()).collect();
    let asked: Vec<_> =
        targets.iter().map(async |target| (target, ask(resolver, settings.families, target).await)).collect();
    let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    let (mut addresses, mut failures) = (HashMap::new(), Vec::new());
    for (target, answers) in answers {
        let Merged { answer, failure } = known.merge(target, answers);
        failures.extend(failure);
        match answer {
            Answer::Records(records) => {
                lifetime = lifetime.min(records.lifetime);
                skipped.extend(records.skipped);
                addresses.insert(target, records.addresses);
            }
            Answer::NoSuchName => skipped.push(format!("the target {target} does not exist")),
        }
    }
    if failures.len() == targets.len()
        && let Some(first) = failures.into_iter().next()
    {
        return Err(first);
    }
    let list = backends(&services, &addresses, &mut skipped);
    known.retain(|name| targets.contains(name));
    Ok(Backends { list, lifetime, skipped })
}

async fn records(resolver: &Resolver, settings: &Settings, name: &Name) -> Result<Records, BoxError> {
    let mut first = First::default();
    for name in resolver.names(name) {
        if let Some(records) = first.of(resolver.ask(&name, Kind::Srv).await?) {
            return Ok(records);
        }
    }
    first.otherwise(settings, name)
}

/// The backends that these services are. Pure.
fn backends(services: &[SRV], addresses: &HashMap<&Name, Vec<IpAddr>>, skipped: &mut Vec<String>) -> Vec<Backend> {
    // In each tier those of weight 0 share a weight of 1: by the algorithm of RFC 2782 one of them is taken where the draw from
    // 0 to the sum of all weights is 0.
    let mut weightless = BTreeMap::<u16, u32>::new();
    for service in services.iter().filter(|service| service.weight == 0) {
        *weightless.entry(service.priority).or_default() += 1;
    }
    let mut list = Vec::new();
    for SRV { priority, weight, port, target, .. } in services {
        if *port == 0 {
            skipped.push(format!("{target}: port 0"));
            continue;
        }
        let weight = match weight {
            0 => 1.0 / f64::from(weightless.get(priority).copied().unwrap_or(1)),
            weight => f64::from(*weight),
        };
        let addresses = addresses.get(target).map_or(&[][..], Vec::as_slice);
        let weight = weight / addresses.len() as f64;
        list.extend(addresses.iter().map(|address| Backend {
            address: SocketAddr::new(*address, *port),
            service: Some(Service { weight, priority: *priority }),
        }));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// Port, weight and tier of each address.
    fn come_to(services: &[(u16, u16, u16, &str)]) -> (Vec<(String, f64, u16)>, Vec<String>) {
        let services: Vec<_> = services
            .iter()
            .map(|(priority, weight, port, target)| SRV::new(*priority, *weight, *port, name(target)))
            .collect();
        let (a, b) = (name("a."), name("b."));
        let addresses = HashMap::from([
            (&a, vec!["10.0.0.1".parse().unwrap()]),
            (&b, vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]),
        ]);
        let mut skipped = Vec::new();
        let list = backends(&services, &addresses, &mut skipped);
        let told = |backend: Backend| {
            let Service { weight, priority } = backend.service.unwrap();
            (backend.address.to_string(), weight, priority)
        };
        (list.into_iter().map(told).collect(), skipped)
    }

    #[test]
    fn a_target_with_two_addresses_has_its_weight_once() {
        let (list, skipped) = come_to(&[(0, 10, 80, "a."), (1, 3, 81, "b."), (1, 1, 0, "a."), (1, 1, 82, "gone.")]);
        let expected = [("10.0.0.1:80", 10.0, 0), ("10.0.0.2:81", 1.5, 1), ("[fd00::2]:81", 1.5, 1)];
        assert_eq!(list, expected.map(|(address, weight, tier)| (address.to_owned(), weight, tier)));
        assert_eq!(skipped, ["a.: port 0"]);
    }

    #[test]
    fn those_of_weight_0_share_what_one_of_weight_1_has() {
        let weights = |services: &[_]| come_to(services).0.into_iter().map(|(_, weight, _)| weight).collect::<Vec<_>>();
        // Alone in their tier they are equal.
        assert_eq!(weights(&[(0, 0, 80, "a."), (0, 0, 81, "a.")]), [0.5, 0.5]);
        // Beside others they have a small chance: 1 in 101 together.
        assert_eq!(
            weights(&[(0, 0, 80, "a."), (0, 100, 81, "a."), (0, 0, 82, "a."), (1, 0, 83, "a.")]),
            [0.5, 100.0, 0.5, 1.0]
        );
    }
}
