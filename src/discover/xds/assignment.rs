//! Whom a ClusterLoadAssignment names. Pure.

use super::messages::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
};
use xds_client::{Error, Resource, resource::TypeUrl};

/// Where the endpoints of a cluster are, and what is said of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Assignment {
    pub(super) backends: Vec<Backend>,
    /// What was left out, in words.
    pub(super) skipped: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) zone: Option<String>,
    pub(super) priority: u32,
    pub(super) weight: f64,
    pub(super) is_draining: bool,
}

impl Resource for Assignment {
    type Message = ClusterLoadAssignment;

    const TYPE_URL: TypeUrl = TypeUrl::new("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment");
    /// A response need not have all clusters that are asked for (gRFC A53).
    const ALL_RESOURCES_REQUIRED_IN_SOTW: bool = false;

    fn deserialize(bytes: Bytes) -> Result<ClusterLoadAssignment, Error> {
        ClusterLoadAssignment::decode(bytes).map_err(|error| Error::Validation(error.to_string()))
    }

    fn name(message: &ClusterLoadAssignment) -> &str {
        &message.cluster_name
    }

    fn validate(message: ClusterLoadAssignment) -> Result<Self, Error> {
        Self::read(&message).map_err(Error::Validation)
    }
}

impl Assignment {
    /// What `message` says, by the rules of gRPC (gRFC A27): what breaks one of them is wrong as a whole.
    fn read(message: &ClusterLoadAssignment) -> Result<Self, String> {
        check_localities(&message.endpoints)?;
        // Where no locality of a priority has a weight, none is weighed; where some have one, the others get nothing.
        let weighed = message.endpoints.iter().filter(|locality| weight_of(locality).is_some());
        let weighed: HashSet<_> = weighed.map(|locality| locality.priority).collect();
        let mut assignment = Self::default();
        for locality in &message.endpoints {
            let mut backends = Vec::new();
            for endpoint in &locality.lb_endpoints {
                backends.extend(read_endpoint(endpoint, locality)?);
            }
            match weight_of(locality) {
                // Its share, however many there are in it.
                Some(weight) => {
                    let sum: f64 = backends.iter().map(|backend| backend.weight).sum();
                    backends.iter_mut().for_each(|backend| backend.weight *= f64::from(weight) / sum);
                }
                None if weighed.contains(&locality.priority) => {
                    assignment.skipped.push(format!("locality {}: it has no weight", spelled(locality)));
                    continue;
                }
                None => {}
            }
            assignment.backends.extend(backends);
        }
        Ok(assignment)
    }
}

fn weight_of(locality: &LocalityLbEndpoints) -> Option<u32> {
    locality.load_balancing_weight.as_ref().map(|weight| weight.value).filter(|weight| *weight > 0)
}

fn spelled(locality: &LocalityLbEndpoints) -> String {
    let place = locality.locality.clone().unwrap_or_default();
    format!("{:?}", [place.region, place.zone, place.sub_zone].join("/"))
}

/// No priority without the one above it, each locality once in each, and weights that can be added up.
fn check_localities(localities: &[LocalityLbEndpoints]) -> Result<(), String> {
    let priorities: BTreeSet<_> = localities.iter().map(|locality| locality.priority).collect();
    if let Some((expected, there)) = (0..).zip(&priorities).find(|(expected, there)| expected != *there) {
        return Err(format!("there is a priority {there} and none {expected}"));
    }
    let mut seen = HashSet::new();
    if let Some(twice) =
        localities.iter().find(|it| !seen.insert((it.priority, it.locality.clone().unwrap_or_default())))
    {
        return Err(format!("locality {} is there twice in priority {}", spelled(twice), twice.priority));
    }
    for priority in priorities {
        let those = localities.iter().filter(|locality| locality.priority == priority);
        let sum: u64 = those.filter_map(weight_of).map(u64::from).sum();
        if sum > u32::MAX.into() {
            return Err(format!("the weights of the localities in priority {priority} come to {sum}"));
        }
    }
    Ok(())
}

/// What is said of the health of an endpoint: `HealthStatus` in `envoy/config/core/v3/health_check.proto`.
const UNKNOWN: i32 = 0;
const HEALTHY: i32 = 1;
const DRAINING: i32 = 3;

/// `SocketAddress.Protocol`.
const TCP: i32 = 0;

/// The backend that `endpoint` is; `None` where it is not to be asked.
fn read_endpoint(endpoint: &LbEndpoint, locality: &LocalityLbEndpoints) -> Result<Option<Backend>, String> {
    let address = endpoint.endpoint.as_ref().and_then(|endpoint| endpoint.address.as_ref()?.socket_address.as_ref());
    let address = address.ok_or("an endpoint has no socket address")?;
    let ip: IpAddr = address.address.parse().map_err(|_| format!("{:?} is no IP address", address.address))?;
    let port = u16::try_from(address.port_value).ok();
    let port = port.filter(|port| *port > 0).ok_or_else(|| format!("{ip} has no port from 1 to 65535"))?;
    if address.protocol != TCP {
        return Err(format!("{ip}:{port} is not reached over TCP"));
    }
    let weight = endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(format!("{ip}:{port} has weight 0"));
    }
    // gRPC asks nobody who is degraded either.
    if ![UNKNOWN, HEALTHY, DRAINING].contains(&endpoint.health_status) {
        return Ok(None);
    }
    let place = locality.locality.clone().unwrap_or_default();
    let zone = [place.zone, place.region].into_iter().find(|name| !name.is_empty());
    Ok(Some(Backend {
        address: SocketAddr::new(ip, port),
        zone,
        priority: locality.priority,
        weight: weight.into(),
        is_draining: endpoint.health_status == DRAINING,
    }))
}

#[cfg(test)]
mod tests;
