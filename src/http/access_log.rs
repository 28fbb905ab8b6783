use super::HttpClassify;
use crate::{
    backend::{Origin, Outcome},
    error::{BoxError, root_cause},
    feedback::Fault,
    pool::Routed,
};
use http::{Method, Request, Response, Uri};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tower::{Layer, Service};

/// The `tracing` target of the events that [`AccessLog`] emits.
pub const ACCESS_TARGET: &str = "tower_balancer::access";

/// Puts an [`AccessLog`] in front of a service.
#[derive(Clone, Copy, Debug)]
pub struct AccessLogLayer {
    share: f64,
}

impl AccessLogLayer {
    /// Tells of everything.
    pub fn new() -> Self {
        Self { share: 1.0 }
    }

    /// Of the attempts that go well, tells of this share only, from 0 for none to 1 for all: chosen at random, both of
    /// the request and of the response, or of neither. Those that fail or are answered with 5xx are told of in any case.
    ///
    /// # Panics
    ///
    /// If it is not from 0 to 1.
    pub fn sample(self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "the share of a log is from 0 to 1, not {share}");
        Self { share }
    }
}

impl Default for AccessLogLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLog<S>;

    fn layer(&self, inner: S) -> AccessLog<S> {
        AccessLog { inner, share: self.share }
    }
}

/// Tells what is sent where and what came back, once per attempt, as `tracing` events of the target [`ACCESS_TARGET`]:
///
/// | message | level | fields |
/// |---|---|---|
/// | `request` | INFO | `method`, `path`, `backend` |
/// | `response` | INFO | `method`, `path`, `backend`, `status`, `elapsed_ms`, when the head of the answer is there |
/// | `failed` | WARN | `method`, `path`, `backend`, `elapsed_ms`, `error` |
/// | `cancelled` | INFO | `method`, `path`, `backend`, `elapsed_ms` |
///
/// A failed attempt may be repaired by another; what nothing has repaired is told by [`Respond`](super::Respond), as an error.
/// Cancelled is what nobody waits for any more: the client has gone away or its own body broke, the time of the request was
/// over, or another attempt was quicker.
///
/// The query is left out: it is where secrets travel. With the target disabled it costs one comparison a request.
#[derive(Clone, Copy, Debug)]
pub struct AccessLog<S> {
    inner: S,
    share: f64,
}

impl<S, B, R> Service<Routed<Origin, Request<B>>> for AccessLog<S>
where
    S: Service<Routed<Origin, Request<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, routed: Routed<Origin, Request<B>>) -> Self::Future {
        let entry = Entry::begin(&routed, self.share);
        ResponseFuture { inner: self.inner.call(routed), entry }
    }
}

#[derive(Debug)]
struct Entry {
    method: Method,
    uri: Uri,
    backend: Origin,
    started: Instant,
    /// Whether it is told of where it goes well.
    is_told: bool,
    has_ended: bool,
}

impl Entry {
    fn begin<B>(Routed { target, request }: &Routed<Origin, Request<B>>, share: f64) -> Option<Box<Self>> {
        if !tracing::enabled!(target: ACCESS_TARGET, tracing::Level::WARN) {
            return None;
        }
        let (method, path) = (request.method(), request.uri().path());
        let is_told = share >= 1.0 || fastrand::f64() < share;
        if is_told {
            tracing::info!(target: ACCESS_TARGET, %method, path, backend = %target, "request");
        }
        let (method, uri) = (method.clone(), request.uri().clone());
        Some(Box::new(Self {
            method,
            uri,
            backend: target.clone(),
            started: Instant::now(),
            is_told,
            has_ended: false,
        }))
    }

    fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn end<R>(mut self, result: &Result<Response<R>, BoxError>) {
        // What could not be sent for a want of this machine's is nobody's wish.
        let is_cancelled = |fault: Fault| fault.kind == Outcome::Cancelled && fault.sent;
        if result.as_ref().is_err_and(|error| is_cancelled(HttpClassify::fault(&**error))) {
            return;
        }
        self.has_ended = true;
        let Self { method, backend, .. } = &self;
        let (path, elapsed_ms) = (self.uri.path(), self.elapsed_ms());
        match result {
            Ok(response) if self.is_told || response.status().is_server_error() => {
                let status = response.status().as_u16();
                tracing::info!(target: ACCESS_TARGET, %method, path, %backend, status, elapsed_ms, "response");
            }
            Ok(_) => {}
            Err(error) => {
                let error = root_cause(&**error);
                tracing::warn!(target: ACCESS_TARGET, %method, path, %backend, elapsed_ms, error, "failed");
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.has_ended && self.is_told {
            let Self { method, backend, .. } = &*self;
            let (path, elapsed_ms) = (self.uri.path(), self.elapsed_ms());
            tracing::info!(target: ACCESS_TARGET, %method, path, %backend, elapsed_ms, "cancelled");
        }
    }
}

pin_project! {
    /// The response of an [`AccessLog`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // Apart: mostly nobody listens, and it would be moved around with every request.
        entry: Option<Box<Entry>>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx)).map_err(Into::into);
        if let Some(entry) = this.entry.take() {
            entry.end(&result);
        }
        Poll::Ready(result)
    }
}
