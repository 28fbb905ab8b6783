use super::{Rule, Why};
use crate::{
    backend::Moment,
    error::BoxError,
    http::{
        Charge, Tried,
        retry::{Failure, Kept, is_unavailable},
    },
};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Service, util::Oneshot};

pin_project! {
    /// The response of a [`Hedge`](super::Hedge).
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        Alone { #[pin] attempt: S::Future },
        // Apart: what may be needed for a second attempt is large, and would be moved around with every request. And so the
        // first can be left to itself. `None` when it is over.
        Hedged { attempts: Option<Pin<Box<Attempts<S, B>>>> },
    }
}

pin_project! {
    /// A first attempt, and a second one where there is reason.
    pub(super) struct Attempts<S, B>
    where
        S: Service<Request<B>>,
    {
        // What is left of it at the end is left to itself.
        #[pin]
        first: Option<S::Future>,
        hedge: Option<Another<S, B>>,
        #[pin]
        timer: Option<Sleep>,
        second: Second<S, S::Response>,
    }
}

/// A second attempt. Boxed: few requests need one.
type Another<S, B> = Pin<Box<Oneshot<S, Request<B>>>>;

/// What a second attempt is made of.
pub(super) struct Second<S, R> {
    service: S,
    rule: Arc<Rule>,
    started: Instant,
    kept: Kept,
    /// When it takes long.
    late: Option<Instant>,
    /// How long until somebody looks again whether its backend has stopped.
    look: Duration,
    why: Option<Why>,
    /// What the second attempt is paid with, until it is known that it went somewhere.
    paid: Vec<Charge>,
    /// What one attempt came to, while the other goes on.
    failed: Option<Box<Result<R, BoxError>>>,
}

/// Nobody looks before whether the backend has stopped, for most answers come sooner. Each look comes after twice the time.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

impl<S, R> Second<S, R> {
    pub(super) fn new(service: S, rule: Arc<Rule>, kept: Kept) -> Self {
        let started = Instant::now();
        let late = rule.late_after(started.into_std()).map(|after| started + after);
        Self { service, rule, started, kept, late, look: FIRST_LOOK, why: None, paid: Vec::new(), failed: None }
    }

    /// When there is something to decide.
    fn due(&self) -> Instant {
        let look = self.started + self.look;
        self.late.map_or(look, |late| late.min(look))
    }

    /// The second attempt, where there is reason for one now, and the means.
    fn attempt<B: Default>(&mut self) -> Option<Another<S, B>>
    where
        S: Service<Request<B>> + Clone,
    {
        let now = Instant::now();
        let is_late = self.late.take_if(|late| *late <= now).is_some();
        if self.started + self.look <= now {
            self.look += self.look.min(LAST_LOOK);
        }
        let has_stopped = self.kept.picked().next().is_some_and(|first| first.has_stopped(now.into_std()));
        let why = if has_stopped { Why::Stopped } else { Why::Late };
        if !(is_late || has_stopped) {
            return None;
        }
        self.paid = self.rule.charge(why, now.into_std())?;
        self.why = Some(why);
        let mut head = self.kept.head();
        let backends = self.kept.picked().map(|backend| backend.id().clone()).collect();
        Tried { backends, others_only: true }.mark(1, &mut head);
        tracing::debug!(?why, after = ?self.started.elapsed(), "asking a second backend");
        Some(Box::pin(Oneshot::new(self.service.clone(), Request::from_parts(head, B::default()))))
    }

    /// The end: with `answer`, or with what failed first where that failed too.
    fn settle(&mut self, answer: Result<R, BoxError>, is_good: bool) -> Result<R, BoxError> {
        // A failure may be quick, and is no measure of what is late.
        if is_good && let Some(late) = &self.rule.late {
            let now = Instant::now();
            late.times.record(now - self.started, Moment::of(now.into_std()));
        }
        self.failed.take_if(|_| answer.is_err()).map_or(answer, |failed| *failed)
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
    pub(super) fn alone(attempt: S::Future) -> Self {
        Self { state: State::Alone { attempt } }
    }

    pub(super) fn hedged(first: S::Future, second: Second<S, S::Response>) -> Self {
        let timer = Some(sleep_until(second.due()));
        let attempts = Attempts { first: Some(first), hedge: None, timer, second };
        Self { state: State::Hedged { attempts: Some(Box::pin(attempts)) } }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>, Future: Send + 'static> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Default + Send + 'static,
    R: Send + 'static,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Alone { attempt } => attempt.poll(cx).map_err(Into::into),
            StateProjection::Hedged { attempts } => {
                let answer = ready!(attempts.as_mut().expect("polled after it was ready").as_mut().poll(cx));
                if let Some(mut rest) = attempts.take().filter(|attempts| attempts.first.is_some()) {
                    // Not dropped: what becomes of it is how its backend shows that it is back, or only slow. A timeout
                    // below ends it in any case.
                    tokio::spawn(poll_fn(move |cx| rest.as_mut().poll_first(cx).map(drop)));
                }
                Poll::Ready(answer)
            }
        }
    }
}

impl<S, B, R> Attempts<S, B>
where
    S: Service<Request<B>, Response = Response<R>, Future: Send + 'static> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Default + Send + 'static,
    R: Send + 'static,
{
    /// The first one's answer, once.
    fn poll_first(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Response<R>, BoxError>> {
        let mut first = self.project().first;
        let Some(attempt) = first.as_mut().as_pin_mut() else { return Poll::Pending };
        let answer = ready!(attempt.poll(cx)).map_err(Into::into);
        first.set(None);
        Poll::Ready(answer)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Response<R>, BoxError>> {
        let first = self.as_mut().poll_first(cx);
        let mut this = self.project();
        let second = this.second;
        if let Poll::Ready(answer) = first {
            // Mostly nobody asks: there is no other, and nothing is measured.
            let is_good = this.hedge.is_none() && second.rule.late.is_none() || is_good(&answer);
            if this.hedge.is_none() || is_good {
                // Who is late and comes after all is dropped here, and counts for nobody.
                *this.hedge = None;
                return Poll::Ready(second.settle(answer, is_good));
            }
            second.failed = Some(Box::new(answer));
        }
        loop {
            while let Some(mut timer) = this.timer.as_mut().as_pin_mut()
                && timer.as_mut().poll(cx).is_ready()
            {
                *this.hedge = second.attempt();
                match this.hedge {
                    Some(_) => this.timer.set(None),
                    None => timer.reset(second.due()),
                }
            }
            let Some(hedge) = this.hedge else { return Poll::Pending };
            let answer = hedge.as_mut().poll(cx).map_err(Into::into);
            let nowhere = matches!(&answer, Poll::Ready(answer) if is_unavailable(answer));
            let paid = std::mem::take(&mut second.paid);
            if !nowhere {
                if !paid.is_empty() {
                    second.rule.budget.hedged();
                }
                paid.into_iter().for_each(Charge::spend);
            }
            let answer = ready!(answer);
            *this.hedge = None;
            let is_good = is_good(&answer);
            if this.first.is_none() || is_good {
                if second.why != Some(Why::Stopped) {
                    this.first.set(None);
                }
                return Poll::Ready(second.settle(answer, is_good));
            }
            if !nowhere {
                second.failed = Some(Box::new(answer));
                return Poll::Pending;
            }
            // That there was nobody else to ask is no answer. There may be by the next look.
            this.timer.set(Some(sleep_until(second.due())));
        }
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
