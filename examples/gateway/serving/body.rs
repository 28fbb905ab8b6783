//! What a client gets to read: the answer of a pool, or a few words of our own.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::OwnedSemaphorePermit;
use tower::BoxError;
use tower_balancer::{http::OwnAnswer, proxy::ProxyBody};

pin_project! {
    /// The body of an answer, with what is held until its end.
    pub struct Body {
        #[pin]
        inner: Either<ProxyBody, Full<Bytes>>,
        place: Option<OwnedSemaphorePermit>,
    }
}

/// Nothing.
impl Default for Body {
    fn default() -> Self {
        Self { inner: Either::Right(Full::default()), place: None }
    }
}

impl Body {
    /// A pool's, with its place among the requests in flight.
    pub fn of(body: ProxyBody, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { inner: Either::Left(body), place }
    }

    /// No route leads anywhere.
    pub fn not_found() -> Response<Self> {
        words(StatusCode::NOT_FOUND, "Not found")
    }

    /// A pool has as much as it may.
    pub fn overloaded() -> Response<Self> {
        let mut response = words(StatusCode::SERVICE_UNAVAILABLE, "Too many requests in flight");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response.extensions_mut().insert(OwnAnswer::Overloaded);
        response
    }
}

fn words(status: StatusCode, words: &'static str) -> Response<Body> {
    let inner = Either::Right(Full::new(Bytes::from_static(words.as_bytes())));
    let mut response = Response::new(Body { inner, place: None });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
