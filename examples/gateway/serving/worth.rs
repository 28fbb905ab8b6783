//! Whether a connection over HTTP/2 is worth keeping: on it, asking and giving up again costs a client nothing.

use super::{
    fired::{Fired, Limit},
    limits::Limits,
};
use http::{Request, Response, Version};
use hyper::service::Service;
use hyper_util::server::graceful::GracefulConnection;
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// What became of the requests on a connection.
#[derive(Default)]
struct Tally {
    /// How many, or [`HTTP1`].
    begun: AtomicU32,
    /// How many more were given up than answered.
    abandoned: AtomicU32,
}

/// Of a connection over HTTP/1.1 nothing is counted: its server closes what is idle by itself, and giving up costs a connection.
const HTTP1: u32 = u32::MAX;

/// A request that counts as given up unless it is answered.
struct Counted(Arc<Tally>);

impl Counted {
    fn begin(tally: &Arc<Tally>) -> Self {
        tally.begun.fetch_add(1, Ordering::Relaxed);
        tally.abandoned.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(tally))
    }

    fn answered(self) {
        // What it was begun with, and one that was given up before.
        let forgive = |abandoned: u32| Some(abandoned.saturating_sub(2));
        _ = self.0.abandoned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, forgive);
    }
}

/// A service that counts what became of its requests. All clones count together.
#[derive(Clone)]
pub struct Counting<S> {
    inner: S,
    tally: Arc<Tally>,
}

impl<S> Counting<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, tally: Arc::default() }
    }

    /// A connection on which this is served: it is closed where so many more of its requests were given up than answered, and
    /// asked to end where none has begun for a while, both by `limits`, and at `stop`.
    pub fn on<C, F>(self, connect: impl FnOnce(Self) -> C, limits: &Limits, stop: F) -> Kept<C, F> {
        let (tally, fired) = (Arc::clone(&self.tally), limits.fired.clone());
        let (most, idle) = (limits.abandoned, limits.idle);
        Kept { connection: connect(self), tally, most, idle, checked: 0, check: sleep(idle), stop: Some(stop), fired }
    }
}

impl<S, B, R> Service<Request<B>> for Counting<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = CountedFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let counted = (request.version() == Version::HTTP_2).then(|| Counted::begin(&self.tally));
        if counted.is_none() {
            self.tally.begun.store(HTTP1, Ordering::Relaxed);
        }
        CountedFuture { inner: self.inner.call(request), counted }
    }
}

pin_project! {
    pub struct CountedFuture<F> {
        #[pin]
        inner: F,
        counted: Option<Counted>,
    }
}

impl<F: Future> Future for CountedFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        if let Some(counted) = this.counted.take() {
            counted.answered();
        }
        Poll::Ready(output)
    }
}

pin_project! {
    /// A connection that is kept while it is worth it.
    pub struct Kept<C, F> {
        #[pin]
        connection: C,
        #[pin]
        stop: Option<F>,
        tally: Arc<Tally>,
        most: u32,
        idle: Duration,
        checked: u32,
        #[pin]
        check: Sleep,
        fired: Fired,
    }
}

impl<C, F> Future for Kept<C, F>
where
    C: GracefulConnection<Error: Into<Box<dyn Error + Send + Sync>>>,
    F: Future<Output = ()>,
{
    type Output = Result<(), Box<dyn Error + Send + Sync>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // Whoever resets goes on sending, and so this is looked at.
        if this.tally.abandoned.load(Ordering::Relaxed) > *this.most {
            this.fired.one(Limit::Abandoned);
            return Poll::Ready(Err("the client only resets".into()));
        }
        if this.stop.as_mut().as_pin_mut().is_some_and(|stop| stop.poll(cx).is_ready()) {
            this.stop.set(None);
            this.connection.as_mut().graceful_shutdown();
        }
        let begun = this.tally.begun.load(Ordering::Relaxed);
        while begun != HTTP1 && this.check.as_mut().poll(cx).is_ready() {
            // What is under way goes on to its end.
            if begun == *this.checked {
                this.fired.one(Limit::Idle);
                this.connection.as_mut().graceful_shutdown();
            }
            *this.checked = begun;
            this.check.as_mut().reset(Instant::now() + *this.idle);
        }
        this.connection.poll(cx).map_err(Into::into)
    }
}
