use super::Rule;
use crate::{
    backend::Moment,
    error::BoxError,
    http::{
        Charge, Tried,
        retry::{Failure, Picked, is_unavailable},
    },
};
use http::{Request, Response, request};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep};
use tower::{Service, util::Oneshot};

pin_project! {
    /// The response of a [`Hedge`](super::Hedge).
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        first: Option<S::Future>,
        #[pin]
        hedge: Option<Oneshot<S, Request<B>>>,
        #[pin]
        timer: Option<Sleep>,
        // `None` where there is only one attempt.
        second: Option<Second<S, S::Response>>,
    }
}

/// What a second attempt is made of.
pub(super) struct Second<S, R> {
    /// Gone once the attempt is made.
    service: Option<S>,
    rule: Arc<Rule>,
    started: Instant,
    head: request::Parts,
    /// Where the first one went.
    first: Picked,
    /// What the second attempt is paid with, until it is known that it went somewhere.
    paid: Option<[Charge; 2]>,
    /// What one attempt came to, while the other goes on.
    failed: Option<Result<R, BoxError>>,
}

impl<S, R> Second<S, R> {
    pub(super) fn new(service: S, rule: Arc<Rule>, head: &mut request::Parts) -> Self {
        let first = Picked::default();
        let copy = head.clone();
        head.extensions.insert(first.clone());
        Self { service: Some(service), rule, started: Instant::now(), head: copy, first, paid: None, failed: None }
    }

    /// The second attempt, where there may be one.
    fn attempt<B: Default>(&mut self) -> Option<Oneshot<S, Request<B>>>
    where
        S: Service<Request<B>>,
    {
        let service = self.service.take()?;
        self.paid = Some(self.rule.charge(Instant::now().into_std())?);
        let mut head = self.head.clone();
        let mut tried = head.extensions.remove::<Tried>().unwrap_or_default();
        tried.backends.extend(self.first.backend().cloned());
        tried.others_only = true;
        tried.mark(&mut head);
        tracing::debug!(after = ?self.started.elapsed(), "asking a second backend");
        Some(Oneshot::new(service, Request::from_parts(head, B::default())))
    }

    /// The end: with `answer`, or with what failed first where that failed too.
    fn settle(&mut self, answer: Result<R, BoxError>, is_good: bool) -> Result<R, BoxError> {
        // A failure may be quick, and is no measure of what is late.
        if is_good {
            let now = Instant::now();
            self.rule.times.record(now - self.started, Moment::of(now.into_std()));
        }
        self.failed.take().filter(|_| answer.is_err()).unwrap_or(answer)
    }
}

/// Whether there is no need to wait for the other.
fn is_good<R>(answer: &Result<Response<R>, BoxError>) -> bool {
    answer.is_ok() && Failure::of(answer).is_none()
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn new(first: S::Future, second: Option<Second<S, S::Response>>) -> Self {
        let delay = second.as_ref().and_then(|second| second.rule.delay(second.started.into_std()));
        Self { first: Some(first), hedge: None, timer: delay.map(tokio::time::sleep), second }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body + Default,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(answer) = first.poll(cx)
        {
            let answer = answer.map_err(Into::into);
            this.first.set(None);
            let Some(second) = this.second else { return Poll::Ready(answer) };
            let is_good = is_good(&answer);
            if this.hedge.is_none() || is_good {
                // Who is late and comes after all is dropped here, and counts for nobody.
                this.hedge.set(None);
                return Poll::Ready(second.settle(answer, is_good));
            }
            second.failed = Some(answer);
        }
        let Some(second) = this.second else { return Poll::Pending };
        if let Some(timer) = this.timer.as_mut().as_pin_mut()
            && timer.poll(cx).is_ready()
        {
            this.timer.set(None);
            this.hedge.set(second.attempt());
        }
        if let Some(hedge) = this.hedge.as_mut().as_pin_mut() {
            let answer = hedge.poll(cx).map_err(Into::into);
            let nowhere = matches!(&answer, Poll::Ready(answer) if is_unavailable(answer));
            second.paid.take().filter(|_| !nowhere).map(|paid| paid.map(Charge::spend));
            let answer = ready!(answer);
            this.hedge.set(None);
            let is_good = is_good(&answer);
            if this.first.is_none() || is_good {
                this.first.set(None);
                return Poll::Ready(second.settle(answer, is_good));
            }
            // That there was nobody else to ask is no answer.
            second.failed = Some(answer).filter(|answer| !is_unavailable(answer));
        }
        Poll::Pending
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
