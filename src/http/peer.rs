use http::uri::Scheme;
use std::net::SocketAddr;

/// The client at the other end of the connection on which a request came: a request extension that the server puts in.
///
/// [`Forward`](super::Forward) tells the backend about it. Without it the backend does not learn the client's address,
/// and whatever the client claimed about itself is removed all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address.
    pub address: SocketAddr,
    /// `https` where the connection is encrypted, `http` where not.
    pub scheme: Scheme,
}
