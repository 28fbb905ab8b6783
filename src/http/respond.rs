use super::{OwnAnswer, grpc};
use crate::error::{BoxError, Unavailable, find, root_cause};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service, load_shed::error::Overloaded};

/// The `tracing` target of the event that [`Respond`] emits for each error it answers: the words of the answer, with the
/// fields `status`, `reason`, `error` and `cause`; level ERROR, or DEBUG where the status says that the client is at fault.
pub const RESPOND_TARGET: &str = "tower_balancer::respond";

/// Puts a [`Respond`] in front of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct RespondLayer;

impl RespondLayer {
    /// The layer.
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond { inner, broken: false }
    }
}

/// Answers the client where no backend did: once per request, at the top of the stack. It never fails.
///
/// | error | status | body |
/// |---|---|---|
/// | [`Unavailable`], because no backend is well | 503, with `Retry-After` where a recovery is due | `No healthy backends available` |
/// | [`Unavailable`], because those that are well are full; [`Overloaded`], of tower's load shedding | 503, with `Retry-After` | `Too many requests in flight` |
/// | [`DeadlineExceeded`], [`ShareExceeded`], [`ProxyError`] for a timeout | 504 | `Gateway timeout` |
/// | [`ProxyError`] because the client's own body broke | 400 | `Bad request` |
/// | the same, by an I/O error that says that it timed out | 408 | `Request timeout` |
/// | any other [`ProxyError`] | 502 | `Bad gateway` |
/// | [`Refused`] | its own | the status in words |
/// | anything else | 500 | `Internal server error` |
///
/// [`DeadlineExceeded`]: super::deadline::DeadlineExceeded
/// [`ShareExceeded`]: super::deadline::ShareExceeded
/// [`ProxyError`]: crate::ProxyError
/// [`Refused`]: super::Refused
///
/// With 400, 408 and 501 the connection is closed: what follows may belong to what was not understood.
///
/// A client of gRPC reads in each of these what it should, but for the 504: it makes of it what may be asked again at once. It
/// is told with gRPC's own status, `DEADLINE_EXCEEDED`.
///
/// The words are these and no others: nothing of an error's text reaches the client. The error goes to `tracing`, target
/// [`RESPOND_TARGET`], with the fields `status`, `reason`, `error` and `cause`, and its kind into the response's extensions, as
/// an [`OwnAnswer`].
#[derive(Clone, Copy, Debug)]
pub struct Respond<S> {
    inner: S,
    /// The inner service said that it is gone for good; it must not be called.
    broken: bool,
}

impl<S, B, R> Service<Request<B>> for Respond<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<RespondBody<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    /// Always succeeds. With an inner service that is gone for good the next call answers 500.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let ready = ready!(self.inner.poll_ready(cx));
        self.broken = ready.map_err(|error| tell(&*error.into(), OwnAnswer::BROKEN)).is_err();
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Most requests are no calls, as their method shows.
        let is_grpc = *request.method() == Method::POST && grpc::is_grpc(request.headers());
        let inner = if self.broken { None } else { Some(self.inner.call(request)) };
        ResponseFuture { inner, is_grpc }
    }
}

/// Tells the operator what the client is not told. What the client brought on itself is no error of ours.
fn tell(error: &(dyn Error + 'static), (reason, status, words): (OwnAnswer, StatusCode, &str)) {
    let (reason, status, by_client) = (reason.as_str(), status.as_u16(), status.is_client_error());
    let cause = root_cause(error);
    if by_client {
        tracing::debug!(target: RESPOND_TARGET, status, reason, %error, cause, "{words}");
    } else {
        tracing::error!(target: RESPOND_TARGET, status, reason, %error, cause, "{words}");
    }
}

/// The seconds, from 1, until a client may have more luck, where that is known.
fn retry_after(error: &(dyn Error + 'static)) -> Option<HeaderValue> {
    let shed = find::<Overloaded>(error).map(|_| Duration::ZERO);
    let earliest = shed.or_else(|| find::<Unavailable>(error)?.earliest_recovery())?;
    Some(HeaderValue::from((earliest.as_secs_f64().ceil() as u64).max(1)))
}

fn response<R>((reason, status, words): (OwnAnswer, StatusCode, &'static str)) -> Response<RespondBody<R>> {
    // An answer without content has no words either.
    let words = (status != StatusCode::NO_CONTENT).then(|| Bytes::from_static(words.as_bytes()));
    let mut response = Response::new(RespondBody { source: Source::Us { words } });
    *response.status_mut() = status;
    response.extensions_mut().insert(reason);
    if matches!(status, StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT | StatusCode::NOT_IMPLEMENTED) {
        // Who sends what cannot be understood may mean something else by what follows, as after a CONNECT.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

pin_project! {
    /// The response of a [`Respond`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        is_grpc: bool,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<RespondBody<R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(Ok(response(OwnAnswer::BROKEN)));
        };
        Poll::Ready(Ok(match ready!(inner.poll(cx)).map_err(Into::into) {
            Ok(answered) => answered.map(|body| RespondBody { source: Source::Backend { body } }),
            Err(error) => {
                let answer = OwnAnswer::to(&*error);
                tell(&*error, answer);
                let mut response = response(answer);
                if *this.is_grpc && response.status() == StatusCode::GATEWAY_TIMEOUT {
                    *response.status_mut() = StatusCode::OK;
                    *response.body_mut() = RespondBody::default();
                    grpc::deadline_exceeded(response.headers_mut());
                }
                if let Some(seconds) = retry_after(&*error) {
                    response.headers_mut().insert(header::RETRY_AFTER, seconds);
                }
                response
            }
        }))
    }
}

pin_project! {
    /// A backend's body, or the few words of an answer of our own.
    #[derive(Debug)]
    pub struct RespondBody<R> {
        #[pin]
        source: Source<R>,
    }
}

pin_project! {
    #[project = SourceProjection]
    #[derive(Debug)]
    enum Source<R> {
        Backend { #[pin] body: R },
        Us { words: Option<Bytes> },
    }
}

/// Nothing.
impl<R> Default for RespondBody<R> {
    fn default() -> Self {
        Self { source: Source::Us { words: None } }
    }
}

impl<R: Body<Data = Bytes>> Body for RespondBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().source.project() {
            SourceProjection::Backend { body } => body.poll_frame(cx),
            SourceProjection::Us { words } => Poll::Ready(words.take().map(|words| Ok(Frame::data(words)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Backend { body } => body.is_end_stream(),
            Source::Us { words } => words.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Backend { body } => body.size_hint(),
            Source::Us { words } => SizeHint::with_exact(words.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}
