use super::{TimedBody, turn::Turn};
use crate::error::BoxError;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};

/// Puts a [`BodyTimeout`] in front of a client.
#[derive(Clone, Copy, Debug)]
pub struct BodyTimeoutLayer {
    timeout: Option<Duration>,
}

impl BodyTimeoutLayer {
    /// The backend may be silent for `timeout` in the middle of an answer.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout: Some(timeout) }
    }

    /// It may be for ever.
    pub fn none() -> Self {
        Self { timeout: None }
    }
}

impl<S> Layer<S> for BodyTimeoutLayer {
    type Service = BodyTimeout<S>;

    fn layer(&self, inner: S) -> BodyTimeout<S> {
        BodyTimeout { inner, timeout: self.timeout }
    }
}

/// Breaks off an answer whose backend is silent for too long in the middle of it.
///
/// It stands below a [`ResponseTimeout`](super::ResponseTimeout), which has marked the request's body: what that one is to
/// the head of an answer, this one is to its body. The clock runs only while the backend owes something: while the reader
/// waits for the next frame, and the client does not owe a part of the request. A client that reads slowly, or not at all,
/// and a call whose both sides are silent by turns, are not cut off.
///
/// ```
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// use tower_balancer::http::{BodyTimeoutLayer, Client, ClientConfig, ResponseTimeoutLayer, TimedBody};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let client: Client<TimedBody<String>> = ClientConfig::new().build();
/// let service = ServiceBuilder::new()
///     .layer(ResponseTimeoutLayer::new(Duration::from_secs(30)))
///     .layer(BodyTimeoutLayer::new(Duration::from_secs(60)))
///     .service(client);
/// # fn takes_requests(_: impl tower::Service<http::Request<String>> + Clone) {}
/// # takes_requests(service);
/// # }
/// ```
///
/// # Limits
///
/// Over HTTP/2 the answers of one connection share its window: where slow readers of others have used it up, a backend that
/// may not send looks silent.
///
/// # Errors
///
/// None of its own for the request; [`Stalled`] out of the answer's body, which counts against the backend.
///
/// # Cancellation
///
/// Dropping the response future, or the body, drops what is inside.
#[derive(Clone, Copy, Debug)]
pub struct BodyTimeout<S> {
    inner: S,
    timeout: Option<Duration>,
}

impl<S, B, R> Service<Request<TimedBody<B>>> for BodyTimeout<S>
where
    S: Service<Request<TimedBody<B>>, Response = Response<R>>,
{
    type Response = Response<WatchedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<TimedBody<B>>) -> Self::Future {
        let turn = request.body().turn();
        ResponseFuture { inner: self.inner.call(request), timeout: self.timeout, turn }
    }
}

pin_project! {
    /// The response of a [`BodyTimeout`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        timeout: Option<Duration>,
        turn: Option<Turn>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<WatchedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (timeout, turn) = (*this.timeout, this.turn);
        this.inner.poll(cx).map_ok(|response| {
            response.map(|inner| WatchedBody { inner, timeout, turn: turn.take(), since: None, timer: None })
        })
    }
}

pin_project! {
    /// The body of an answer whose backend may not be silent for long.
    #[derive(Debug)]
    pub struct WatchedBody<R> {
        #[pin]
        inner: R,
        timeout: Option<Duration>,
        // Whose turn it is in the request that is answered.
        turn: Option<Turn>,
        // Since when the reader waits for a frame.
        since: Option<Instant>,
        // Made when a reader waits for the first time. It is not set anew for each frame, but when it rings too early.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<R> Body for WatchedBody<R>
where
    R: Body,
    R::Error: Into<BoxError>,
{
    type Data = R::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<R::Data>, BoxError>>> {
        let this = self.project();
        // First what is there: a reader who was away for long finds what the backend has sent meanwhile.
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            *this.since = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(timeout) = *this.timeout else { return Poll::Pending };
        let waits_since = *this.since.get_or_insert_with(Instant::now);
        loop {
            if let Some(timer) = this.timer {
                ready!(timer.as_mut().poll(cx));
            }
            let owes_since =
                this.turn.as_ref().map_or(waits_since, |turn| turn.of_the_backend_since().max(waits_since));
            // One that no clock can show does not come.
            let Some(due) = owes_since.checked_add(timeout) else { return Poll::Pending };
            match this.timer {
                Some(timer) if timer.deadline() >= due => return Poll::Ready(Some(Err(Stalled { timeout }.into()))),
                Some(timer) => timer.as_mut().reset(due),
                None => *this.timer = Some(Box::pin(sleep_until(due))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A backend that began an answer and did not go on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    timeout: Duration,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer stood still for {:?}", self.timeout)
    }
}

impl Error for Stalled {}
