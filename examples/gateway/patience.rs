//! How long a client is waited for in the middle of something.

use super::limits::Limits;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tower_balancer::http::Strict;

/// As long as the preface of HTTP/2 and the head of the frame that has to follow it. Until so much is there, it is not even
/// settled what the client speaks, and nobody else bounds how long that takes.
const OPENING: usize = 33;

/// A client's stream of bytes, which breaks where the client does not begin, sends nothing in the middle of a request's body, or takes nothing
/// of what is sent, for too long. It has one of the places for connections, also where it has become a tunnel.
pub struct Patient<I> {
    inner: Strict<I>,
    stall: Duration,
    head_time: Duration,
    /// What of it has not come yet.
    opening: usize,
    /// Since a read or a write waits, and no longer.
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl<I> Patient<I> {
    pub fn new(stream: I, limits: &Limits, place: OwnedSemaphorePermit) -> Self {
        let Limits { stall, head_time, .. } = *limits;
        let inner = Strict::new(stream);
        Self { inner, stall, head_time, opening: OPENING, reading: None, writing: None, _place: place }
    }

    /// Where it waits for too long, it has failed.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(_) => self.writing = None,
            Poll::Pending if out_of_patience(&mut self.writing, self.stall, cx) => return timed_out(),
            Poll::Pending => {}
        }
        written
    }
}

fn out_of_patience(waiting: &mut Option<Pin<Box<Sleep>>>, patience: Duration, cx: &mut Context<'_>) -> bool {
    waiting.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx).is_ready()
}

fn timed_out<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stood still")))
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if read.is_ready() {
            this.opening = this.opening.saturating_sub(buf.filled().len() - before);
            // A byte now and then is no beginning.
            if this.opening == 0 {
                this.reading = None;
            }
            return read;
        }
        let patience = if this.opening > 0 { this.head_time } else { this.stall };
        let waits = this.opening > 0 || this.inner.is_in_body();
        if waits && out_of_patience(&mut this.reading, patience, cx) { timed_out() } else { read }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
