use super::{Rule, TRACE_TARGET, TRACEPARENT, Traced, span_id, state::TRACESTATE};
use crate::{
    backend::{Origin, Outcome},
    error::BoxError,
    feedback::Classify,
    http::{HttpClassify, retry::ATTEMPT, seldom},
    pool::Routed,
};
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::Service;
use tracing::{Span, field, info_span};

/// Tells each backend in which span it is: once per attempt, below a [`Trace`](super::Trace), without which it does nothing.
/// See the [module](super).
#[derive(Clone, Debug)]
pub struct TraceAttempt<S> {
    inner: S,
    rule: Option<Arc<Rule>>,
}

impl<S> TraceAttempt<S> {
    pub(super) fn new(inner: S, rule: Option<Arc<Rule>>) -> Self {
        Self { inner, rule }
    }
}

impl<S, B, R> Service<Routed<Origin, Request<B>>> for TraceAttempt<S>
where
    S: Service<Routed<Origin, Request<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = AttemptFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut routed: Routed<Origin, Request<B>>) -> Self::Future {
        let span = self.rule.as_ref().and_then(|rule| begin(&mut routed, rule)).map(Box::new);
        let inner = match &span {
            Some(span) => span.in_scope(|| self.inner.call(routed)),
            None => self.inner.call(routed),
        };
        AttemptFuture { inner, span }
    }
}

/// Writes down in `routed` which span it is; that span, where it is recorded.
fn begin<B>(Routed { target, request }: &mut Routed<Origin, Request<B>>, rule: &Rule) -> Option<Span> {
    let Traced { context, state } = request.extensions_mut().remove()?;
    let context = context.child();
    let headers = request.headers_mut();
    headers.extend(context.header().map(|parent| (TRACEPARENT, parent)));
    headers.extend(state.map(|state| (TRACESTATE, state)));
    context.is_sampled().then(|| {
        let resent =
            seldom::get(request.headers(), &ATTEMPT).and_then(|number| number.to_str().ok()?.parse::<u64>().ok());
        info_span!(
            target: TRACE_TARGET,
            "attempt",
            trace_id = %format_args!("{:032x}", context.trace_id()),
            span_id = span_id(Some(context.span_id())),
            parent_span_id = span_id(context.parent_id()),
            otel.name = request.method().as_str(),
            otel.kind = "client",
            http.request.method = request.method().as_str(),
            url.path = request.uri().path(),
            server.address = target.host(),
            server.port = target.port(),
            backend = %target,
            pool = &*rule.pool,
            http.request.resend_count = resent,
            http.response.status_code = field::Empty,
            outcome = field::Empty,
            error.type = field::Empty,
        )
    })
}

pin_project! {
    /// The response of a [`TraceAttempt`].
    #[derive(Debug)]
    pub struct AttemptFuture<F> {
        #[pin]
        inner: F,
        // Apart: mostly there is none, and it would be moved around with every request.
        span: Option<Box<Span>>,
    }
}

impl<F, R, E> Future for AttemptFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(span) = this.span else { return this.inner.poll(cx).map_err(Into::into) };
        let result = {
            let _entered = span.enter();
            ready!(this.inner.poll(cx)).map_err(Into::into)
        };
        end(span, &result);
        *this.span = None;
        Poll::Ready(result)
    }
}

fn end<R>(span: &Span, result: &Result<Response<R>, BoxError>) {
    let (outcome, status) = match result {
        // What begins well may end badly; the span is over by then.
        Ok(response) => (HttpClassify.response(response).unwrap_or(Outcome::Success), Some(response.status())),
        Err(error) => (HttpClassify::fault(&**error).kind, None),
    };
    span.record("outcome", outcome.as_str());
    let Some(status) = status else {
        span.record("error.type", outcome.as_str());
        return;
    };
    span.record("http.response.status_code", status.as_u16());
    // To whoever asks, a status from 400 up is an error.
    if status.as_u16() >= 400 {
        span.record("error.type", status.as_str());
    }
}
