use super::{
    Rule,
    future::{ResponseFuture, Second},
};
use crate::{
    error::BoxError,
    http::{
        retry::{ATTEMPT, Kept},
        seldom,
    },
    strategy::SessionToken,
};
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
/// Dropping the response future drops both attempts. An attempt on a backend that has stopped answering is left to itself,
/// in a task of its own, once another backend has answered: what becomes of it is how that backend shows that it is back.
/// Bound it by a timeout below, as [`ResponseTimeout`](crate::http::ResponseTimeout) is one.
#[derive(Clone, Debug)]
pub struct Hedge<S> {
    inner: S,
    rule: Option<Arc<Rule>>,
    is_beside: bool,
}

impl<S> Hedge<S> {
    pub(super) fn new(inner: S, rule: Option<Arc<Rule>>, is_beside: bool) -> Self {
        Self { inner, rule, is_beside }
    }

    /// What the retry right above keeps of `request`.
    fn kept<'a, B>(&self, request: &'a Request<B>) -> Option<&'a Kept> {
        request.extensions().get().filter(|_| self.is_beside)
    }
}

impl<S, B, R> Service<Request<B>> for Hedge<S>
where
    S: Service<Request<B>, Response = Response<R>, Future: Send + 'static> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Default + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(rule) = self.rule.as_ref().filter(|_| may_be_hedged(&request, self.kept(&request))) else {
            return ResponseFuture::alone(self.inner.call(request));
        };
        let kept = match self.kept(&request).cloned() {
            Some(kept) => kept,
            None => {
                let (mut head, body) = request.into_parts();
                let kept = Kept::below(&mut head);
                request = Request::from_parts(head, body);
                kept
            }
        };
        let second = Second::new(self.inner.clone(), Arc::clone(rule), kept);
        ResponseFuture::hedged(self.inner.call(request), second)
    }
}

fn may_be_hedged<B: Body>(request: &Request<B>, kept: Option<&Kept>) -> bool {
    // A retry keeps nothing of what somebody else sends again.
    let is_again = || kept.map_or_else(|| seldom::has(request.headers(), &ATTEMPT), Kept::is_again);
    // Not only idempotent: the attempt that is left to itself may arrive after the client has gone on.
    request.method().is_safe()
        && request.body().is_end_stream()
        // Whoever sends this one again already needs no help.
        && !is_again()
        // Another backend knows nothing of a session, and would begin it anew.
        && request.extensions().get::<SessionToken>().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HedgeLayer, RetryBudget};
    use tower::Layer;

    #[test]
    fn services_of_one_layer_share_what_they_measured_and_count_their_clones_by_themselves() {
        let layer = HedgeLayer::new(RetryBudget::default());
        let rules = [layer.layer(()), layer.layer(())].map(|service| service.rule.unwrap());
        assert!(!Arc::ptr_eq(&rules[0], &rules[1]));
        let [one, other] = rules.each_ref().map(|rule| rule.late.as_ref().unwrap());
        assert!(Arc::ptr_eq(one, other));
    }
}
