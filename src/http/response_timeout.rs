use super::{
    TimedBody,
    deadline::{self, ShareExceeded},
    turn::Turn,
};
use crate::error::BoxError;
use http::Request;
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    pin::Pin,
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
/// Where the request has a [deadline](deadline), the attempt passes on what is left of it, and is given up sooner if another
/// may follow: after the time that is left, divided by the attempts that are.
///
/// # Errors
///
/// [`Silent`] after the timeout, which counts against the backend; [`ShareExceeded`] after the attempt's share, which does
/// not.
///
/// # Cancellation
///
/// Dropping the response future drops the attempt.
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let patience = Patience::new(self.timeout, deadline::share_out(&mut request));
        let request = request.map(TimedBody::new);
        let turn = request.body().turn();
        ResponseFuture { inner: self.inner.call(request), sleep: sleep(patience.time), patience, turn }
    }
}

/// How long a backend may be silent in one attempt, and on whose account.
#[derive(Clone, Copy, Debug)]
struct Patience {
    time: Duration,
    /// It is the attempt's share of the time of its request, and less than the timeout.
    is_share: bool,
}

impl Patience {
    fn new(timeout: Duration, share: Option<Duration>) -> Self {
        match share {
            Some(share) if share < timeout => Self { time: share, is_share: true },
            _ => Self { time: timeout, is_share: false },
        }
    }

    fn error(self) -> BoxError {
        if self.is_share { ShareExceeded::new(self.time).into() } else { Silent { timeout: self.time }.into() }
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
        patience: Patience,
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
            let deadline = this.turn.as_ref().map(|turn| turn.of_the_backend_since() + this.patience.time);
            match deadline.filter(|&deadline| deadline > Instant::now()) {
                Some(deadline) => this.sleep.as_mut().reset(deadline),
                None => return Poll::Ready(Err(this.patience.error())),
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
