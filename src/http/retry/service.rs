use super::{
    Kept, ReplayBody,
    future::{Next, ResponseFuture},
    policy::Policy,
};
use crate::{error::BoxError, http::deadline::AttemptsLeft};
use http::{Request, Response};
use http_body::Body;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::Service;

/// Sends a request that failed to another backend. See the [module](super).
///
/// # Cancellation
///
/// Dropping the response future drops the attempt that is going on. One that was decided and not yet made is given back
/// to the budget.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S> Retry<S> {
    pub(super) fn new(inner: S, policy: Arc<Policy>) -> Self {
        Self { inner, policy }
    }
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.policy.budget.deposit(Instant::now().into_std());
        let (mut head, body) = request.into_parts();
        if !self.policy.covers(&head) {
            let request = Request::from_parts(head, ReplayBody::once(body));
            return ResponseFuture::new(self.inner.call(request), None);
        }
        AttemptsLeft(self.policy.attempts_left(&head.method, 0)).mark(&mut head);
        let (body, replay) = ReplayBody::new(body, self.policy.body_limit);
        // Whoever called `poll_ready` made this one ready, not its clone.
        let kept = Kept::new(&mut head);
        let next = Next::new(self.inner.clone(), Arc::clone(&self.policy), kept, replay);
        ResponseFuture::new(self.inner.call(Request::from_parts(head, body)), Some(Box::new(next)))
    }
}
