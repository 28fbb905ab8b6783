use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// Whose turn it is to speak, and for the backend since when.
#[derive(Clone, Debug)]
pub(super) struct Turn(Arc<Turns>);

#[derive(Debug)]
struct Turns {
    started: Instant,
    /// Milliseconds from `started` to the backend's turn, or [`CLIENT`](Turn::CLIENT).
    since: AtomicU64,
}

impl Turn {
    const CLIENT: u64 = u64::MAX;

    fn of_the_backend() -> Self {
        Self(Arc::new(Turns { started: Instant::now(), since: AtomicU64::new(0) }))
    }

    fn goes_to_backend(&self) {
        self.0.since.store(self.0.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn goes_to_client(&self) {
        self.0.since.store(Self::CLIENT, Ordering::Relaxed);
    }

    /// Since when the backend should have spoken; now, while it is the client's turn.
    pub(super) fn of_the_backend_since(&self) -> Instant {
        match self.0.since.load(Ordering::Relaxed) {
            Self::CLIENT => Instant::now(),
            since => self.0.started + Duration::from_millis(since),
        }
    }
}

pin_project! {
    /// A request body that tells whose turn it is.
    #[derive(Debug)]
    pub struct TimedBody<B> {
        #[pin]
        inner: B,
        turn: Option<Turn>,
    }
}

impl<B: Body> TimedBody<B> {
    pub(super) fn new(inner: B) -> Self {
        // Most requests have no body, and nothing to keep for it.
        let turn = (!inner.is_end_stream()).then(Turn::of_the_backend);
        Self { inner, turn }
    }
}

impl<B> TimedBody<B> {
    /// Whose turn it is; always the backend's, where there is none.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.turn.clone()
    }
}

impl<B: Body> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.inner.poll_frame(cx);
        match (this.turn, &frame) {
            (Some(turn), Poll::Pending) => turn.goes_to_client(),
            (Some(turn), Poll::Ready(_)) => turn.goes_to_backend(),
            (None, _) => {}
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
