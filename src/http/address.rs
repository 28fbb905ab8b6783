use super::forward::host_of;
use crate::{backend::Origin, pool::Routed};
use http::{
    Request, Uri, Version, header,
    uri::{Parts, PathAndQuery},
};
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// Puts an [`Address`] in front of a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressLayer {
    keep_host: bool,
}

impl AddressLayer {
    /// The backend gets its own authority as `Host`, as from a client that asks it directly.
    pub fn new() -> Self {
        Self::default()
    }

    /// The backend gets the `Host` that the client asked for: for backends that serve several sites. Over HTTP/1.1: an
    /// HTTP/2 backend sees its own `:authority` beside it.
    pub fn keep_host(self) -> Self {
        Self { keep_host: true }
    }
}

impl<S> Layer<S> for AddressLayer {
    type Service = Address<S>;

    fn layer(&self, inner: S) -> Address<S> {
        Address { inner, keep_host: self.keep_host }
    }
}

/// Addresses a request to the backend that was picked for it: once per attempt, right above the client.
///
/// Scheme and authority of the URI become the backend's; path and query stay byte for byte. The version becomes
/// HTTP/1.1, which says nothing about the protocol that the client speaks to the backend. `Host` becomes the backend's
/// authority, unless it is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct Address<S> {
    inner: S,
    keep_host: bool,
}

impl<S, B> Service<Routed<Origin, Request<B>>> for Address<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, Routed { target, mut request }: Routed<Origin, Request<B>>) -> S::Future {
        let asked = if self.keep_host { host_of(&request) } else { None };
        let host = asked.unwrap_or_else(|| target.host_header().clone());
        request.headers_mut().insert(header::HOST, host);
        *request.version_mut() = Version::HTTP_11;
        address(request.uri_mut(), &target);
        self.inner.call(request)
    }
}

fn address(uri: &mut Uri, origin: &Origin) {
    let mut parts = Parts::default();
    parts.scheme = Some(origin.scheme().clone());
    parts.authority = Some(origin.authority().clone());
    let path = std::mem::take(uri).into_parts().path_and_query;
    parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
    // With all three parts there is nothing that could be missing.
    if let Ok(addressed) = Uri::from_parts(parts) {
        *uri = addressed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_stay_byte_for_byte() {
        let origin: Origin = "http://10.0.0.1:8080".parse().unwrap();
        for (asked, path) in [
            ("/", "/"),
            ("/a%2Fb/../c//d?x=%20&y=[1]&z", "/a%2Fb/../c//d?x=%20&y=[1]&z"),
            ("/?", "/?"),
            ("*", "*"),
            ("http://other.example/p?q", "/p?q"),
            ("http://other.example", "/"),
        ] {
            let mut uri: Uri = asked.parse().unwrap();
            address(&mut uri, &origin);
            assert_eq!(uri.path_and_query().map(PathAndQuery::as_str), Some(path), "{asked}");
            assert_eq!(uri.authority(), Some(origin.authority()), "{asked}");
        }
    }
}
