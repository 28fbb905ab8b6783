//! Turns: how much a connection has done before another is served.
//!
//! The runtime lets a task do some 128 operations in a row, whatever they cost. For us one of them may be a read that brings
//! thousands of small frames, or a connection that is accepted and has a life of its own ahead of it; and whoever asks for
//! one small thing waits until all of that is through. So a connection reads so many bytes in a row, and one is accepted at a
//! time.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::yield_now,
};

/// Bytes from a client that are read in a turn.
const BYTES: usize = 16 * 1024;

/// Frames that are read in a turn, in bytes: they can be two hundred, or headers that are unpacked to a hundred times as much.
const FRAMES: usize = 2 * 1024;

/// What was read of a connection in its turn. Only reading ends with it: what there is to be sent is, and timers ring. With the
/// runtime's budget all would wait, until the client has nothing more to say.
#[derive(Debug, Default)]
pub struct Turn {
    read: usize,
    rest: Option<Arc<Rest>>,
}

/// What comes after a turn, until the runtime has looked who else there is. A connection that wakes itself meanwhile, as one over
/// HTTP/2 does whenever it has refused something, would be served sixty times in a row.
#[derive(Debug)]
struct Rest {
    is_over: AtomicBool,
    waker: Waker,
}

impl Wake for Rest {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

impl Turn {
    /// Reads while the turn is not over; then everybody else is served first. Of HTTP/2 no more than is done quickly, after what
    /// is `left` of the frame that has begun.
    pub fn poll_read(
        &mut self,
        stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        left: Option<usize>,
    ) -> Poll<io::Result<()>> {
        if self.read >= BYTES {
            ready!(self.poll_rest(cx));
            self.read = 0;
        }
        let most = left.map_or(usize::MAX, |left| left + FRAMES).min(buf.remaining());
        let is_some = most < buf.remaining();
        let (read, bytes) = if is_some {
            let mut some = ReadBuf::new(buf.initialize_unfilled_to(most));
            let read = stream.poll_read(cx, &mut some);
            let bytes = some.filled().len();
            buf.advance(bytes);
            (read, bytes)
        } else {
            let before = buf.filled().len();
            (stream.poll_read(cx, buf), buf.filled().len() - before)
        };
        self.read = match read {
            Poll::Pending => 0,
            // There is more.
            Poll::Ready(_) if is_some && bytes == most => BYTES,
            Poll::Ready(_) => self.read + bytes,
        };
        read
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.rest {
            Some(rest) if rest.is_over.load(Ordering::Relaxed) => {
                self.rest = None;
                return Poll::Ready(());
            }
            Some(rest) if rest.waker.will_wake(cx.waker()) => return Poll::Pending,
            _ => {}
        }
        let rest = Arc::new(Rest { is_over: AtomicBool::new(false), waker: cx.waker().clone() });
        self.rest = Some(Arc::clone(&rest));
        // It wakes when the others were served.
        pin!(yield_now()).poll(&mut Context::from_waker(&Waker::from(rest)))
    }
}

/// A new connection is a turn: those that are there already go on.
pub async fn accepted() {
    yield_now().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn a_turn_is_over_with_a_connection() {
        let served = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&served);
        tokio::spawn(async move { other.store(true, Ordering::Relaxed) });
        assert!(!served.load(Ordering::Relaxed));
        accepted().await;
        assert!(served.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_turn_is_over_with_16_kib_in_a_row() {
        let mut turn = Turn::default();
        let mut read = move |cx: &mut Context<'_>, bytes: usize| {
            let (there, mut all) = (vec![0; bytes], vec![0; bytes.max(1)]);
            let stream = Once(&there);
            turn.poll_read(pin!(stream), cx, &mut ReadBuf::new(&mut all), None)
        };
        let mut polls = 0;
        let turns = poll_fn(move |cx| {
            polls += 1;
            if polls == 1 {
                // All that there was.
                assert!(read(cx, 15 * 1024).is_ready() && read(cx, 0).is_pending());
                assert!(read(cx, 15 * 1024).is_ready() && read(cx, 1024).is_ready());
                // It is woken for something else as well, and before the others were served.
                cx.waker().wake_by_ref();
                assert!(read(cx, 1).is_pending() && read(cx, 1).is_pending());
                return Poll::Pending;
            }
            read(cx, 1).map(|_| polls)
        });
        // Once for that, and then in its turn.
        assert_eq!(tokio::spawn(turns).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn of_many_frames_a_few_are_read_in_a_turn_and_a_large_one_whole() {
        let much = vec![7; 100_000];
        for (left, expected) in [(0, FRAMES), (50_000, 50_000 + FRAMES), (usize::MAX / 2, 100_000)] {
            let (mut turn, mut stream, mut bytes) = (Turn::default(), &*much, vec![0; 200_000]);
            let mut buf = ReadBuf::new(&mut bytes);
            let mut read = |cx: &mut Context<'_>| turn.poll_read(Pin::new(&mut stream), cx, &mut buf, Some(left));
            let polls = poll_fn(|cx| Poll::Ready([read(cx), read(cx)].map(|read| read.is_ready()))).await;
            assert_eq!(polls, [true, false]);
            assert_eq!(buf.filled(), &much[..expected]);
        }
    }

    /// All of it in one piece, and then nothing for now.
    struct Once<'a>(&'a [u8]);

    impl AsyncRead for Once<'_> {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.put_slice(self.0);
            if self.0.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
    }
}
