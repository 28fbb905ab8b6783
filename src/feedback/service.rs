use super::{Classify, Complete, future::ResponseFuture};
use crate::{
    error::BoxError,
    pool::{Dispatch, Routed},
};
use std::task::{Context, Poll};
use tower::Service;

/// Learns from every request: the error-mapping layer.
///
/// It takes the lease out of a [`Dispatch`] and passes on the rest. An answer is judged, and ends the lease when it is
/// complete; an error is judged, mapped to a [`ProxyError`](super::ProxyError) that names the backend, and ends the lease now. A failure of
/// the transport takes the backend out of rotation before the caller hears of it.
///
/// # Cancellation
///
/// Dropping the response future ends the lease as [`Cancelled`](crate::backend::Outcome::Cancelled), which says nothing
/// against the backend.
#[derive(Clone, Copy, Debug)]
pub struct Feedback<S, C, W> {
    inner: S,
    classify: C,
    complete: W,
}

impl<S, C, W> Feedback<S, C, W> {
    pub(super) fn new(inner: S, classify: C, complete: W) -> Self {
        Self { inner, classify, complete }
    }
}

impl<S, C, W, T, Req> Service<Dispatch<T, Req>> for Feedback<S, C, W>
where
    S: Service<Routed<T, Req>>,
    S::Error: Into<BoxError>,
    C: Classify<S::Response> + Clone,
    W: Complete<S::Response, C> + Clone,
{
    type Response = W::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, C, W>;

    /// # Errors
    ///
    /// What the inner service says: it is gone for good. No backend is to blame for that.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, Dispatch { lease, target, request }: Dispatch<T, Req>) -> Self::Future {
        let inner = self.inner.call(Routed { target, request });
        ResponseFuture::new(inner, lease, self.classify.clone(), self.complete.clone())
    }
}
