use crate::error::BoxError;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, Service};

/// Puts a [`ResponseTimeout`] in front of a client.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTimeoutLayer {
    timeout: Duration,
}

impl ResponseTimeoutLayer {
    /// The backend may be silent for `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

impl<S> Layer<S> for ResponseTimeoutLayer {
    type Service = ResponseTimeout<S>;

    fn layer(&self, inner: S) -> ResponseTimeout<S> {
        ResponseTimeout { inner, timeout: self.timeout }
    }
}

/// Gives up on a backend that is silent for too long while it is its turn to speak.
///
/// It is the backend's turn from the start, connecting included, and again each time it was handed a piece of the
/// request's body, until the head of the answer is there. While the client has to send more, however long that takes,
/// the clock stands still: an upload of an hour is not cut off, and a backend that stops reading one is.
///
/// # Differences from `tower::timeout`
///
/// That one bounds the whole time until the answer, the client's share of it included.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTimeout<S> {
    inner: S,
    timeout: Duration,
}

impl<S, B> Service<Request<B>> for ResponseTimeout<S>
where
    S: Service<Request<TimedBody<B>>>,
    S::Error: Into<BoxError>,
    B: Body,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Most requests have no body, and nothing to keep for it.
        let turn = (!request.body().is_end_stream()).then(Turn::of_the_backend);
        let request = request.map(|inner| TimedBody { inner, turn: turn.clone() });
        ResponseFuture { inner: self.inner.call(request), sleep: sleep(self.timeout), timeout: self.timeout, turn }
    }
}

/// Whose turn it is to speak, and for the backend since when.
#[derive(Clone, Debug)]
struct Turn {
    started: Instant,
    /// Milliseconds from `started` to the backend's turn, or [`CLIENT`](Self::CLIENT).
    since: Arc<AtomicU64>,
}

impl Turn {
    const CLIENT: u64 = u64::MAX;

    fn of_the_backend() -> Self {
        Self { started: Instant::now(), since: Arc::default() }
    }

    fn goes_to_backend(&self) {
        self.since.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn goes_to_client(&self) {
        self.since.store(Self::CLIENT, Ordering::Relaxed);
    }

    /// Since when the backend should have spoken; now, while it is the client's turn.
    fn of_the_backend_since(&self) -> Instant {
        match self.since.load(Ordering::Relaxed) {
            Self::CLIENT => Instant::now(),
            since => self.started + Duration::from_millis(since),
        }
    }
}

pin_project! {
    /// The response of a [`ResponseTimeout`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        #[pin]
        sleep: Sleep,
        timeout: Duration,
        turn: Option<Turn>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
{
    type Output = Result<R, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            return Poll::Ready(result.map_err(Into::into));
        }
        loop {
            ready!(this.sleep.as_mut().poll(cx));
            let deadline = this.turn.as_ref().map(|turn| turn.of_the_backend_since() + *this.timeout);
            match deadline.filter(|&deadline| deadline > Instant::now()) {
                Some(deadline) => this.sleep.as_mut().reset(deadline),
                None => return Poll::Ready(Err(Silent { timeout: *this.timeout }.into())),
            }
        }
    }
}

/// A backend that did not speak when it was its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent {
    timeout: Duration,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {:?}", self.timeout)
    }
}

impl Error for Silent {}

pin_project! {
    /// A request body that tells whose turn it is.
    #[derive(Debug)]
    pub struct TimedBody<B> {
        #[pin]
        inner: B,
        turn: Option<Turn>,
    }
}

impl<B: Body> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(cx);
        match (this.turn, &frame) {
            (Some(turn), Poll::Pending) => turn.goes_to_client(),
            (Some(turn), Poll::Ready(_)) => turn.goes_to_backend(),
            (None, _) => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
