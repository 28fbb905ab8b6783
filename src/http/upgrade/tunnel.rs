//! Two connections that have become one.

use http_body::Body;
use http_body_util::BodyExt;
use hyper::{rt::Executor, upgrade::OnUpgrade};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

/// Carries bytes both ways until both are at their end, one breaks, or neither has had any for `idle_timeout`. Until then
/// `held` is held.
pub(super) fn open<R>(client: OnUpgrade, backend: OnUpgrade, held: R, idle_timeout: Duration)
where
    R: Body<Data: Send> + Send + 'static,
{
    TokioExecutor::new().execute(async move {
        let held = pin!(held);
        let used = Arc::new(AtomicBool::new(false));
        let ended = tokio::select! {
            ended = carry(client, backend, &used) => ended.is_ok(),
            () = idle(&used, idle_timeout) => true,
        };
        // What broke was broken off; what ended is complete.
        if ended {
            _ = held.collect().await;
        }
    });
}

async fn carry(client: OnUpgrade, backend: OnUpgrade, used: &Arc<AtomicBool>) -> io::Result<()> {
    let (client, backend) = tokio::try_join!(client, backend).map_err(io::Error::other)?;
    let watched = |inner| Watched { inner: TokioIo::new(inner), used: Arc::clone(used) };
    copy_bidirectional(&mut watched(client), &mut watched(backend)).await?;
    Ok(())
}

/// Until a whole `timeout` has passed in which nothing was read.
async fn idle(used: &AtomicBool, timeout: Duration) {
    loop {
        tokio::time::sleep(timeout).await;
        if !used.swap(false, Ordering::Relaxed) {
            return;
        }
    }
}

/// A stream that tells that something was read from it.
struct Watched<I> {
    inner: I,
    used: Arc<AtomicBool>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.used.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
