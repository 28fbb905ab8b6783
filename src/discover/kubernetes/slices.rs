//! Whom the slices of a service name. Pure.

use crate::discover::Families;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
};

/// Which of what a slice says counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// By name, or by number; the only one there is where nothing is said.
    pub(super) port: Option<String>,
    pub(super) families: Families,
}

/// What the slices say of one address.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Backend {
    pub(super) zone: Option<String>,
    /// It is about to end and answers still.
    pub(super) is_draining: bool,
    /// A pod has an address of each family.
    pod: Option<String>,
}

/// What was found, by address, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) backends: BTreeMap<SocketAddr, Backend>,
    pub(super) skipped: Vec<String>,
}

impl Found {
    /// What `slices` say, by name.
    pub(super) fn read(slices: &BTreeMap<String, EndpointSlice>, choice: &Choice) -> Self {
        let mut found = Self::default();
        for (name, slice) in slices.iter().filter(|(_, slice)| !slice.endpoints.is_empty()) {
            if let Err(problem) = found.add(name, slice, choice) {
                found.skipped.push(format!("{name}: {problem}"));
            }
        }
        // Each pod once: the addresses are in order, those of IPv4 first.
        let mut pods = HashSet::new();
        found.backends.retain(|_, backend| backend.pod.take().is_none_or(|pod| pods.insert(pod)));
        // Where nobody else is left, those that are about to end are better than nobody (KEP-1669).
        if found.backends.values().all(|backend| backend.is_draining) {
            found.backends.values_mut().for_each(|backend| backend.is_draining = false);
        }
        found
    }

    /// Adds those in `slice`, or says what is wrong with it as a whole.
    fn add(&mut self, name: &str, slice: &EndpointSlice, choice: &Choice) -> Result<(), String> {
        match (slice.address_type.as_str(), choice.families) {
            ("IPv4", Families::Both | Families::Ipv4) | ("IPv6", Families::Both | Families::Ipv6) => {}
            ("IPv4" | "IPv6", _) => return Ok(()),
            (kind, _) => return Err(format!("its addresses are of type {kind}: expected IPv4 or IPv6")),
        }
        let port = choice.port_of(slice.ports.as_deref().unwrap_or_default())?;
        for endpoint in &slice.endpoints {
            let Some(is_draining) = is_draining(endpoint.conditions.as_ref()) else { continue };
            // Of several, which are the same to Kubernetes, the first.
            let text = endpoint.addresses.first().map_or("", String::as_str);
            let address = text.parse::<IpAddr>().ok();
            let Some(address) = address.filter(|address| address.is_ipv4() == (slice.address_type == "IPv4")) else {
                self.skipped.push(format!("{name}: {text:?} is no {} address", slice.address_type));
                continue;
            };
            let backend = Backend { zone: endpoint.zone.clone(), is_draining, pod: pod(endpoint) };
            // While it is moved from one slice to another it is in both, and one of them is out of date.
            let there = self.backends.entry(SocketAddr::new(address, port)).or_insert_with(|| backend.clone());
            if there.is_draining && !is_draining {
                *there = backend;
            }
        }
        Ok(())
    }
}

impl Choice {
    /// The number of the port among `ports`.
    fn port_of(&self, ports: &[EndpointPort]) -> Result<u16, String> {
        let tcp = ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
        let tcp: Vec<_> = tcp.collect();
        let number_of = |port: &EndpointPort| port.port.and_then(|number| u16::try_from(number).ok());
        let wanted = self.port.as_deref();
        if let Some(number) = wanted.and_then(|wanted| wanted.parse::<u16>().ok()) {
            // A service without ports, and a port without a number, stand for all.
            let is_there =
                ports.is_empty() || tcp.iter().any(|port| port.port.is_none_or(|it| it == i32::from(number)));
            return is_there.then_some(number).ok_or_else(|| self.no_port(&tcp));
        }
        let found = match wanted {
            Some(name) => tcp.iter().find(|port| port.name.as_deref() == Some(name)),
            None => tcp.first().filter(|_| tcp.len() == 1),
        };
        found.and_then(|port| number_of(port)).ok_or_else(|| self.no_port(&tcp))
    }

    fn no_port(&self, ports: &[&EndpointPort]) -> String {
        let spelled = |port: &&EndpointPort| {
            let number = port.port.map_or("any".to_owned(), |number| number.to_string());
            match port.name.as_deref() {
                None | Some("") => number,
                Some(name) => format!("{name} ({number})"),
            }
        };
        let there: Vec<_> = ports.iter().map(spelled).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        match &self.port {
            Some(port) => format!("it has no TCP port {port}: there are {there}"),
            None => format!("which port is meant is not said: there are {there}"),
        }
    }
}

/// Whether an endpoint is drained; `None` where it is not to be asked at all. What is not known counts as the API says:
/// ready, not about to end.
fn is_draining(conditions: Option<&EndpointConditions>) -> Option<bool> {
    let is = |condition: Option<bool>, otherwise| condition.unwrap_or(otherwise);
    match conditions {
        Some(it) if !is(it.ready, true) => (is(it.serving, false) && is(it.terminating, false)).then_some(true),
        _ => Some(false),
    }
}

/// The pod that an endpoint is, by its uid.
fn pod(endpoint: &Endpoint) -> Option<String> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    target.uid.clone()
}

#[cfg(test)]
mod tests;
