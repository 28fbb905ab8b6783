use super::{Peer, hop_by_hop, seldom};
use crate::error::BoxError;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{self, HeaderName},
};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::{Layer, Service};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Puts a [`Forward`] in front of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardLayer;

impl ForwardLayer {
    /// The layer.
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner }
    }
}

/// Makes of a request that came in one that may go on, and of an answer that came back one that may go out: once per
/// request, whichever backends it will be tried on.
///
/// * Headers that are for one hop only are removed, both ways.
/// * `X-Forwarded-For`, `-Host` and `-Proto` say what is known of the client, from [`Peer`] and the request itself. What
///   the client claimed there, in `Forwarded` or in `X-Real-IP`, is removed.
/// * `CONNECT` is refused with 501, a malformed `Connection` header or a second `Host` with 400, before any backend is
///   picked.
///
/// Method, path, query, the other headers and the body pass as they are.
#[derive(Clone, Copy, Debug)]
pub struct Forward<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Forward<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match prepare(&mut request) {
            Ok(()) => ResponseFuture { state: State::Called { inner: self.inner.call(request) } },
            Err(refused) => ResponseFuture { state: State::Refused { refused } },
        }
    }
}

fn prepare<B>(request: &mut Request<B>) -> Result<(), Refused> {
    if request.method() == Method::CONNECT {
        return Err(Refused { status: StatusCode::NOT_IMPLEMENTED, reason: "CONNECT is not supported" });
    }
    // Mostly no header has more than one line, and there is nothing to look at.
    if request.headers().len() > request.headers().keys_len() {
        if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
            return Err(Refused { status: StatusCode::BAD_REQUEST, reason: "there is more than one Host" });
        }
        join_cookies(request.headers_mut());
    }
    hop_by_hop::strip(request.headers_mut())
        .map_err(|_| Refused { status: StatusCode::BAD_REQUEST, reason: "the Connection header is malformed" })?;
    say_who_asks(request);
    Ok(())
}

/// HTTP/2 clients may send each cookie in a line of its own; in HTTP/1.1 there is one line (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let lines: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// What the client asked for: the authority of the target, where it has one, before `Host` (RFC 9112 §3.2.2).
pub(super) fn host_of<B>(request: &Request<B>) -> Option<HeaderValue> {
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    authority.or_else(|| request.headers().get(header::HOST).cloned())
}

fn say_who_asks<B>(request: &mut Request<B>) {
    let peer = request.extensions().get::<Peer>();

    let address = peer.map(|peer| peer.ip_text().clone());
    let scheme = peer.map(|peer| peer.scheme_text().clone());
    let host = host_of(request);

    for (name, value) in [(X_FORWARDED_FOR, address), (X_FORWARDED_PROTO, scheme), (X_FORWARDED_HOST, host)] {
        set(request.headers_mut(), name, value);
    }
    // Other ways to claim the same.
    seldom::take(request.headers_mut(), &header::FORWARDED);
    seldom::take(request.headers_mut(), &X_REAL_IP);
}

/// `name` with this value alone, or not at all.
fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => _ = headers.insert(name, value),
        None => _ = headers.remove(name),
    }
}

/// A request that is not forwarded, whatever the backends. None was picked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    status: StatusCode,
    reason: &'static str,
}

impl Refused {
    /// The status that says so to the client.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request refused: {}", self.reason)
    }
}

impl Error for Refused {}

pin_project! {
    /// The response of a [`Forward`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Called { #[pin] inner: F },
        Refused { refused: Refused },
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { inner } => {
                let mut response = ready!(inner.poll(cx)).map_err(Into::into)?;
                // A length beside a transfer coding is wrong (RFC 9112 §6.3), and the coding ends at this hop.
                if seldom::has(response.headers(), &header::TRANSFER_ENCODING) {
                    response.headers_mut().remove(header::CONTENT_LENGTH);
                }
                // What a backend nominates badly is not the client's business; the fixed list is removed in any case.
                if hop_by_hop::strip(response.headers_mut()).is_err() {
                    response.headers_mut().remove(header::CONNECTION);
                    _ = hop_by_hop::strip(response.headers_mut());
                }
                // The version is that of the hop to the backend. The server writes that of its own.
                *response.version_mut() = Version::HTTP_11;
                Poll::Ready(Ok(response))
            }
            StateProjection::Refused { refused } => Poll::Ready(Err((*refused).into())),
        }
    }
}
