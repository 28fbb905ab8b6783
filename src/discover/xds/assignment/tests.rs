use super::*;
use crate::discover::xds::messages::{Address, Endpoint, Locality, SocketAddress, UInt32Value};

fn weight(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn at(address: &str, port_value: u32) -> LbEndpoint {
    let socket_address = SocketAddress { address: address.to_owned(), port_value, ..SocketAddress::default() };
    let address = Some(Address { socket_address: Some(socket_address) });
    LbEndpoint { endpoint: Some(Endpoint { address }), ..LbEndpoint::default() }
}

fn locality(zone: &str, priority: u32, lb_endpoints: Vec<LbEndpoint>) -> LocalityLbEndpoints {
    let locality = Locality { zone: zone.to_owned(), ..Locality::default() };
    LocalityLbEndpoints { locality: Some(locality), priority, lb_endpoints, ..LocalityLbEndpoints::default() }
}

fn read(endpoints: Vec<LocalityLbEndpoints>) -> Result<Assignment, String> {
    Assignment::read(&ClusterLoadAssignment { cluster_name: "web".to_owned(), endpoints })
}

#[test]
fn health_says_who_is_asked() {
    let endpoints =
        (0..7).map(|health_status| LbEndpoint { health_status, ..at("10.0.0.1", 80 + health_status as u32) });
    let read = read(vec![locality("a", 0, endpoints.collect())]).unwrap();
    let seen: Vec<_> = read.backends.iter().map(|it| (it.address.port(), it.is_draining)).collect();
    assert_eq!(seen, [(80, false), (81, false), (83, true)]);
}

#[test]
fn a_locality_is_the_zone_or_else_the_region_and_a_priority_the_tier() {
    let mut regional = locality("", 1, vec![at("10.0.0.2", 80)]);
    regional.locality.as_mut().unwrap().region = "eu".to_owned();
    let nowhere = LocalityLbEndpoints { locality: None, ..locality("", 1, vec![at("fd00::1", 80)]) };
    let read = read(vec![locality("eu-1a", 0, vec![at("10.0.0.1", 80)]), regional, nowhere]).unwrap();
    let seen: Vec<_> = read.backends.iter().map(|it| (it.priority, it.zone.as_deref())).collect();
    assert_eq!(seen, [(0, Some("eu-1a")), (1, Some("eu")), (1, None)]);
    assert_eq!(read.backends[2].address, "[fd00::1]:80".parse().unwrap());
}

#[test]
fn an_endpoint_has_its_share_of_its_locality_and_a_locality_its_own() {
    let weights = |localities| -> Vec<_> { read(localities).unwrap().backends.iter().map(|it| it.weight).collect() };
    let heavy = || LbEndpoint { load_balancing_weight: weight(3), ..at("10.0.0.2", 80) };
    let (two, one) = (|| vec![at("10.0.0.1", 80), heavy()], || vec![at("10.0.0.3", 80)]);
    assert_eq!(weights(vec![locality("a", 0, two()), locality("b", 0, one())]), [1.0, 3.0, 1.0]);
    let weighed = |weight, it| LocalityLbEndpoints { load_balancing_weight: Some(UInt32Value { value: weight }), ..it };
    let both = vec![weighed(8, locality("a", 0, two())), weighed(4, locality("b", 0, one()))];
    assert_eq!(weights(both), [2.0, 6.0, 4.0]);
    // Who is not asked takes no share.
    let mut sick = two();
    sick[1].health_status = 2;
    assert_eq!(weights(vec![weighed(8, locality("a", 0, sick))]), [8.0]);
    // What is said of one priority says nothing of the next.
    let tiers = vec![weighed(8, locality("a", 0, one())), locality("b", 1, two())];
    assert_eq!(weights(tiers), [8.0, 1.0, 3.0]);
    // One without a weight gets nothing where another has one.
    let read = read(vec![weighed(8, locality("a", 0, one())), weighed(0, locality("b", 0, two()))]).unwrap();
    assert_eq!((read.backends.len(), &read.skipped[..]), (1, &["locality \"/b/\": it has no weight".to_owned()][..]));
}

#[test]
fn what_breaks_a_rule_is_refused_as_a_whole_and_the_rule_is_named() {
    let with = |change: fn(&mut LbEndpoint)| {
        let mut endpoint = at("10.0.0.1", 80);
        change(&mut endpoint);
        vec![locality("a", 0, vec![at("10.0.0.2", 80), endpoint])]
    };
    fn socket(endpoint: &mut LbEndpoint) -> &mut SocketAddress {
        endpoint.endpoint.as_mut().unwrap().address.as_mut().unwrap().socket_address.as_mut().unwrap()
    }
    let heavy = |zone| LocalityLbEndpoints { load_balancing_weight: weight(u32::MAX), ..locality(zone, 0, Vec::new()) };
    for (localities, problem) in [
        (with(|it| it.endpoint = None), "an endpoint has no socket address"),
        (with(|it| it.endpoint.as_mut().unwrap().address = None), "an endpoint has no socket address"),
        (with(|it| socket(it).address = "web.example".to_owned()), "\"web.example\" is no IP address"),
        (with(|it| socket(it).port_value = 0), "10.0.0.1 has no port from 1 to 65535"),
        (with(|it| socket(it).port_value = 65_536), "10.0.0.1 has no port from 1 to 65535"),
        (with(|it| socket(it).protocol = 1), "10.0.0.1:80 is not reached over TCP"),
        (with(|it| it.load_balancing_weight = weight(0)), "10.0.0.1:80 has weight 0"),
        // Also where it is not to be asked.
        (with(|it| (it.health_status, socket(it).port_value) = (2, 0)), "10.0.0.1 has no port from 1 to 65535"),
        (vec![locality("a", 1, Vec::new())], "there is a priority 1 and none 0"),
        (vec![locality("a", 0, Vec::new()), locality("a", 2, Vec::new())], "there is a priority 2 and none 1"),
        (
            vec![locality("a", 0, Vec::new()), locality("a", 0, Vec::new())],
            "locality \"/a/\" is there twice in priority 0",
        ),
        (vec![heavy("a"), heavy("b")], "the weights of the localities in priority 0 come to 8589934590"),
    ] {
        assert_eq!(read(localities), Err(problem.to_owned()));
    }
    assert_eq!(read(Vec::new()), Ok(Assignment::default()));
    let both = vec![locality("a", 0, vec![at("10.0.0.1", 80)]), locality("a", 1, vec![at("10.0.0.2", 80)])];
    assert_eq!(read(both).unwrap().backends.len(), 2);
}
