//! How long a client is waited for in the middle of a request or an answer over HTTP/2.

use super::{
    fired::{Fired, Limit},
    limits::Limits,
    patience::stood_still,
};
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::{Bytes, Incoming},
    service::Service,
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

/// A service whose clients may not stand still in the middle of a request or an answer over HTTP/2: there the stream of bytes
/// goes on for other requests, and knows of none. Over HTTP/1.1 it does nothing.
#[derive(Clone)]
pub struct Pressing<S> {
    inner: S,
    stall: Duration,
    fired: Fired,
    answers: Answers,
}

impl<S> Pressing<S> {
    pub fn new(inner: S, limits: &Limits) -> Self {
        Self { inner, stall: limits.stall, fired: limits.fired.clone(), answers: Answers::default() }
    }

    /// The answers of this and of all its clones.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }
}

impl<S, R> Service<Request<Incoming>> for Pressing<S>
where
    S: Service<Request<Upload>, Response = Response<R>>,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Download<R>>;
    type Error = S::Error;
    type Future = PressingFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let over_http2 = request.version() == Version::HTTP_2;
        let answered = (over_http2 && !request.body().is_end_stream()).then(Arc::<AtomicBool>::default);
        let (stall, fired) = (self.stall, &self.fired);
        let press =
            answered.clone().map(|answered| Box::new(Press { stall, answered, alarm: None, fired: fired.clone() }));
        let inner = self.inner.call(request.map(|inner| Upload { inner, press }));
        PressingFuture { inner, answered, answers: over_http2.then(|| self.answers.clone()) }
    }
}

pin_project! {
    pub struct PressingFuture<F> {
        #[pin]
        inner: F,
        answered: Option<Arc<AtomicBool>>,
        answers: Option<Answers>,
    }
}

impl<F, R, E> Future for PressingFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Output = Result<Response<Download<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        if let Some(answered) = this.answered {
            answered.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(response.map(|body| match this.answers.take() {
            Some(answers) if !body.is_end_stream() => Download::Watched { answer: answers.watch(body) },
            _ => Download::Direct { body },
        })))
    }
}

/// The body of a request.
pub struct Upload {
    inner: Incoming,
    // Apart: most requests have none, and all are moved around.
    press: Option<Box<Press>>,
}

/// Until the request is answered. After that it may be a call in which both sides speak by turns.
struct Press {
    stall: Duration,
    answered: Arc<AtomicBool>,
    /// Since there was nothing, and no longer.
    alarm: Option<Pin<Box<Sleep>>>,
    fired: Fired,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { inner, press } = self.get_mut();
        let frame = Pin::new(inner).poll_frame(cx);
        let Some(press) = press else { return frame.map_err(Into::into) };
        let Press { stall, answered, alarm, fired } = &mut **press;
        if frame.is_ready() || answered.load(Ordering::Relaxed) {
            *alarm = None;
            return frame.map_err(Into::into);
        }
        ready!(alarm.get_or_insert_with(|| Box::pin(sleep(*stall))).as_mut().poll(cx));
        if answered.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        fired.one(Limit::Stall);
        Poll::Ready(Some(Err(stood_still().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The answers on a connection over HTTP/2 that are under way.
#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<Vec<Weak<dyn Look>>>>);

impl Answers {
    fn watch<R: Body + Send + 'static>(&self, body: R) -> Arc<Answer<R>> {
        let answer = Arc::new(Answer(Mutex::new((Some(Box::pin(body)), Moves::Has))));
        let mut all = locked(&self.0);
        if all.len() == all.capacity() {
            all.retain(|answer| answer.strong_count() > 0);
        }
        let watched: Arc<dyn Look> = answer.clone();
        all.push(Arc::downgrade(&watched));
        answer
    }

    /// What `connection` comes to. Meanwhile answers are given up of which the client takes nothing for `stall`, or for a second
    /// such time.
    pub fn watched_on<C: Future>(self, connection: C, stall: Duration, fired: Fired) -> Watched<C> {
        Watched { connection, answers: self, stall, alarm: sleep(stall), fired }
    }

    /// How many are given up.
    fn look(&self) -> usize {
        let all: Vec<_> = locked(&self.0).iter().filter_map(Weak::upgrade).collect();
        all.iter().filter(|answer| answer.look()).count()
    }
}

pin_project! {
    /// A connection and the watch over its answers.
    pub struct Watched<C> {
        #[pin]
        connection: C,
        answers: Answers,
        stall: Duration,
        #[pin]
        alarm: Sleep,
        fired: Fired,
    }
}

impl<C: Future> Future for Watched<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(ended) = this.connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            ready!(this.alarm.as_mut().poll(cx));
            this.alarm.as_mut().reset(Instant::now() + *this.stall);
            // What is given up may want to be told so, by the connection.
            (0..this.answers.look()).for_each(|_| this.fired.one(Limit::Stall));
        }
    }
}

trait Look: Send + Sync {
    /// Gives it up where nothing has moved since the last look. Returns whether it does.
    fn look(&self) -> bool;
}

/// The body of an answer, until it is given up. The stream that it belongs to does not ask for more of it when the client
/// takes nothing, and so cannot be told either.
pub struct Answer<R>(Mutex<(Option<Pin<Box<R>>>, Moves)>);

#[derive(Clone, Copy, PartialEq)]
enum Moves {
    /// Since the last look.
    Has,
    HasNot,
    /// It is the backend that is waited for.
    Waits,
}

impl<R: Send> Look for Answer<R> {
    fn look(&self) -> bool {
        let mut answer = locked(&self.0);
        let given_up = match answer.1 {
            Moves::Has => {
                answer.1 = Moves::HasNot;
                None
            }
            Moves::HasNot => answer.0.take(),
            Moves::Waits => None,
        };
        drop(answer);
        given_up.is_some()
    }
}

pin_project! {
    /// The body of an answer.
    #[project = DownloadProjection]
    pub enum Download<R> {
        Direct { #[pin] body: R },
        Watched { answer: Arc<Answer<R>> },
    }
}

impl<R: Body<Error: Into<BoxError>>> Body for Download<R> {
    type Data = R::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<R::Data>, BoxError>>> {
        let answer = match self.project() {
            DownloadProjection::Direct { body } => return body.poll_frame(cx).map_err(Into::into),
            DownloadProjection::Watched { answer } => answer,
        };
        let mut answer = locked(&answer.0);
        let Some(body) = &mut answer.0 else { return Poll::Ready(Some(Err(stood_still().into()))) };
        let frame = body.as_mut().poll_frame(cx);
        answer.1 = if frame.is_pending() { Moves::Waits } else { Moves::Has };
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Direct { body } => body.is_end_stream(),
            Self::Watched { answer } => locked(&answer.0).0.as_ref().is_some_and(|body| body.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Direct { body } => body.size_hint(),
            Self::Watched { answer } => locked(&answer.0).0.as_ref().map(|body| body.size_hint()).unwrap_or_default(),
        }
    }
}

/// What is changed under a lock here is whole between any two lines.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
