//! Who the client is, where a proxy that is trusted stands in between.

use crate::config::{Value, server::Network};
use http::{HeaderMap, uri::Scheme};
use std::net::{IpAddr, SocketAddr};
use tower_balancer::http::Peer;

/// The client for whom a trusted proxy at `address` asks, as its `X-Forwarded-For` and `-Proto` say; `None` where the one at
/// the other end of the connection is the client as far as we know.
///
/// Of several addresses it is the last that is no trusted proxy's: what stands before it may have been made up.
pub fn behind(address: SocketAddr, headers: &HeaderMap, trusted: &[Value<Network>]) -> Option<Peer> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip.to_canonical()));
    if trusted.is_empty() || !is_trusted(address.ip()) {
        return None;
    }
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let mut client = None;
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let hop = hop.trim();
        let Some(ip) = hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip())) else { break };
        client = Some(ip);
        if !is_trusted(ip) {
            break;
        }
    }
    let scheme = headers.get("x-forwarded-proto").filter(|scheme| *scheme == "https");
    let scheme = if scheme.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    Some(Peer::new(client.map_or(address, |ip| SocketAddr::new(ip, 0)), &scheme))
}
