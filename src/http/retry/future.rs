use super::{
    Charge, Kept, ReplayBody, Tried,
    policy::{Failure, Policy, is_unavailable},
    replay::Replay,
};
use crate::{error::BoxError, http::deadline::AttemptsLeft};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use tower::Service;

pin_project! {
    /// The response of a [`Retry`](super::Retry).
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        #[pin]
        state: State<S::Future>,
        // `None` where there is no other attempt, whatever becomes of this one.
        // Apart: it is large, and would be moved around with every request.
        next: Option<Box<Next<S, B, S::Response>>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Called { #[pin] inner: F },
        Delayed { #[pin] delay: Sleep },
        Due,
    }
}

/// What the next attempt is made of.
pub(super) struct Next<S, B, A> {
    service: S,
    policy: Arc<Policy>,
    kept: Kept,
    replay: Replay<B>,
    /// Attempts so far.
    made: u32,
    tried: Tried,
    /// The attempt that was decided, until it is made: its body, and what it is paid with.
    due: Option<(ReplayBody<B>, Charge)>,
    /// What the attempt that is made now is paid with, until it is known that it went somewhere.
    paid: Option<Charge>,
    /// What the last attempt came to: to be told where there is nobody for another. Apart: it is large, and seldom.
    failed: Option<Box<Result<A, BoxError>>>,
}

impl<S, B, A> Next<S, B, A> {
    pub(super) fn new(service: S, policy: Arc<Policy>, kept: Kept, replay: Replay<B>) -> Self {
        let tried = Tried::default();
        Self { service, policy, kept, replay, made: 1, tried, due: None, paid: None, failed: None }
    }

    /// Decides on another attempt after `answer`, and when it will be: `None` where the answer stands.
    fn decide<R>(&mut self, answer: &Result<Response<R>, BoxError>) -> Option<Duration> {
        let failure = Failure::of(answer)?;
        let delay = self.policy.delay(&failure, self.kept.method(), self.made, fastrand::u64(..))?;
        let charge = self.policy.budget.charge(Instant::now().into_std())?;
        // At once: the connection that has failed may go on reading for a while.
        self.due = Some((self.replay.rewind()?, charge));
        self.made += 1;
        self.tried.others_only = failure.others_only;
        // Where somebody below has asked a second one, two were tried, and one has told.
        for backend in self.kept.picked().map(|backend| backend.id()).chain([&failure.backend]) {
            if !self.tried.backends.contains(backend) {
                self.tried.backends.push(backend.clone());
            }
        }
        Some(delay)
    }

    /// The request for the attempt that is due.
    fn request(&mut self) -> Request<ReplayBody<B>> {
        let mut head = self.kept.head();
        AttemptsLeft(self.policy.attempts_left(&head.method, self.made - 1)).mark(&mut head);
        self.tried.clone().mark(self.made - 1, &mut head);
        let (body, charge) = self.due.take().expect("an attempt that is due was decided");
        self.paid = Some(charge);
        Request::from_parts(head, body)
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    pub(super) fn new(inner: S::Future, next: Option<Box<Next<S, B, S::Response>>>) -> Self {
        Self { state: State::Called { inner }, next }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Called { inner } => {
                    let answer = inner.poll(cx).map_err(Into::into);
                    let Some(next) = this.next else { return answer };
                    // Where there was nobody to try, nothing was sent, and the charge is given back.
                    let nowhere = matches!(&answer, Poll::Ready(answer) if is_unavailable(answer));
                    if let Some(charge) = next.paid.take().filter(|_| !nowhere) {
                        charge.spend();
                        next.policy.budget.retried();
                        // There is somebody: what the one before has said will not be needed, and is held for nothing.
                        next.failed.take_if(|failed| failed.is_ok());
                    }
                    let answer = ready!(answer);
                    let Some(delay) = next.decide(&answer) else {
                        next.replay.commit();
                        // Nobody left to try is no news to a client whose request has failed.
                        let failed = next.failed.take_if(|_| is_unavailable(&answer));
                        return Poll::Ready(failed.map_or(answer, |failed| *failed));
                    };
                    tracing::debug!(attempt = next.made, ?delay, "trying another backend");
                    // What the failed attempt holds ends here, its lease first of all: unless nobody but others will do, of
                    // whom there may be none.
                    next.failed = (answer.is_err() || next.tried.others_only).then(|| Box::new(answer));
                    this.state.set(if delay.is_zero() {
                        State::Due
                    } else {
                        State::Delayed { delay: tokio::time::sleep(delay) }
                    });
                }
                StateProjection::Delayed { delay } => {
                    ready!(delay.poll(cx));
                    this.state.set(State::Due);
                }
                StateProjection::Due => {
                    let next = this.next.as_mut().expect("an attempt that is due was decided");
                    ready!(next.service.poll_ready(cx)).map_err(Into::into)?;
                    let request = next.request();
                    let inner = next.service.call(request);
                    this.state.set(State::Called { inner });
                }
            }
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
