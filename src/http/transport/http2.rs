use super::{
    error::ConnectError,
    host::{Host, Wire},
    http1,
};
use crate::{error::BoxError, http::protocol::Protocol, sync::locked};
use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
    task::AtomicWaker,
};
use http_body::Body;
use hyper::{
    client::conn::http2::{self, SendRequest},
    rt::Executor,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Streams on one connection at a time, where the server does not allow for less. Most allow for 100 or more: what is
/// beyond goes on another connection, that they do not wait behind each other.
const MOST_STREAMS: usize = 100;

/// What may arrive of an answer that nobody has read yet. The connection has room for that of all its streams: a client that
/// takes nothing of its answer must not keep others from theirs.
const WINDOW: u32 = 128 * 1024;

/// What the head of an answer may be, or its trailers, as HTTP/2 counts it. By itself hyper takes 16 KiB, and servers that are told
/// so send no more, as those of gRPC. It is more than over HTTP/1.1, for it costs nothing until it is used, and what is longer by half
/// ends the connection with all that is on it: so a backend may say several times what a client has told it.
const MAX_HEAD: u32 = 256 * 1024;

/// How long a connection with requests on it may be silent before it is asked for a sign of life, and how long that may take.
const PING_AFTER: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, for all who have a stream on it.
pub(super) struct Connection<B> {
    sender: SendRequest<B>,
    load: Arc<Load>,
}

impl<B> Clone for Connection<B> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), load: Arc::clone(&self.load) }
    }
}

impl<B> Connection<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// With up to `most` streams, until the server has said what it allows for.
    async fn over(stream: Wire, most: usize) -> Result<Self, ConnectError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // While requests wait on it, a connection that is dead without a word is found out, and not by them.
        builder.timer(TokioTimer::new()).keep_alive_interval(PING_AFTER).keep_alive_timeout(PING_TIMEOUT);
        builder.max_header_list_size(MAX_HEAD);
        builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW * MOST_STREAMS as u32);
        let handshake = builder.initial_max_send_streams(most).handshake(stream);
        let (sender, mut connection) = handshake.await.map_err(ConnectError::new)?;
        let load = Arc::new(Load { most: AtomicUsize::new(most), ..Load::default() });
        let told = Arc::clone(&load);
        TokioExecutor::new().execute(poll_fn(move |cx| {
            let done = Pin::new(&mut connection).poll(cx).map(drop);
            // It has said so before its first answer, and may change its mind.
            told.served_first.register(cx.waker());
            told.most.store(connection.current_max_send_streams().clamp(1, MOST_STREAMS), Ordering::Relaxed);
            done
        }));
        Ok(Self { sender, load })
    }
}

impl<B> Connection<B> {
    /// A stream on it, where it has room.
    fn stream(&self) -> Option<Lent<B>> {
        let begin = |streams| (streams < self.load.most.load(Ordering::Relaxed)).then_some(streams + 1);
        self.load.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin).ok()?;
        Some(Lent { sender: self.sender.clone(), stream: Stream(Arc::clone(&self.load)) })
    }
}

/// How much is on a connection, and how much may be.
#[derive(Default)]
struct Load {
    streams: AtomicUsize,
    most: AtomicUsize,
    served: AtomicBool,
    served_first: AtomicWaker,
}

/// A connection with room for one request on it.
pub(super) struct Lent<B> {
    pub(super) sender: SendRequest<B>,
    pub(super) stream: Stream,
}

/// A stream, until it is dropped.
pub(in crate::http) struct Stream(Arc<Load>);

impl Stream {
    /// Whether the connection has brought an answer.
    pub(super) fn served(&self) -> bool {
        self.0.served.load(Ordering::Relaxed)
    }

    pub(super) fn serves(&self) {
        if !self.served() && !self.0.served.swap(true, Ordering::Relaxed) {
            self.0.served_first.wake();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// None where the backend would rather have HTTP/1.1.
type Connecting<B> = Pin<Box<dyn Future<Output = Result<Option<Connection<B>>, ConnectError>> + Send>>;

/// The connections to one backend: one, while that has room.
pub(super) struct Connections<B> {
    state: Mutex<State<B>>,
}

struct State<B> {
    /// Each with the time when the last request was put on it.
    open: Vec<(Connection<B>, Instant)>,
    /// Those who wait for it hold it.
    connecting: Option<WeakShared<Connecting<B>>>,
}

impl<B> State<B> {
    fn stream(&mut self, timeout: Duration) -> Option<Lent<B>> {
        let now = Instant::now();
        self.purge(now, timeout);
        // The first that has room: in quiet times, the others grow old and are closed.
        self.open.iter_mut().find_map(|(connection, used)| {
            let lent = connection.stream()?;
            *used = now;
            Some(lent)
        })
    }

    fn purge(&mut self, now: Instant, timeout: Duration) {
        self.open.retain(|(connection, used)| {
            let busy = connection.load.streams.load(Ordering::Relaxed) > 0;
            !connection.sender.is_closed() && (busy || now - *used < timeout)
        });
    }
}

impl<B> Connections<B> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { open: Vec::new(), connecting: None }) }
    }

    /// A stream on a connection that is open.
    pub(super) fn stream(&self, timeout: Duration) -> Option<Lent<B>> {
        locked(&self.state).stream(timeout)
    }

    /// Closes those on which nothing was for too long, and tells whether there are others.
    pub(super) fn purge(&self, now: Instant, timeout: Duration) -> bool {
        let mut state = locked(&self.state);
        state.purge(now, timeout);
        !state.open.is_empty()
    }
}

impl<B> Connections<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// A stream, on a new connection if there must be one. All who find no room wait for the same. Where `offered` leaves the
    /// choice, and the backend would rather have HTTP/1.1, there is none: one of them finds a connection of that.
    pub(super) async fn connect(
        &self,
        host: &Arc<Host<B>>,
        offered: Protocol,
    ) -> Result<Option<Lent<B>>, ConnectError> {
        loop {
            let connecting = {
                let mut state = locked(&self.state);
                if let Some(lent) = state.stream(host.settings.idle_timeout) {
                    return Ok(Some(lent));
                }
                state.connecting(host, offered)
            };
            let Some(connection) = connecting.await? else { return Ok(None) };
            // Where more waited than there is room for, the others go on to the next.
            if let Some(lent) = connection.stream() {
                return Ok(Some(lent));
            }
        }
    }

    fn opened(&self, connection: Option<Connection<B>>) {
        let mut state = locked(&self.state);
        state.connecting = None;
        state.open.extend(connection.map(|connection| (connection, Instant::now())));
    }
}

impl<B> State<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn connecting(&mut self, host: &Arc<Host<B>>, offered: Protocol) -> Shared<Connecting<B>> {
        if let Some(connecting) = self.connecting.as_ref().and_then(WeakShared::upgrade) {
            return connecting;
        }
        let host = Arc::clone(host);
        // What it allowed for on another connection, it will on the next.
        let before = self.open.last().map(|(connection, _)| connection.load.most.load(Ordering::Relaxed));
        let most = before.unwrap_or(MOST_STREAMS);
        let connecting: Connecting<B> = Box::pin(async move {
            let connection = async {
                let (stream, is_http2) = host.connect(offered).await?;
                if !is_http2 {
                    let mut connection = http1::Connection::over(stream).await?;
                    // Only then is it found by those who wait.
                    connection.sender.ready().await.map_err(ConnectError::new)?;
                    host.keep_first(connection);
                    return Ok(None);
                }
                Connection::over(stream, most).await.map(Some)
            };
            let connection = connection.await;
            host.http2.opened(connection.as_ref().ok().cloned().flatten());
            connection
        });
        let connecting = connecting.shared();
        self.connecting = connecting.downgrade();
        connecting
    }
}
