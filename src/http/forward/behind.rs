//! Who the client is, where proxies that are trusted stand in between.

use super::Network;
use crate::http::Peer;
use http::{HeaderMap, header::HeaderName, uri::Scheme};
use std::net::{IpAddr, SocketAddr};

/// The client for whom the trusted `peer` asks, as the lists of `X-Forwarded-For` and `-Proto` in `headers` say.
///
/// Of several addresses it is the last that is no trusted proxy's: what stands before it may have been made up.
pub(super) fn behind(
    peer: &Peer,
    headers: &HeaderMap,
    (addresses, scheme): (&HeaderName, &HeaderName),
    trusted: &[Network],
) -> Peer {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let lines: Vec<_> = headers.get_all(addresses).iter().filter_map(|line| line.to_str().ok()).collect();
    let mut client = None;
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let hop = hop.trim();
        let Some(ip) = hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip())) else { break };
        client = Some(ip);
        if !is_trusted(ip) {
            break;
        }
    }
    let is_encrypted = headers.get(scheme).is_some_and(|scheme| scheme == "https");
    let scheme = if is_encrypted { Scheme::HTTPS } else { Scheme::HTTP };
    Peer::new(client.map_or(peer.address(), |ip| SocketAddr::new(ip, 0)), &scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_last_that_is_no_proxy_of_ours() {
        let (addresses, scheme) = (HeaderName::from_static("x-for"), HeaderName::from_static("x-proto"));
        let trusted = ["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let peer = Peer::new("127.0.0.1:7".parse().unwrap(), &Scheme::HTTP);
        for (lines, client) in [
            (&["1.1.1.1, 2.2.2.2, 127.0.0.9"][..], "2.2.2.2:0"),
            (&["1.1.1.1", "fd00::1"], "1.1.1.1:0"),
            (&["1.1.1.1:99, [fd00::1]:80"], "1.1.1.1:0"),
            // Nobody but proxies: the first of them asks for itself.
            (&["127.0.0.3, 127.0.0.9"], "127.0.0.3:0"),
            (&["1.1.1.1, unknown, 127.0.0.9"], "127.0.0.9:0"),
            (&["1.1.1.1, unknown"], "127.0.0.1:7"),
            (&[], "127.0.0.1:7"),
        ] {
            let headers = lines.iter().map(|line| (addresses.clone(), line.parse().unwrap())).collect();
            let found = behind(&peer, &headers, (&addresses, &scheme), &trusted);
            assert_eq!(found.address().to_string(), client, "{lines:?}");
        }
        let headers = HeaderMap::from_iter([(scheme.clone(), "https".parse().unwrap())]);
        assert_eq!(behind(&peer, &headers, (&addresses, &scheme), &trusted).scheme_text(), "https");
    }
}
