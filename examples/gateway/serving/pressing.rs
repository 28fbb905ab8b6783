//! How long a client is waited for in the middle of a request or an answer over HTTP/2.

use super::{
    credit::Credit,
    fired::{Fired, Limit},
    patience::stood_still,
};
use http::{HeaderMap, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::{Buf, Bytes, Incoming},
    service::Service,
};
use pin_project_lite::pin_project;
use std::{
    io,
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

/// A service whose clients may neither stand still nor crawl in the middle of a request or an answer over HTTP/2: there the stream of bytes
/// goes on for other requests, and knows of none. Over HTTP/1.1 it does nothing.
#[derive(Clone)]
pub struct Pressing<S> {
    inner: S,
    fired: Fired,
    answers: Answers,
}

impl<S> Pressing<S> {
    /// They have so much time for each request, and for each answer.
    pub fn new(inner: S, credit: Credit, fired: Fired) -> Self {
        Self { inner, fired, answers: Answers(Arc::new(Given { credit, all: Mutex::default() })) }
    }

    /// The answers of this and of all its clones.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }
}

impl<S, R> Service<Request<Upload>> for Pressing<S>
where
    S: Service<Request<Upload>, Response = Response<R>>,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Download<R>>;
    type Error = S::Error;
    type Future = PressingFuture<S::Future>;

    fn call(&self, mut request: Request<Upload>) -> Self::Future {
        let over_http2 = request.version() == Version::HTTP_2;
        let talk = over_http2 && is_talk(request.headers());
        let pressed = request.body_mut().0.as_mut().filter(|_| over_http2);
        let answered = pressed.map(|pressed| {
            let (credit, fired, answered) = (self.answers.credit(talk), self.fired.clone(), Arc::default());
            pressed.press = Some(Press { credit, answered: Arc::clone(&answered), since: None, fired });
            answered
        });
        let inner = self.inner.call(request);
        PressingFuture { inner, answered, answers: over_http2.then(|| self.answers.clone()), talk }
    }
}

/// Whether this is a call of gRPC, of which messages may come at any time, for as long as both sides like.
fn is_talk(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

pin_project! {
    pub struct PressingFuture<F> {
        #[pin]
        inner: F,
        answered: Option<Arc<AtomicBool>>,
        answers: Option<Answers>,
        talk: bool,
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
            Some(answers) if !body.is_end_stream() => Download::Watched { answer: answers.watch(body, *this.talk) },
            _ => Download::Direct { body },
        })))
    }
}

/// The body of a request. Apart: most requests have none, and all are moved around.
pub struct Upload(Option<Box<Pressed>>);

struct Pressed {
    inner: Incoming,
    press: Option<Press>,
}

impl From<Incoming> for Upload {
    fn from(inner: Incoming) -> Self {
        Self((!inner.is_end_stream()).then(|| Box::new(Pressed { inner, press: None })))
    }
}

/// Until the request is answered. After that it may be a call in which both sides speak by turns.
struct Press {
    credit: Credit,
    answered: Arc<AtomicBool>,
    /// Since there is nothing, and when that is too long.
    since: Option<(Instant, Pin<Box<Sleep>>)>,
    fired: Fired,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(pressed) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let Pressed { inner, press } = &mut **pressed;
        let frame = Pin::new(&mut *inner).poll_frame(cx);
        let Some(press) = press else { return frame.map_err(Into::into) };
        // Of a stream that was reset without an error hyper says that the body is at its end.
        if matches!(frame, Poll::Ready(None)) && !inner.is_end_stream() {
            let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended before the request");
            return Poll::Ready(Some(Err(cut.into())));
        }
        let Press { credit, answered, since, fired } = press;
        if frame.is_ready() || answered.load(Ordering::Relaxed) {
            // Of a burst only the first is waited for, and all of it counts.
            let waited = since.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
            credit.spend(waited, bytes(&frame));
            return frame.map_err(Into::into);
        }
        let (_, alarm) = since.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(credit.left()))));
        ready!(alarm.as_mut().poll(cx));
        if answered.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        fired.one(Limit::Stall);
        Poll::Ready(Some(Err(stood_still().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|pressed| pressed.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |pressed| pressed.inner.size_hint())
    }
}

fn bytes<D: Buf, E>(frame: &Poll<Option<Result<Frame<D>, E>>>) -> usize {
    match frame {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Buf::remaining),
        _ => 0,
    }
}

/// The answers on a connection over HTTP/2 that are under way.
#[derive(Clone)]
pub struct Answers(Arc<Given>);

struct Given {
    /// For each request, and for each answer.
    credit: Credit,
    all: Mutex<Vec<Weak<dyn Look>>>,
}

impl Answers {
    /// In a talk there may be pauses: whatever is said is enough, however little.
    fn credit(&self, talk: bool) -> Credit {
        if talk { self.0.credit.at_any_rate() } else { self.0.credit }
    }

    fn watch<R: Body + Send + 'static>(&self, body: R, talk: bool) -> Arc<Answer<R>> {
        let credit = self.credit(talk);
        let watched = Watched { body: Some(Box::pin(body)), credit, taken: 0, since: Some(Instant::now()) };
        let answer = Arc::new(Answer(Mutex::new(watched)));
        let mut all = locked(&self.0.all);
        if all.len() == all.capacity() {
            all.retain(|answer| answer.strong_count() > 0);
        }
        let watched: Arc<dyn Look> = answer.clone();
        all.push(Arc::downgrade(&watched));
        answer
    }

    /// Whether there are any. One that was given up is none, though its stream has not heard of that.
    pub fn are_under_way(&self) -> bool {
        self.all().iter().any(|answer| answer.is_under_way())
    }

    /// What `connection` comes to. Meanwhile, each time `now_and_then` is over, answers are given up of which the client takes
    /// too little.
    pub fn watched_on<C: Future>(self, connection: C, now_and_then: Duration, fired: Fired) -> Watching<C> {
        Watching { connection, answers: self, now_and_then, alarm: sleep(now_and_then), fired }
    }

    /// How many are given up.
    fn look(&self) -> usize {
        self.all().iter().filter(|answer| answer.look()).count()
    }

    fn all(&self) -> Vec<Arc<dyn Look>> {
        locked(&self.0.all).iter().filter_map(Weak::upgrade).collect()
    }
}

pin_project! {
    /// A connection and the watch over its answers.
    pub struct Watching<C> {
        #[pin]
        connection: C,
        answers: Answers,
        now_and_then: Duration,
        #[pin]
        alarm: Sleep,
        fired: Fired,
    }
}

impl<C: Future<Output = Result<(), BoxError>>> Future for Watching<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let mut this = self.project();
        loop {
            // Looked at before the connection, which may use up this turn each time, as long as its client has more to say.
            let rings = this.alarm.as_mut().poll(cx).is_ready();
            if let Poll::Ready(ended) = this.connection.as_mut().poll(cx) {
                return Poll::Ready(ended.inspect_err(|error| this.fired.ended_with(&**error)));
            }
            if !rings {
                return Poll::Pending;
            }
            this.alarm.as_mut().reset(Instant::now() + *this.now_and_then);
            // What is given up may want to be told so, by the connection.
            (0..this.answers.look()).for_each(|_| this.fired.one(Limit::Stall));
        }
    }
}

trait Look: Send + Sync {
    /// Gives it up where the client has used up its time. Returns whether it does.
    fn look(&self) -> bool;

    fn is_under_way(&self) -> bool;
}

/// The body of an answer, until it is given up. The stream that it belongs to does not ask for more of it when the client
/// takes nothing, and so cannot be told either.
pub struct Answer<R>(Mutex<Watched<R>>);

struct Watched<R> {
    body: Option<Pin<Box<R>>>,
    credit: Credit,
    /// What the client had last, which it has taken when more is asked for.
    taken: usize,
    /// Since it had that. Else it is the backend that is waited for.
    since: Option<Instant>,
}

impl<R: Send> Look for Answer<R> {
    fn look(&self) -> bool {
        let mut answer = locked(&self.0);
        let too_long = answer.since.is_some_and(|since| since.elapsed() >= answer.credit.left());
        let given_up = if too_long { answer.body.take() } else { None };
        drop(answer);
        given_up.is_some()
    }

    fn is_under_way(&self) -> bool {
        locked(&self.0).body.is_some()
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

impl<R: Default> Default for Download<R> {
    fn default() -> Self {
        Self::Direct { body: R::default() }
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
        let Watched { body, credit, taken, since } = &mut *answer;
        let Some(body) = body else { return Poll::Ready(Some(Err(stood_still().into()))) };
        if let Some(since) = since.take() {
            credit.spend(since.elapsed(), *taken);
        }
        let frame = body.as_mut().poll_frame(cx);
        if frame.is_ready() {
            (*taken, *since) = (bytes(&frame), Some(Instant::now()));
        }
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Direct { body } => body.is_end_stream(),
            Self::Watched { answer } => locked(&answer.0).body.as_ref().is_some_and(|body| body.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Direct { body } => body.size_hint(),
            Self::Watched { answer } => {
                locked(&answer.0).body.as_ref().map(|body| body.size_hint()).unwrap_or_default()
            }
        }
    }
}

/// What is changed under a lock here is whole between any two lines.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Empty;
    use std::future::poll_fn;
    use tokio::task::{coop, yield_now};

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up_however_much_comes_on_its_connection() {
        const STALL: Duration = Duration::from_secs(30);
        let (credit, fired) = (Credit::new(STALL, 0), Fired::default());
        let answers = Answers(Arc::new(Given { credit, all: Mutex::default() }));
        let answer = answers.watch(Empty::<Bytes>::new(), false);
        let busy = poll_fn(|cx| {
            while let Poll::Ready(operation) = coop::poll_proceed(cx) {
                operation.made_progress();
            }
            Poll::<Result<(), BoxError>>::Pending
        });
        let connection = tokio::spawn(answers.clone().watched_on(busy, STALL, fired.clone()));
        for _ in 0..3 {
            yield_now().await;
            tokio::time::advance(STALL).await;
        }
        yield_now().await;
        assert_eq!(fired.count(Limit::Stall), 1);
        assert!(!answer.is_under_way());
        connection.abort();
    }
}
