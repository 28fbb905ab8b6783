mod behind;
mod body;
mod client;
mod network;
mod refused;
mod seen;
mod target;
mod via;

pub use self::{
    body::ForwardBody,
    network::{InvalidNetwork, Network},
    refused::Refused,
};
use self::{body::Of, client::Telling, seen::Seen, via::Pseudonym};
pub(super) use self::{seen::is_spoken_for, target::host_of};
use super::{hop_by_hop, seldom, upgrade::Asked};
use crate::error::BoxError;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::{Layer, Service};

/// The most that the target of a request may have of bytes: what servers mostly take.
const TARGET_LIMIT: usize = 8 * 1024;

/// What a request has more of headers when it leaves: three about the client, `Via`, and `Host` where there was none.
const ADDED: usize = 5;

/// Puts a [`Forward`] in front of a service.
///
/// ```
/// use tower_balancer::http::{ForwardLayer, Network};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Behind another proxy, whose word on the client is taken.
/// let layer = ForwardLayer::new().trusted_proxies(["10.0.0.0/8".parse::<Network>()?]).forwarded();
/// # _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ForwardLayer {
    rules: Rules,
}

#[derive(Clone, Debug)]
struct Rules {
    telling: Telling,
    via: Option<Pseudonym>,
    target_limit: usize,
}

impl ForwardLayer {
    /// Trusts nobody, says `X-Forwarded-For`, `-Host` and `-Proto`, and has a name of its own in `Via`, drawn at random: the
    /// same for all services of this layer. Targets of more than 8 KiB are refused.
    pub fn new() -> Self {
        // Two proxies must not have the same, and nobody should learn anything from it.
        let via = Pseudonym::new(&format!("proxy-{:016x}", RandomState::new().hash_one(0)));
        Self { rules: Rules { telling: Telling::default(), via, target_limit: TARGET_LIMIT } }
    }

    /// What requests say of their client, who connects from these addresses, is kept, and the proxy's own address added to
    /// it. From others it is removed. The client that they name, of several the last that is none of these, is the [`Peer`]
    /// from here on: for keys that go by address, say.
    ///
    /// [`Peer`]: super::Peer
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.rules.telling.trusted = networks.into_iter().collect();
        self
    }

    /// Says who asks in `Forwarded` as well ([RFC 7239](https://www.rfc-editor.org/rfc/rfc7239)).
    pub fn forwarded(mut self) -> Self {
        self.rules.telling.forwarded = true;
        self
    }

    /// Says the client's address in `X-Real-IP` as well.
    pub fn real_ip(mut self) -> Self {
        self.rules.telling.real_ip = true;
        self
    }

    /// The name in `Via`, by which a request that comes back is known and refused with 508: a token, and another one for
    /// each proxy that requests may pass. Where it is no token, none is written and no loop is noticed.
    pub fn via(mut self, pseudonym: &str) -> Self {
        self.rules.via = Pseudonym::new(pseudonym);
        self
    }

    /// The most that path and query may have together, in bytes. Longer ones are refused with 414.
    pub fn target_limit(mut self, bytes: usize) -> Self {
        self.rules.target_limit = bytes;
        self
    }
}

impl Default for ForwardLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner, rules: Arc::new(self.rules.clone()) }
    }
}

/// Makes of a request that came in one that may go on, and of an answer that came back one that may go out: once per
/// request, whichever backends it will be tried on.
///
/// * Headers that are for one hop only are removed, both ways, and only then ours are added.
/// * `X-Forwarded-For`, `-Host` and `-Proto` say what is known of the client, from [`Peer`](super::Peer) and the request
///   itself, and where asked for `Forwarded` and `X-Real-IP`. What the client claimed there, or in the same names with `_`
///   for `-`, is removed, unless it is a trusted proxy.
/// * `Via` says through whom it came. A request that has been here before is refused with 508.
/// * What cannot be forwarded is refused before any backend is picked: `CONNECT`, `TRACE` and methods in lower case with 501,
///   a target that is too long with 414, an unknown expectation with 417; with 400 a malformed `Connection` or
///   `Content-Length`, a second or malformed `Host`, a user in the authority, a target that is not ASCII or does not fit the
///   method, and over HTTP/2 a `Host` that is not the authority, none of either from a [`Peer`](super::Peer), and white space at
///   an end of a value.
/// * An answer is refused with 502 that has a status from 600 on, or a transfer coding but `chunked`.
/// * An `OPTIONS` with no hop left in `Max-Forwards` is answered here, with 204.
///
/// Method, path, query, the other headers and the body pass as they are. Of trailers, those are left out that are for one hop only,
/// or would say again what the head has said ([RFC 9110 §6.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1)).
#[derive(Clone, Debug)]
pub struct Forward<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B, R> Service<Request<B>> for Forward<S>
where
    S: Service<Request<ForwardBody<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body,
{
    type Response = Response<ForwardBody<R>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.rules.prepare(&mut request) {
            Ok(()) => ResponseFuture {
                state: State::Called {
                    version: request.version(),
                    inner: self.inner.call(request.map(|body| ForwardBody::new(body, Of::Request))),
                },
            },
            Err(refused) => ResponseFuture { state: State::Refused { refused } },
        }
    }
}

impl Rules {
    fn prepare<B>(&self, request: &mut Request<B>) -> Result<(), Refused> {
        let host = target::check(request, self.target_limit)?;
        // Mostly no header has more than one line, and there is nothing to look at.
        if request.headers().len() > request.headers().keys_len() {
            target::single(request.headers())?;
            join_cookies(request.headers_mut());
        }
        let version = request.version();
        // Once for all that is added here and beyond.
        _ = request.headers_mut().try_reserve(ADDED);
        let seen = Seen::of(request.headers());
        if seen.hop {
            let stripped = hop_by_hop::strip(request.headers_mut());
            stripped.map_err(|_| Refused::malformed("the Connection header is malformed"))?;
        }
        if seen.length {
            target::length(request.headers())?;
        }
        if seen.expect {
            target::expectation(request.headers_mut(), version)?;
        }
        if *request.method() == Method::OPTIONS {
            target::count_hop(request.headers_mut())?;
        }
        if let Some(via) = &self.via {
            via.add(request.headers_mut(), version, seen.via)?;
        }
        if seen.twins {
            seen::remove_twins(request.headers_mut());
        }
        self.telling.tell(request, host, seen);
        // Who asks for another protocol says so in headers that were stripped, or in HTTP/2 in none.
        if (seen.hop || version == Version::HTTP_2)
            && let Some(asked) = request.extensions_mut().remove::<Asked>()
        {
            asked.ask(request.headers_mut());
        }
        Ok(())
    }
}

/// HTTP/2 clients may send each cookie in a line of its own; in HTTP/1.1 there is one line (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if seldom::has_several(headers, &header::COOKIE) {
        let lines: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

const UNDECODED: Refused = Refused::new(StatusCode::BAD_GATEWAY, "it has a transfer coding that nobody asked for");
const NO_STATUS: Refused = Refused::new(StatusCode::BAD_GATEWAY, "its status is none");

/// A length that an answer says several times over is said once (RFC 9112 §6.3), and without zeros before it, which some take
/// for octal. Where they differ, there is no answer.
fn one_length(headers: &mut HeaderMap) {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return };
    let first = length.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    let zeros = first.iter().take_while(|&&digit| digit == b'0').count();
    let first = &first[zeros.min(first.len().saturating_sub(1))..];
    // Some headers may have several lines, as Set-Cookie does.
    let is_repeated = || seldom::has_several(headers, &header::CONTENT_LENGTH);
    if first.len() < length.len() || headers.len() > headers.keys_len() && is_repeated() {
        let first = HeaderValue::from_bytes(first);
        if let Ok(first) = first {
            headers.insert(header::CONTENT_LENGTH, first);
        }
    }
}

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
        Called { #[pin] inner: F, version: Version },
        Refused { refused: Refused },
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: Into<BoxError>,
{
    type Output = Result<Response<ForwardBody<R>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { inner, version } => {
                let mut response = ready!(inner.poll(cx)).map_err(Into::into)?;
                if let Some(coding) = seldom::get(response.headers(), &header::TRANSFER_ENCODING) {
                    let several = || seldom::has_several(response.headers(), &header::TRANSFER_ENCODING);
                    // The coding ends at this hop, and nobody undoes any other: none was asked for (RFC 9112 §7.4).
                    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || several() {
                        return Poll::Ready(Err(UNDECODED.into()));
                    }
                    // A length beside it is wrong (RFC 9112 §6.3).
                    response.headers_mut().remove(header::CONTENT_LENGTH);
                }
                let status = response.status();
                // Of no class that a client could know (RFC 9110 §15).
                if status.as_u16() >= 600 {
                    return Poll::Ready(Err(NO_STATUS.into()));
                }
                if status == StatusCode::NO_CONTENT || status.is_informational() {
                    // What has no content has no length, and clients of HTTP/2 miss the data (RFC 9110 §8.6).
                    response.headers_mut().remove(header::CONTENT_LENGTH);
                }
                one_length(response.headers_mut());
                hop_by_hop::strip_answer(response.headers_mut());
                // The version is that of the hop to the backend. The server writes that of its own, and promises a client of
                // HTTP/1.0 no other answer after one that ends with the connection only where it is told so (RFC 9112 §9.3).
                let is_last = *version == Version::HTTP_10 && response.body().size_hint().exact().is_none();
                *response.version_mut() = if is_last { Version::HTTP_10 } else { Version::HTTP_11 };
                Poll::Ready(Ok(response.map(|body| ForwardBody::new(body, Of::Answer))))
            }
            StateProjection::Refused { refused } => Poll::Ready(Err((*refused).into())),
        }
    }
}
