use super::DeadlineExceeded;
use crate::error::BoxError;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

pin_project! {
    /// The response of a [`Deadline`](super::Deadline).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        // `None` when the time is over.
        #[pin]
        inner: Option<F>,
        // `None` where there is no deadline, as for most. Then it need not be moved around with them.
        timer: Option<Pin<Box<Sleep>>>,
        time: Duration,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn unbounded(inner: F) -> Self {
        Self { inner: Some(inner), timer: None, time: Duration::MAX }
    }

    pub(super) fn until(inner: Option<F>, deadline: Instant, now: Instant) -> Self {
        Self { inner, timer: Some(Box::pin(sleep_until(deadline))), time: deadline.saturating_duration_since(now) }
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
        // First the answer: one that is there is not late.
        if let Some(inner) = this.inner.as_mut().as_pin_mut()
            && let Poll::Ready(result) = inner.poll(cx)
        {
            return Poll::Ready(result.map_err(Into::into));
        }
        let Some(timer) = this.timer else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        // Now, not when the caller gets round to it: the attempt that is going on holds a lease.
        this.inner.set(None);
        Poll::Ready(Err(DeadlineExceeded::new(*this.time).into()))
    }
}
