use super::{Rule, TRACE_TARGET, Traced, span_id};
use crate::http::{OwnAnswer, Peer};
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::Service;
use tracing::{Span, field, info_span};

/// Takes requests into their traces: once per request. See the [module](super).
///
/// Where nothing is traced it costs a branch.
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
    rule: Option<Arc<Rule>>,
}

impl<S> Trace<S> {
    pub(super) fn new(inner: S, rule: Option<Arc<Rule>>) -> Self {
        Self { inner, rule }
    }
}

impl<S, B, R> Service<Request<B>> for Trace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(rule) = &self.rule else {
            return ResponseFuture { inner: self.inner.call(request), span: None };
        };
        let traced = rule.begin(request.headers_mut(), fastrand::u64(..));
        let span = traced.context.is_sampled().then(|| Box::new(begin(&request, &traced, rule)));
        request.extensions_mut().insert(traced);
        let inner = match &span {
            Some(span) => span.in_scope(|| self.inner.call(request)),
            None => self.inner.call(request),
        };
        ResponseFuture { inner, span }
    }
}

fn begin<B>(request: &Request<B>, Traced { context, .. }: &Traced, rule: &Rule) -> Span {
    info_span!(
        target: TRACE_TARGET,
        "request",
        trace_id = %format_args!("{:032x}", context.trace_id()),
        span_id = span_id(Some(context.span_id())),
        parent_span_id = span_id(context.parent_id()),
        otel.name = request.method().as_str(),
        otel.kind = "server",
        http.request.method = request.method().as_str(),
        url.path = request.uri().path(),
        client.address = request.extensions().get::<Peer>().map(|peer| field::display(peer.ip())),
        pool = &*rule.pool,
        http.response.status_code = field::Empty,
        error.type = field::Empty,
    )
}

pin_project! {
    /// The response of a [`Trace`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // Apart: mostly there is none, and it would be moved around with every request.
        span: Option<Box<Span>>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(span) = this.span else { return this.inner.poll(cx) };
        let result = {
            let _entered = span.enter();
            ready!(this.inner.poll(cx))
        };
        if let Ok(response) = &result {
            if let Some(reason) = response.extensions().get::<OwnAnswer>() {
                span.record("error.type", reason.as_str());
            } else if response.status().is_server_error() {
                span.record("error.type", response.status().as_str());
            }
            span.record("http.response.status_code", response.status().as_u16());
        }
        *this.span = None;
        Poll::Ready(result)
    }
}
