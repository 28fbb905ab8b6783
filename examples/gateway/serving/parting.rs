//! The end of a connection on a client that may still be sending.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// For whom there is no place.
pub const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";

/// Who has begun a head and does not go on, or goes on for too long with its first line.
pub const TOO_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
pub const TOO_LONG: &[u8] = b"HTTP/1.1 414 URI Too Long\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// So long and so much is listened to who does not stop, or is not there any more: an answer reaches the other end of the world and
/// comes back in a third of it, and what a client has sent meanwhile is less.
const TIME: Duration = Duration::from_secs(1);
const BYTES: usize = 4 << 20;

/// Says the last, closes the way out, and listens to the end (RFC 9112, section 9.6): who closes on what was sent takes back what
/// he has answered.
pub struct Parting {
    words: &'static [u8],
    is_shut: bool,
    heard: usize,
    over: Pin<Box<Sleep>>,
}

impl Parting {
    /// With these words, or none where all is said.
    pub fn with(words: &'static [u8]) -> Self {
        Self { words, is_shut: false, heard: 0, over: Box::pin(sleep(TIME)) }
    }

    /// From `stream`, which can be dropped then.
    pub fn poll<I: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut I, cx: &mut Context<'_>) -> Poll<()> {
        // There is nobody left to be told of an error.
        if self.poll_end(stream, cx).is_ready() { Poll::Ready(()) } else { self.over.as_mut().poll(cx) }
    }

    fn poll_end<I>(&mut self, stream: &mut I, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        while !self.words.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, self.words))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.words = &self.words[written..],
            }
        }
        if !self.is_shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        let mut bytes = [0; 8 * 1024];
        let mut heard = ReadBuf::new(&mut bytes);
        ready!(Pin::new(stream).poll_read(cx, &mut heard))?;
        self.heard += heard.filled().len();
        if heard.filled().is_empty() || self.heard >= BYTES {
            return Poll::Ready(Ok(()));
        }
        // Others come first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
