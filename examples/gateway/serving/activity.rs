//! What goes on on a connection, and how long nothing may.

use http::Version;
use pin_project_lite::pin_project;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until},
};

/// How long a client may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// With the head of a request that it has begun.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// What goes on on a connection.
pub struct Activity {
    began: Instant,
    requests: AtomicU32,
    /// Microseconds from the beginning to when the last request ended.
    idle_since: AtomicU64,
    /// The same to the first byte of the next one, and 1; 0 is none.
    head_since: AtomicU64,
    /// What comes on it is not only requests.
    http2: AtomicBool,
}

/// What HTTP/2 begins with, and no request of HTTP/1 does (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI ";

/// A request that has not been answered to the end.
pub struct Busy(Arc<Activity>);

/// Whose patience is at its end.
pub enum Expired {
    /// A head has been begun, and not ended.
    Head,
    /// No request was there for long.
    Idle,
}

impl Activity {
    pub fn new() -> Self {
        let (requests, idle_since, head_since, http2) = Default::default();
        Self { began: Instant::now(), requests, idle_since, head_since, http2 }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// A request has come; it lasts until what is returned is dropped.
    pub fn begin(self: &Arc<Self>, version: Version) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        Busy(Arc::clone(self))
    }

    /// Whether a request has not been answered to the end.
    pub fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Something has come.
    fn read(&self, bytes: &[u8]) {
        let waits = !self.is_busy() && !self.http2.load(Ordering::Relaxed);
        if waits && self.head_since.load(Ordering::Relaxed) == 0 {
            match bytes.starts_with(PREFACE) {
                true => self.http2.store(true, Ordering::Relaxed),
                false => self.head_since.store(self.now() + 1, Ordering::Relaxed),
            }
        }
    }

    /// When patience ends, and for what, as things are.
    fn due(&self, patience: Patience) -> (Instant, Expired) {
        if self.is_busy() {
            // Not while a request is in flight; nobody wakes us when it ends, so we look again.
            return (Instant::now() + patience.head.min(patience.idle), Expired::Idle);
        }
        let at = |micros| self.began + Duration::from_micros(micros);
        match self.head_since.load(Ordering::Relaxed) {
            0 => (at(self.idle_since.load(Ordering::Relaxed)) + patience.idle, Expired::Idle),
            since => (at(since - 1) + patience.head, Expired::Head),
        }
    }

    /// Waits until there is nothing to wait for any more.
    pub async fn expired(&self, patience: Patience) -> Expired {
        loop {
            let (due, _) = self.due(patience);
            // One that begins a head has less time from then on than one that sends nothing.
            sleep_until(due.min(Instant::now() + patience.head)).await;
            let (due, expired) = self.due(patience);
            if due <= Instant::now() {
                return expired;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// A stream that notes when something has come.
    pub struct Watched {
        #[pin]
        inner: TcpStream,
        activity: Arc<Activity>,
    }
}

impl Watched {
    pub fn new(inner: TcpStream, activity: &Arc<Activity>) -> Self {
        Self { inner, activity: Arc::clone(activity) }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.inner.poll_read(cx, buffer);
        let read_now = buffer.filled().get(before..).filter(|bytes| !bytes.is_empty());
        if let Some(bytes) = read_now {
            this.activity.read(bytes);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}
