use super::{RequestDeadline, future::ResponseFuture, header};
use crate::error::BoxError;
use http::Request;
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;

/// Gives a request up when its time is over, all its attempts together. See the [module](super).
///
/// What it finds out is put into the request's extensions, as a [`RequestDeadline`].
///
/// # Errors
///
/// [`DeadlineExceeded`](super::DeadlineExceeded) when the time is over. A request that has none left when it arrives is not
/// passed on at all.
///
/// # Cancellation
///
/// Dropping the response future drops the request, and so does the end of its time. An attempt that is going on then ends
/// as [`Cancelled`](crate::backend::Outcome::Cancelled), which says nothing against the backend.
#[derive(Clone, Copy, Debug)]
pub struct Deadline<S> {
    inner: S,
    time: Option<Duration>,
}

impl<S> Deadline<S> {
    pub(super) fn new(inner: S, time: Option<Duration>) -> Self {
        Self { inner, time }
    }

    /// When the time of `request` is over, and when it is now. One that no clock can show is none.
    fn of<B>(&self, request: &Request<B>) -> Option<(Instant, Instant)> {
        let time = self.time.into_iter().chain(header::read(request.headers())).min();
        let told = request.extensions().get::<RequestDeadline>().map(|told| told.0.into());
        if time.is_none() && told.is_none() {
            return None;
        }
        let now = Instant::now();
        let deadline = time.and_then(|time| now.checked_add(time)).into_iter().chain(told).min();
        deadline.map(|deadline| (deadline, now))
    }
}

impl<S, B> Service<Request<B>> for Deadline<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some((deadline, now)) = self.of(&request) else {
            return ResponseFuture::unbounded(self.inner.call(request));
        };
        request.extensions_mut().insert(RequestDeadline(deadline.into_std()));
        // Nobody waits for what is over: no backend is bothered with it.
        let inner = (deadline > now).then(|| self.inner.call(request));
        ResponseFuture::until(inner, deadline, now)
    }
}
