use super::{Classify, Complete, ProxyError};
use crate::{
    backend::Lease,
    error::{BoxError, root_cause},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

pin_project! {
    /// The response of a [`Feedback`](super::Feedback).
    #[derive(Debug)]
    pub struct ResponseFuture<F, C, W> {
        #[pin]
        inner: F,
        lease: Option<Lease>,
        classify: C,
        complete: W,
    }

    impl<F, C, W> PinnedDrop for ResponseFuture<F, C, W> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(lease) = this.project().lease.take() {
                lease.give_up(Instant::now().into_std());
            }
        }
    }
}

impl<F, C, W> ResponseFuture<F, C, W> {
    pub(super) fn new(inner: F, lease: Lease, classify: C, complete: W) -> Self {
        Self { inner, lease: Some(lease), classify, complete }
    }
}

impl<F, R, E, C, W> Future for ResponseFuture<F, C, W>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
    C: Classify<R> + Clone,
    W: Complete<R, C>,
{
    type Output = Result<W::Response, BoxError>;

    /// # Panics
    ///
    /// Where it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let lease = this.lease.take().expect("polled after it was ready");
        Poll::Ready(match result {
            Ok(response) => {
                let outcome = this.classify.response(&response);
                if let Some(rest) = this.classify.rest(&response) {
                    lease.backend().rest(rest, Instant::now().into_std());
                }
                Ok(this.complete.complete(lease, outcome, response, this.classify.clone()))
            }
            Err(error) => {
                let source = error.into();
                let fault = this.classify.error(&*source);
                let backend = lease.backend().id().clone();
                lease.fail(fault.kind, &root_cause(&*source), Instant::now().into_std());
                Err(ProxyError::new(backend, fault, source).into())
            }
        })
    }
}
