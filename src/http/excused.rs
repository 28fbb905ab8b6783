use crate::{
    error::{BoxError, find},
    feedback::Fault,
};
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

/// A failure that says nothing against the backend, or less than it seems to, as the client knows who was on the other end and
/// how far it had got.
#[derive(Debug)]
pub(super) struct Excused {
    excuse: Excuse,
    source: BoxError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// The connection had served before. A server that closes idle connections may do so just as a request is put on one.
    Reused,
    /// The request's body was still on its way. A server that has answered, or does not want the rest, may close on it.
    Unfinished,
    /// The request's body broke on the caller's side, and the connection with it.
    CallerBroke,
    /// So it did, as nothing more of it came in time.
    CallerLate,
    /// The head of an answer was there, and no more of it: the server can be reached, and it may be that answer.
    Begun,
}

impl Excused {
    pub(super) fn new(excuse: Excuse, source: impl Into<BoxError>) -> Self {
        Self { excuse, source: source.into() }
    }

    /// Whether the client's own body did not come in time.
    pub(super) fn is_callers_delay(&self) -> bool {
        self.excuse == Excuse::CallerLate
    }

    /// What is left to say, where `judge` judges the error itself: only a broken connection is excused.
    pub(super) fn judge(&self, judge: fn(&(dyn Error + 'static)) -> Fault) -> Fault {
        if matches!(self.excuse, Excuse::CallerBroke | Excuse::CallerLate) {
            return Fault::CANCELLED;
        }
        match judge(&*self.source) {
            Fault::RESET if self.excuse == Excuse::Begun => Fault::UNKNOWN,
            Fault::RESET => Fault::LOST,
            fault => fault,
        }
    }
}

impl fmt::Display for Excused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.excuse {
            Excuse::Reused => "a connection that was reused broke",
            Excuse::Unfinished => "the connection broke while the request was on its way",
            Excuse::CallerBroke => "the request's own body broke",
            Excuse::CallerLate => "the request's own body did not come in time",
            Excuse::Begun => "the answer broke off after its head",
        })
    }
}

impl Error for Excused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// How far the body of a request has got, as seen from its answer. Nothing to keep for a request without one.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<Arc<Reached>>);

#[derive(Debug)]
struct Reached {
    state: AtomicU8,
    /// Bytes.
    sent: AtomicU64,
    length: Option<u64>,
}

const BEGUN: u8 = 0;
/// A part was handed over, and more is to come.
const UNDER_WAY: u8 = 1;
const SENT: u8 = 2;
const BROKEN: u8 = 3;
const LATE: u8 = 4;

impl Progress {
    /// What excuses a connection that broke before the answer began. One that took nothing of the body has no excuse: it
    /// may lead to something that accepts and serves nobody.
    pub(super) fn excuse_before_answer(&self) -> Option<Excuse> {
        self.excuse_at(UNDER_WAY)
    }

    /// What excuses one that broke in the middle of the answer.
    pub(super) fn excuse(&self) -> Option<Excuse> {
        self.excuse_at(BEGUN)
    }

    /// What excuses one on which the body has got as far as `least` and is not all sent.
    fn excuse_at(&self, least: u8) -> Option<Excuse> {
        match self.0.as_ref()?.state.load(Ordering::Relaxed) {
            BROKEN => Some(Excuse::CallerBroke),
            LATE => Some(Excuse::CallerLate),
            reached if (least..SENT).contains(&reached) => Some(Excuse::Unfinished),
            _ => None,
        }
    }

    fn reached(&self, state: u8) {
        if let Some(progress) = &self.0 {
            progress.state.store(state, Ordering::Relaxed);
        }
    }

    /// Counts so many bytes more, and tells whether these were the last.
    fn has_sent(&self, bytes: usize) -> bool {
        self.0.as_ref().is_none_or(|progress| {
            let before = progress.sent.fetch_add(bytes as u64, Ordering::Relaxed);
            progress.length.is_some_and(|length| before + bytes as u64 >= length)
        })
    }
}

fn is_late(error: &(dyn Error + 'static)) -> bool {
    find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

pin_project! {
    /// A request body that tells how far it has got.
    #[derive(Debug)]
    pub(super) struct SentBody<B> {
        #[pin]
        inner: B,
        progress: Progress,
    }
}

impl<B: Body> SentBody<B> {
    /// Of `length` bytes, where the body does not know and that does: who sends them asks for no more, not even whether there
    /// is more.
    pub(super) fn new(inner: B, length: impl FnOnce() -> Option<u64>) -> Self {
        if inner.is_end_stream() {
            return Self { inner, progress: Progress(None) };
        }
        let length = inner.size_hint().exact().or_else(length);
        let reached = Reached { state: AtomicU8::new(BEGUN), sent: AtomicU64::new(0), length };
        Self { inner, progress: Progress(Some(Arc::new(reached))) }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for SentBody<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let frame = this.inner.as_mut().poll_frame(cx).map_err(Into::into);
        match &frame {
            Poll::Pending => {}
            // Of what is sent over HTTP/2 nobody keeps the error itself.
            Poll::Ready(Some(Err(error))) => this.progress.reached(if is_late(&**error) { LATE } else { BROKEN }),
            Poll::Ready(None) => this.progress.reached(SENT),
            Poll::Ready(Some(Ok(frame))) => {
                let is_all = this.progress.has_sent(frame.data_ref().map_or(0, Buf::remaining));
                if is_all || frame.is_trailers() || this.inner.is_end_stream() {
                    this.progress.reached(SENT);
                } else {
                    this.progress.reached(UNDER_WAY);
                }
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
