//! A client's connection: HTTP/1.1 and HTTP/2 on one port, strictly read, within limits.

use super::{
    credit::Credit,
    doze::Lent,
    fired::{Fired, Limit},
    limits::Limits,
    parting::{FULL, Parting},
    patience::Patient,
    pressing::{Pressing, Upload},
    tls::Tls,
    turns::Turns,
    worth::{Counting, LAST},
};
use futures_util::future::{Either, maybe_done, select};
use http::{Request, Response, Version, header, uri::Scheme};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tower::BoxError;
use tower_balancer::http::{Coalesce, Peer};

/// How many are told at a time that there is no place: a flood of those who do not listen must not take up what the others need.
const FAREWELLS: usize = 256;

/// What may lie in a socket and wait to be sent.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 256 * 1024;

/// A connection that was just opened has so long to say what it wants before a stop closes it.
pub const LINGER: Duration = Duration::from_millis(100);

/// What may arrive over HTTP/2 that no backend has read yet: of one request, and of all on a connection. Sixteen uploads have to be
/// stuck before they keep others on the same connection from theirs.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;

/// How connections are served, and how many.
pub struct Connections {
    server: auto::Builder<TokioExecutor>,
    /// The same for those that are known to speak HTTP/1.1.
    http1: auto::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    farewells: Arc<Semaphore>,
    limits: Limits,
    tls: Option<Tls>,
    accepted: AtomicU64,
}

/// A connection to its end. Apart: it is large, and a future that awaits another has room for it twice.
pub type Serving = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// What a connection can be served with.
pub trait Served:
    Service<Request<Upload>, Response = Response<Self::Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
    type Body: http_body::Body<Data: Send, Error: Into<BoxError>> + Default + Send + 'static;
}

impl<S, B> Served for S
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Default + Send + 'static,
{
    type Body = B;
}

/// A client for whom there is a place.
pub struct Client {
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    turns: Turns,
}

impl Connections {
    /// How often clients have met a limit.
    pub fn fired(&self) -> &Fired {
        &self.limits.fired
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.limits.connections.saturating_sub(self.places.available_permits())
    }

    /// How many there were, those that are open among them.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Over TLS, and no other way, where there is a certificate.
    pub fn new(limits: Limits, tls: Option<Tls>) -> Arc<Self> {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            // The stream itself sees to that, for less.
            .header_read_timeout(None)
            .max_headers(limits.headers)
            .max_buf_size(limits.head_bytes as usize)
            // Who has nothing more to say may still listen.
            .half_close(true);
        server
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(limits.head_bytes)
            .max_concurrent_streams(limits.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(limits.pending_resets)
            .max_local_error_reset_streams(limits.provoked_resets)
            .keep_alive_interval(limits.ping_after)
            .keep_alive_timeout(limits.ping_time)
            // WebSocket begins so (RFC 8441).
            .enable_connect_protocol();
        let places = Arc::new(Semaphore::new(limits.connections));
        let farewells = Arc::new(Semaphore::new(FAREWELLS));
        let http1 = server.clone().http1_only();
        Arc::new(Self { server, http1, places, farewells, limits, tls, accepted: AtomicU64::default() })
    }

    /// A client that has connected, if there is a place; else it is told so. It stands in the line of `turns`.
    pub fn admit(&self, stream: TcpStream, turns: &Turns) -> Option<Client> {
        // Small answers go out at once.
        _ = stream.set_nodelay(true);
        // What the client has no room for waits with the backend, not with the kernel, which would take megabytes of it.
        #[cfg(target_os = "linux")]
        {
            _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        }
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                Some(Client { stream, place, turns: turns.clone() })
            }
            Err(_) => {
                self.fired().one(Limit::Connections);
                // Over TLS there is nothing to tell before it has begun.
                if self.tls.is_none()
                    && let Ok(farewell) = Arc::clone(&self.farewells).try_acquire_owned()
                {
                    tokio::spawn(async move {
                        let (mut stream, mut parting) = (stream, Parting::with(FULL));
                        poll_fn(|cx| parting.poll(&mut stream, cx)).await;
                        drop(farewell);
                    });
                }
                None
            }
        }
    }

    /// Serves what `client` asks for with `service`, until either side closes; after `stop` only what has begun.
    pub fn serve<S, F>(self: &Arc<Self>, client: Client, address: SocketAddr, service: S, stop: F) -> Serving
    where
        F: Future<Output = ()> + Send + 'static,
        S: Served,
    {
        let (connections, Client { stream, place, turns }) = (Arc::clone(self), client);
        match self.tls.clone() {
            None => {
                let reset = |stream: &Coalesce<TcpStream>| {
                    _ = socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO));
                };
                let stream = Patient::new(Coalesce::new(stream), &self.limits, turns, place).broken_off_by(reset);
                Box::pin(connections.serve_on(Box::new(stream), Peer::new(address, &Scheme::HTTP), service, stop))
            }
            Some(tls) => {
                let line = turns.clone();
                Box::pin(async move {
                    let fired = connections.fired();
                    let accepting = pin!(timeout(connections.limits.head_time, async {
                        // What it says first is the dearest answer that there is.
                        stream.readable().await?;
                        line.rest().await;
                        tls.accept(stream).await
                    }));
                    let (accepted, stop) = match select(accepting, Box::pin(stop)).await {
                        Either::Left((accepted, stop)) => (accepted, Either::Left(stop)),
                        // Who is about to ask is answered; who only holds a connection goes.
                        Either::Right(((), accepting)) => {
                            (timeout(LAST, accepting).await?, Either::Right(sleep(LINGER)))
                        }
                    };
                    let stream = match accepted {
                        Ok(accepted) => accepted.inspect_err(|_| fired.no_handshake())?,
                        Err(elapsed) => {
                            fired.one(Limit::HeadTime);
                            return Err(elapsed.into());
                        }
                    };
                    // TLS itself says where it ends.
                    let stream = Patient::new(Coalesce::new(stream), &connections.limits, turns, place);
                    connections.serve_on(Box::new(stream), Peer::new(address, &Scheme::HTTPS), service, stop).await
                })
            }
        }
    }

    async fn serve_on<I, S, F>(
        self: Arc<Self>,
        mut stream: Box<Patient<Coalesce<I>>>,
        peer: Peer,
        service: S,
        stop: F,
    ) -> Result<(), BoxError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
        S: Served,
    {
        // It may come in the turn in which the client dozes off, and is to be heard by whoever asks then.
        let (mut stop, mut is_woken) = (pin!(maybe_done(stop)), false);
        loop {
            let (lent, mut back) = Lent::new(stream.signs(), stream);
            self.serve_awake(is_woken, lent, &peer, &service, stop.as_mut()).await?;
            let Ok(dozing) = back.try_recv() else { return Ok(()) };
            (stream, is_woken) = (dozing, true);
            // Who has asked in time is answered, so it is looked at first.
            let asks_again = match select(poll_fn(|cx| stream.poll_woken(cx)), stop.as_mut()).await {
                Either::Left((woken, _)) => woken?,
                Either::Right(_) => false,
            };
            if !asks_again {
                return Ok(poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?);
            }
        }
    }

    /// Until either side closes, or the client dozes.
    fn serve_awake<'a, I, S, F>(
        &self,
        is_woken: bool,
        stream: Lent<Box<Patient<Coalesce<I>>>>,
        peer: &Peer,
        service: &S,
        stop: F,
    ) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = ()> + Send + 'a,
        S: Served,
    {
        let (switch, signs, peer) = (stream.switch(), stream.signs(), peer.clone());
        let stream = TokioIo::new(Pin::new(stream));
        let asked = Arc::clone(&signs);
        let server = if is_woken { &self.http1 } else { &self.server };
        let connect = |service: Counting<Pressing<S>>| {
            let service = service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(Upload::from);
                if request.version() < Version::HTTP_11 {
                    asked.is_old.store(true, Ordering::Relaxed);
                }
                // Most do not: to compare the few names costs less than to look for one.
                if request.headers().keys().any(|name| *name == header::UPGRADE) {
                    request.extensions_mut().insert(switch.clone());
                }
                request.extensions_mut().insert(peer.clone());
                service.call(request)
            });
            server.serve_connection_with_upgrades(stream, service).into_owned()
        };
        let Limits { stall, min_rate, .. } = self.limits;
        let fired = self.fired().clone();
        let service = Pressing::new(service.clone(), Credit::new(stall, min_rate), fired.clone());
        let answers = service.answers();
        let counting = Counting::new(service, answers.clone(), &self.limits);
        let connection = counting.on(connect, is_woken, signs, &self.limits, stop);
        Box::pin(answers.watched_on(connection, stall, fired))
    }
}
