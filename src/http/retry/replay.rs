use crate::{error::BoxError, sync::locked};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

/// A request body that can be sent again: what passes through is kept, up to a limit, while it passes.
///
/// Nothing is read ahead: the first attempt gets each frame when the caller sends it. Beyond the limit the body goes on
/// as a stream that cannot be sent again. An empty body costs nothing.
pub struct ReplayBody<B> {
    source: Source<B>,
}

enum Source<B> {
    Empty,
    Once { body: B },
    // Apart: most requests have none, and all are moved around.
    Taped(Box<Taped<B>>),
}

struct Taped<B> {
    tape: Arc<Mutex<Tape<B>>>,
    reel: Reel,
}

/// Where one attempt has got to.
#[derive(Clone, Copy, Debug, Default)]
struct Reel {
    attempt: u32,
    /// Frames of the tape that were read.
    at: usize,
    trailers_read: bool,
}

/// What has passed, and what is to come.
struct Tape<B> {
    /// `None` once it has ended.
    body: Option<B>,
    /// What passed, while that is within the limit.
    kept: Vec<Bytes>,
    bytes: usize,
    limit: usize,
    /// Everything that passed is kept.
    whole: bool,
    trailers: Option<HeaderMap>,
    /// The attempt that may read.
    attempt: u32,
}

/// What a [`ReplayBody`] leaves behind, to make the next one of.
pub(super) struct Replay<B> {
    tape: Option<Arc<Mutex<Tape<B>>>>,
}

/// An empty one.
impl<B> Default for ReplayBody<B> {
    fn default() -> Self {
        Self { source: Source::Empty }
    }
}

impl<B: Body> ReplayBody<B> {
    /// A body that cannot be sent again, and costs nothing beside itself.
    pub(super) fn once(body: B) -> Self {
        Self { source: Source::Once { body } }
    }

    /// A body that can be, and the means to do so.
    pub(super) fn new(body: B, limit: usize) -> (Self, Replay<B>) {
        if body.is_end_stream() {
            return (Self { source: Source::Empty }, Replay { tape: None });
        }
        let tape =
            Tape { body: Some(body), kept: Vec::new(), bytes: 0, limit, whole: true, trailers: None, attempt: 0 };
        let tape = Arc::new(Mutex::new(tape));
        let replay = Replay { tape: Some(Arc::clone(&tape)) };
        (Self { source: Source::Taped(Box::new(Taped { tape, reel: Reel::default() })) }, replay)
    }
}

impl<B> Replay<B> {
    /// The body from its beginning, for the next attempt; `None` where some of it is gone. The attempt before gets no
    /// more of it.
    pub(super) fn rewind(&self) -> Option<ReplayBody<B>> {
        let Some(tape) = &self.tape else { return Some(ReplayBody { source: Source::Empty }) };
        let mut inner = locked(tape);
        if !inner.whole {
            return None;
        }
        inner.attempt += 1;
        let reel = Reel { attempt: inner.attempt, ..Reel::default() };
        drop(inner);
        Some(ReplayBody { source: Source::Taped(Box::new(Taped { tape: Arc::clone(tape), reel })) })
    }

    /// There will be no other attempt: nothing more need be kept.
    pub(super) fn commit(&self) {
        if let Some(tape) = &self.tape {
            locked(tape).limit = 0;
        }
    }
}

impl<B> Tape<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    fn poll_next(&mut self, reel: &mut Reel, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if reel.attempt != self.attempt {
            return Poll::Ready(Some(Err("another attempt sends this body".into())));
        }
        if let Some(kept) = self.kept.get(reel.at) {
            reel.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        let Some(body) = &mut self.body else {
            let trailers = self.trailers.clone().filter(|_| !std::mem::replace(&mut reel.trailers_read, true));
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        let Some(frame) = frame else {
            self.body = None;
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame.map_data(|mut data| data.copy_to_bytes(data.remaining())),
            Err(error) => {
                // What the caller broke, nobody can mend.
                self.whole = false;
                return Poll::Ready(Some(Err(error.into())));
            }
        };
        match frame.into_data() {
            Ok(data) => {
                self.keep(&data, reel);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                    self.body = None;
                    reel.trailers_read = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn keep(&mut self, data: &Bytes, reel: &mut Reel) {
        self.bytes += data.len();
        if self.bytes <= self.limit {
            self.kept.push(data.clone());
        } else {
            self.whole = false;
            self.kept = Vec::new();
        }
        reel.at = self.kept.len();
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Once { body } => Pin::new(body).poll_frame(cx).map(|frame| {
                let frame = frame?.map_err(Into::into);
                Some(frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))))
            }),
            Source::Taped(taped) => {
                let Taped { tape, reel } = &mut **taped;
                locked(tape).poll_next(reel, cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Once { body } => body.is_end_stream(),
            Source::Taped(taped) => {
                let (tape, reel) = (locked(&taped.tape), taped.reel);
                let read = reel.at >= tape.kept.len() && (reel.trailers_read || tape.trailers.is_none());
                read && tape.body.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Once { body } => body.size_hint(),
            Source::Taped(taped) => {
                let (tape, reel) = (locked(&taped.tape), taped.reel);
                let kept: usize = tape.kept[reel.at.min(tape.kept.len())..].iter().map(Bytes::len).sum();
                let to_come = tape.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint);
                let mut hint = SizeHint::new();
                hint.set_lower(to_come.lower() + kept as u64);
                if let Some(upper) = to_come.upper() {
                    hint.set_upper(upper + kept as u64);
                }
                hint
            }
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full, StreamBody};
    use std::convert::Infallible;
    use tokio_test::block_on;

    fn frames() -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", "42".parse().unwrap());
        let frames = [Frame::data("one".into()), Frame::data("two".into()), Frame::trailers(trailers)];
        StreamBody::new(futures_util::stream::iter(frames.map(Ok)))
    }

    /// Everything that is left of a body: its data, and whether there were trailers.
    fn rest<B: Body<Error: Into<BoxError>> + Unpin>(body: ReplayBody<B>) -> (Bytes, bool) {
        let all = block_on(body.collect()).unwrap();
        let trailers = all.trailers().is_some();
        (all.to_bytes(), trailers)
    }

    #[test]
    fn it_can_be_read_again_from_wherever_the_attempt_before_had_got_to() {
        for read in 0..=4 {
            let (mut body, replay) = ReplayBody::new(frames(), 6);
            for _ in 0..read {
                _ = block_on(body.frame());
            }
            let again = replay.rewind().unwrap();
            assert_eq!(rest(again), ("onetwo".into(), true), "{read}");
            // And once more, and for as many attempts as there are.
            assert_eq!(rest(replay.rewind().unwrap()), ("onetwo".into(), true), "{read}");
            // The first attempt's connection may go on reading. It takes nothing from the others.
            assert!(block_on(body.frame()).unwrap().is_err(), "{read}");
        }
    }

    #[test]
    fn beyond_the_limit_it_goes_on_and_cannot_be_read_again() {
        let (mut body, replay) = ReplayBody::new(frames(), 5);
        _ = block_on(body.frame());
        // So far it could be.
        let mut body = replay.rewind().unwrap();
        assert_eq!(block_on(body.frame()).unwrap().unwrap().into_data().unwrap(), "one");
        assert_eq!(block_on(body.frame()).unwrap().unwrap().into_data().unwrap(), "two");
        assert!(replay.rewind().is_none());
        assert_eq!(rest(body), ("".into(), true));
    }

    #[test]
    fn after_the_last_attempt_nothing_more_is_kept() {
        let (mut body, replay) = ReplayBody::new(frames(), 6);
        _ = block_on(body.frame());
        replay.commit();
        assert_eq!(rest(body), ("two".into(), true));
        assert!(replay.rewind().is_none());
    }

    #[test]
    fn it_tells_its_length_and_its_end_as_the_body_does() {
        let (body, replay) = ReplayBody::new(Full::<Bytes>::from("12345"), 9);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
        let mut again = replay.rewind().unwrap();
        _ = block_on(again.frame());
        assert_eq!((again.size_hint().exact(), again.is_end_stream()), (Some(0), true));
        let again = replay.rewind().unwrap();
        assert_eq!((again.size_hint().exact(), again.is_end_stream()), (Some(5), false));

        let (none, replay) = ReplayBody::new(Full::<Bytes>::default(), 9);
        assert!(none.is_end_stream() && replay.rewind().unwrap().is_end_stream());
    }
}
