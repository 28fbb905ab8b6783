//! Whether a connection over HTTP/2 is worth keeping: on it, asking and giving up again costs a client nothing.

use super::{
    fired::{Fired, Limit},
    limits::Limits,
    pressing::Answers,
    signs::Signs,
};
use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use hyper::{ext::Protocol, service::Service};
use hyper_util::server::graceful::GracefulConnection;
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// At a stop, who has nothing under way has so long to go, or to say what it wants where it has just begun; over HTTP/2 up to twice
/// as long. A client that is gone without a word must not take up the time of those who are served. One that answers when it is
/// asked to go, and does not, has an answer of which a part is still to be sent.
pub const LAST: Duration = Duration::from_secs(3);

/// What became of the requests on a connection.
#[derive(Default)]
struct Counts {
    /// How many, or [`HTTP1`].
    begun: AtomicU32,
    /// How many more were given up than answered.
    abandoned: AtomicU32,
    /// How many have no answer yet.
    open: AtomicU32,
    /// Whether one has become a tunnel, which nobody counts.
    tunnel: AtomicBool,
}

impl Counts {
    /// As far as is known here.
    fn under_way(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0 || self.tunnel.load(Ordering::Relaxed)
    }
}

/// Of a connection over HTTP/1.1 nothing is counted: its server closes what is idle by itself, and giving up costs a connection.
const HTTP1: u32 = u32::MAX;

/// A request that counts as given up where it ends without an answer. One that waits for its answer is neither.
struct Counted {
    counts: Arc<Counts>,
    is_answered: bool,
}

impl Counted {
    fn begin(counts: &Arc<Counts>) -> Self {
        counts.begun.fetch_add(1, Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self { counts: Arc::clone(counts), is_answered: false }
    }

    fn answered(mut self) {
        self.is_answered = true;
        // One that was given up before.
        let forgive = |abandoned: u32| abandoned.checked_sub(1);
        _ = self.counts.abandoned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, forgive);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
        if !self.is_answered {
            self.counts.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A service that counts what became of its requests. All clones count together.
#[derive(Clone)]
pub struct Counting<S> {
    inner: S,
    counts: Arc<Counts>,
    answers: Answers,
    /// That a request may have.
    headers: usize,
    fired: Fired,
}

impl<S> Counting<S> {
    /// Of which these are the answers.
    pub fn new(inner: S, answers: Answers, limits: &Limits) -> Self {
        Self { inner, counts: Arc::default(), answers, headers: limits.headers, fired: limits.fired.clone() }
    }

    /// A connection on which this is served: it is closed where so many more of its requests were given up than answered, and
    /// asked to end where none has begun for a while, both by `limits`, and at `stop`. Where it goes on after that with nothing
    /// under way, and without `signs` of the client, it is closed as well: a client may say that it is there, and not go. Where
    /// the client dozes it ends, to be dropped; one that was woken is known to speak HTTP/1.1.
    pub fn on<C, F>(
        self,
        connect: impl FnOnce(Self) -> C,
        is_woken: bool,
        signs: Arc<Signs>,
        limits: &Limits,
        stop: F,
    ) -> Kept<C, F> {
        let Limits { abandoned: most, idle: patience, ref fired, .. } = *limits;
        Kept {
            counts: Arc::clone(&self.counts),
            answers: self.answers.clone(),
            signs,
            connection: connect(self),
            is_woken,
            most,
            patience,
            stall: limits.stall,
            checked: 0,
            asked: false,
            check: sleep(patience),
            stop: Some(stop),
            fired: fired.clone(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for Counting<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    R: Default,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = CountedFuture<S::Future>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let counted = (request.version() == Version::HTTP_2).then(|| Counted::begin(&self.counts));
        if counted.is_none() {
            self.counts.begun.store(HTTP1, Ordering::Relaxed);
        }
        let may_switch = counted.is_some() && request.extensions().get::<Protocol>().is_some();
        // Over HTTP/1.1 the server counts them as it reads.
        let refused = counted.is_some() && lines(request.headers(), self.headers) > self.headers;
        if refused {
            self.fired.one(Limit::Headers);
        }
        let inner = (!refused).then(|| self.inner.call(request));
        CountedFuture { inner, counted, may_switch }
    }
}

/// How many header lines there are; those of cookies are left out where it would be more than `most`.
fn lines(headers: &HeaderMap, most: usize) -> usize {
    let all = headers.len();
    if all > most { all - headers.get_all(header::COOKIE).iter().count() } else { all }
}

pin_project! {
    pub struct CountedFuture<F> {
        // None where it is refused.
        #[pin]
        inner: Option<F>,
        counted: Option<Counted>,
        // Over HTTP/2 (RFC 8441).
        may_switch: bool,
    }
}

impl<F, R> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<R>, Infallible>>,
    R: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Poll::Ready(Ok(response));
        };
        let Ok(response) = ready!(inner.poll(cx));
        if let Some(counted) = this.counted.take() {
            if *this.may_switch && response.status().is_success() {
                counted.counts.tunnel.store(true, Ordering::Relaxed);
            }
            counted.answered();
        }
        Poll::Ready(Ok(response))
    }
}

pin_project! {
    /// A connection that is kept while it is worth it.
    pub struct Kept<C, F> {
        #[pin]
        connection: C,
        #[pin]
        stop: Option<F>,
        counts: Arc<Counts>,
        answers: Answers,
        is_woken: bool,
        // Since this was last looked at.
        signs: Arc<Signs>,
        most: u32,
        patience: Duration,
        stall: Duration,
        checked: u32,
        asked: bool,
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
        loop {
            // Looked at before the connection, which may use up this turn, and acted upon after it: who has asked in time is
            // answered, however late it is.
            let stops = this.stop.as_mut().as_pin_mut().is_some_and(|stop| stop.poll(cx).is_ready());
            // Before its first request a stop bounds its time all the same.
            let is_http1 = this.counts.begun.load(Ordering::Relaxed) == HTTP1 || *this.is_woken && !*this.asked;
            let rings = !is_http1 && this.check.as_mut().poll(cx).is_ready();
            if let Poll::Ready(ended) = this.connection.as_mut().poll(cx) {
                return Poll::Ready(ended.map_err(Into::into));
            }
            if this.signs.dozes.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            // Whoever resets goes on sending, and so this is looked at.
            if this.counts.abandoned.load(Ordering::Relaxed) > *this.most {
                this.fired.one(Limit::Abandoned);
                return Poll::Ready(Err("the client only resets".into()));
            }
            let begun = this.counts.begun.load(Ordering::Relaxed);
            if stops {
                this.stop.set(None);
                (*this.asked, *this.checked, *this.patience) = (true, begun, LAST.min(*this.patience));
                this.signs.said.store(false, Ordering::Relaxed);
            } else if !rings || begun == HTTP1 {
                return Poll::Pending;
            } else {
                // Of an answer that has ended, much may still be on its way, which a stop must not cut off. Before the first there
                // is none.
                let is_last = this.stop.is_none() && begun > 0;
                let taken = this.signs.taken.swap(false, Ordering::Relaxed);
                let said = this.signs.said.swap(false, Ordering::Relaxed);
                if is_last && said {
                    *this.patience = *this.stall;
                }
                // What is under way goes on to its end.
                let under_way = this.counts.under_way() || this.answers.are_under_way() || is_last && (taken || said);
                if begun == *this.checked && *this.asked && !under_way {
                    return Poll::Ready(Err("the client was asked to go and stays".into()));
                }
                if begun == *this.checked && !std::mem::replace(this.asked, true) {
                    this.fired.one(Limit::Idle);
                }
                *this.checked = begun;
            }
            this.check.as_mut().reset(Instant::now() + *this.patience);
            if *this.asked {
                this.connection.as_mut().graceful_shutdown();
            }
        }
    }
}
