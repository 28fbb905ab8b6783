//! The last answers of connections that are about to be closed.

use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper::service::Service;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::watch;

/// A service that says so in its answers when it is to stop: a client that is told does not send its next request into a
/// connection that is being closed. So it does after a CONNECT, whoever has answered it: none is granted, and what follows is meant
/// for whom it would have led to.
#[derive(Clone)]
pub struct Farewell<S> {
    inner: S,
    // A receiver counts itself where all threads do.
    stop: Arc<watch::Receiver<bool>>,
}

impl<S> Farewell<S> {
    /// It is to stop when `stop` changes.
    pub fn new(inner: S, stop: watch::Receiver<bool>) -> Self {
        Self { inner, stop: Arc::new(stop) }
    }
}

impl<S, B, R> Service<Request<B>> for Farewell<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = FarewellFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        // Over HTTP/2 the connection itself says so.
        let stop = (request.version() < Version::HTTP_2).then(|| Arc::clone(&self.stop));
        let is_last = *request.method() == Method::CONNECT;
        FarewellFuture { inner: self.inner.call(request), stop, is_last }
    }
}

pin_project! {
    pub struct FarewellFuture<F> {
        #[pin]
        inner: F,
        stop: Option<Arc<watch::Receiver<bool>>>,
        is_last: bool,
    }
}

impl<F, R, E> Future for FarewellFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        let is_last = |stop: &Arc<watch::Receiver<bool>>| *this.is_last || stop.has_changed().unwrap_or(true);
        if let Ok(response) = &mut result
            && this.stop.as_ref().is_some_and(is_last)
        {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(result)
    }
}
