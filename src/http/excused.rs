use crate::{error::BoxError, feedback::Fault};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

/// A failure that says nothing against the backend, as the client knows who was on the other end and how far it had got.
#[derive(Debug)]
pub(super) struct Excused {
    excuse: Excuse,
    source: BoxError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// The connection had served before. A server that closes idle connections may do so just as a request is put on one.
    Reused,
    /// The request's body was still on its way. A server that has answered, or does not want it, may close on it.
    Unfinished,
    /// The request's body broke on the caller's side, and the connection with it.
    CallerBroke,
}

impl Excused {
    pub(super) fn new(excuse: Excuse, source: impl Into<BoxError>) -> Self {
        Self { excuse, source: source.into() }
    }

    pub(super) fn fault(&self) -> Fault {
        match self.excuse {
            Excuse::CallerBroke => Fault::CANCELLED,
            Excuse::Reused | Excuse::Unfinished => Fault::UNKNOWN,
        }
    }
}

impl fmt::Display for Excused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.excuse {
            Excuse::Reused => "a connection that was reused broke",
            Excuse::Unfinished => "the connection broke while the request was on its way",
            Excuse::CallerBroke => "the request's own body broke",
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
pub(super) struct Progress(Option<Arc<AtomicU8>>);

const ON_ITS_WAY: u8 = 0;
const SENT: u8 = 1;
const BROKEN: u8 = 2;

impl Progress {
    pub(super) fn of(body: &impl Body) -> Self {
        Self((!body.is_end_stream()).then(|| Arc::new(AtomicU8::new(ON_ITS_WAY))))
    }

    pub(super) fn excuse(&self) -> Option<Excuse> {
        match self.0.as_ref()?.load(Ordering::Relaxed) {
            ON_ITS_WAY => Some(Excuse::Unfinished),
            BROKEN => Some(Excuse::CallerBroke),
            _ => None,
        }
    }

    fn reached(&self, state: u8) {
        if let Some(progress) = &self.0 {
            progress.store(state, Ordering::Relaxed);
        }
    }
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

impl<B> SentBody<B> {
    pub(super) fn new(inner: B, progress: Progress) -> Self {
        Self { inner, progress }
    }
}

impl<B: Body> Body for SentBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = this.inner.as_mut().poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Err(_))) => this.progress.reached(BROKEN),
            Poll::Ready(None) => this.progress.reached(SENT),
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || this.inner.is_end_stream() => {
                this.progress.reached(SENT);
            }
            _ => {}
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
