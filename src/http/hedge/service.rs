use super::{
    Rule,
    future::{ResponseFuture, Second},
};
use crate::{error::BoxError, strategy::SessionToken};
use http::{Request, Response};
use http_body::Body;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// Sends a request to a second backend where the first takes long. See the [module](super).
///
/// # Cancellation
///
/// Dropping the response future drops both attempts.
#[derive(Clone, Debug)]
pub struct Hedge<S> {
    inner: S,
    rule: Option<Arc<Rule>>,
}

impl<S> Hedge<S> {
    pub(super) fn new(inner: S, rule: Option<Arc<Rule>>) -> Self {
        Self { inner, rule }
    }
}

impl<S, B, R> Service<Request<B>> for Hedge<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body + Default,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let may_be_sent_twice = request.method().is_idempotent()
            && request.body().is_end_stream()
            // Another backend knows nothing of it, and would begin it anew.
            && request.extensions().get::<SessionToken>().is_none();
        let Some(rule) = self.rule.as_ref().filter(|_| may_be_sent_twice) else {
            return ResponseFuture::new(self.inner.call(request), None);
        };
        let (mut head, body) = request.into_parts();
        let second = Second::new(self.inner.clone(), Arc::clone(rule), &mut head);
        ResponseFuture::new(self.inner.call(Request::from_parts(head, body)), Some(second))
    }
}
