use http::{HeaderValue, uri::Scheme};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The client at the other end of the connection on which a request came: a request extension that the server puts in, the
/// same for each request of a connection: a clone costs one count.
///
/// [`Forward`](super::Forward) tells the backend about it. Without it the backend does not learn the client's address,
/// and whatever the client claimed about itself is removed all the same.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    ip: HeaderValue,
    scheme: HeaderValue,
}

impl Peer {
    /// The client at `address`, on a connection that is `https` where it is encrypted and `http` where not.
    pub fn new(address: SocketAddr, scheme: &Scheme) -> Self {
        let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
        let ip = text(&address.ip().to_canonical().to_string());
        Self(Arc::new(Inner { address, ip, scheme: text(scheme.as_str()) }))
    }

    /// The client's address; an IPv4 address that is mapped into IPv6 as what it is.
    pub fn ip(&self) -> IpAddr {
        self.0.address.ip().to_canonical()
    }

    /// The client's address and port.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The address without the port, as it is written into headers: once for a connection.
    pub(super) fn ip_text(&self) -> &HeaderValue {
        &self.0.ip
    }

    pub(super) fn scheme_text(&self) -> &HeaderValue {
        &self.0.scheme
    }
}
