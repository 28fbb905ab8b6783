use super::{
    Held, Settings,
    connection::Connection,
    error::{ConnectError, Failed},
    exchange::exchange,
    http1, http2,
};
#[cfg(feature = "tls")]
use crate::http::tls::{Connector, InvalidTls, speaks_http2};
use crate::{
    error::BoxError,
    http::{Coalesce, protocol::Protocol, seldom, stream::Stream},
};
use http::{
    HeaderValue, Method, Request, Response, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::time::{Instant, timeout};
#[cfg(feature = "tls")]
use tokio::{net::TcpStream, time::timeout_at};
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;
use tower::ServiceExt;

/// What a connection writes to and reads from.
pub(super) type Wire = TokioIo<Coalesce<Stream>>;

/// The connections to one backend.
pub(super) struct Host<B> {
    uri: Uri,
    /// How requests call it.
    name: Option<HeaderValue>,
    protocol: Protocol,
    pub(super) http1: http1::Idle<B>,
    pub(super) http2: http2::Connections<B>,
    pub(super) settings: Arc<Settings>,
    #[cfg(feature = "tls")]
    tls: std::sync::OnceLock<Result<Connector, InvalidTls>>,
}

impl<B> Host<B> {
    pub(super) fn new(scheme: &Scheme, authority: &Authority, settings: Arc<Settings>) -> Self {
        let encrypted = *scheme == Scheme::HTTPS;
        let default_port = if encrypted { 443 } else { 80 };
        let name = match authority.port_u16() {
            Some(port) if port != default_port => HeaderValue::try_from(format!("{}:{port}", authority.host())),
            _ => HeaderValue::from_str(authority.host()),
        };
        let uri = Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query("/").build();
        Self {
            // With all three parts there is nothing that could be missing.
            uri: uri.unwrap_or_default(),
            name: name.ok(),
            protocol: match settings.protocol {
                // Nobody says what the backend likes.
                Protocol::Auto if !encrypted => Protocol::Http1,
                protocol => protocol,
            },
            http1: http1::Idle::new(),
            http2: http2::Connections::new(),
            settings,
            #[cfg(feature = "tls")]
            tls: std::sync::OnceLock::new(),
        }
    }

    /// As HTTP/2 has it: `:authority` comes from the URI, and nobody has to compare it with a `Host` that says the same.
    pub(super) fn address_http2(&self, request: &mut Request<B>) {
        if request.headers().get(header::HOST) == self.name.as_ref() {
            request.headers_mut().remove(header::HOST);
        }
        // It was meant for a connection of HTTP/1.1.
        if request.uri().authority().is_none() {
            request.headers_mut().remove(header::TRANSFER_ENCODING);
            let mut parts = self.uri.clone().into_parts();
            parts.path_and_query = std::mem::take(request.uri_mut()).into_parts().path_and_query;
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        }
    }

    /// A connection that is open and has room for this request.
    pub(super) fn free(&self, request: &Request<B>) -> Option<Connection<B>> {
        let idle = || self.http1.pop(self.settings.idle_timeout).map(Connection::Http1);
        let open = || self.http2.stream(self.settings.idle_timeout).map(Connection::Http2);
        match self.protocol_for(request) {
            Protocol::Http1 => idle(),
            Protocol::Http2 => open(),
            Protocol::Auto => open().or_else(idle),
        }
    }

    /// What it may go over: only from HTTP/1.1 can a connection switch to another protocol.
    fn protocol_for(&self, request: &Request<B>) -> Protocol {
        match self.protocol {
            Protocol::Auto if seldom::has(request.headers(), &header::UPGRADE) => Protocol::Http1,
            protocol => protocol,
        }
    }

    /// Takes back what is free again.
    pub(super) fn keep(&self, connection: Box<http1::Connection<B>>) {
        self.http1.push(connection, self.settings.max_idle, self.settings.idle_timeout);
    }

    /// Keeps one that somebody waits for.
    pub(super) fn keep_first(&self, connection: Box<http1::Connection<B>>) {
        self.http1.push(connection, self.settings.max_idle.max(1), self.settings.idle_timeout);
    }

    /// Closes what was idle for too long, and tells whether anything else is left.
    pub(super) fn purge(&self, now: Instant) -> bool {
        let timeout = self.settings.idle_timeout;
        self.http1.purge(now, timeout) | self.http2.purge(now, timeout)
    }

    /// A stream of bytes to it, for one of the protocols that `offered` stands for, and whether that is HTTP/2.
    pub(super) async fn connect(&self, offered: Protocol) -> Result<(Wire, bool), ConnectError> {
        let limit = self.settings.connect_timeout;
        match timeout(limit, self.reach(offered)).await {
            Ok(reached) => reached,
            Err(_) => Err(ConnectError::new(format!("no connection within {limit:?}"))),
        }
    }

    /// All its addresses are tried.
    async fn reach(&self, offered: Protocol) -> Result<(Wire, bool), ConnectError> {
        #[cfg(feature = "tls")]
        let began = Instant::now();
        let stream = self.settings.connector.clone().oneshot(self.uri.clone()).await.map_err(ConnectError::new)?;
        let stream = stream.into_inner();
        #[cfg(feature = "tls")]
        if self.uri.scheme() == Some(&Scheme::HTTPS) {
            let stream = self.encrypt(stream, offered, began).await.map_err(ConnectError::new)?;
            let http2 = speaks_http2(&stream);
            return Ok((TokioIo::new(Coalesce::new(Stream::Tls(Box::new(stream)))), http2));
        }
        Ok((TokioIo::new(Coalesce::new(Stream::Plain(stream))), offered == Protocol::Http2))
    }

    /// TLS, in what is left of the time to connect.
    #[cfg(feature = "tls")]
    async fn encrypt(
        &self,
        stream: TcpStream,
        offered: Protocol,
        began: Instant,
    ) -> Result<TlsStream<TcpStream>, BoxError> {
        let connector = || self.settings.tls.connector(self.uri.host().unwrap_or_default());
        let connector = self.tls.get_or_init(connector).as_ref().map_err(InvalidTls::clone)?;
        let timeout = self.settings.connect_timeout;
        match timeout_at(began + timeout, connector.connect(stream, offered)).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no TLS within {timeout:?}").into()),
        }
    }
}

impl<B> Host<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// As HTTP/1.1 has it: the path in the first line, the authority in `Host`, unless another was put there.
    pub(super) fn address_http1(&self, request: &mut Request<B>) {
        keep_body(request);
        // Mostly it was put there, before anything else.
        if let Some(name) = self.name.as_ref().filter(|_| !seldom::has(request.headers(), &header::HOST)) {
            request.headers_mut().insert(header::HOST, name.clone());
        }
        let path = std::mem::take(request.uri_mut()).into_parts().path_and_query;
        *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
    }

    /// Sends `request` over a new connection, or, over HTTP/2, over any that has room.
    pub(super) async fn exchange_anew(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<(Response<Incoming>, Option<Held>), Failed> {
        let connection = match self.protocol_for(&request) {
            Protocol::Http1 => match self.connect(Protocol::Http1).await {
                Ok((stream, _)) => Connection::Http1(http1::Connection::over(stream).await?),
                // What asks for another protocol is then an ordinary request, and no reason to take the backend for dead.
                Err(error) if self.protocol == Protocol::Auto && error.wants_other_protocol() => {
                    self.negotiate().await?
                }
                Err(error) => return Err(error.into()),
            },
            Protocol::Http2 | Protocol::Auto => self.negotiate().await?,
        };
        exchange(self, connection, request).await
    }

    /// A connection of the protocol that the backend likes, of those that there may be.
    async fn negotiate(self: &Arc<Self>) -> Result<Connection<B>, ConnectError> {
        let timeout = self.settings.idle_timeout;
        if let Some(lent) = self.http2.connect(self, self.protocol).await? {
            return Ok(Connection::Http2(lent));
        }
        // It likes HTTP/1.1, and one of those who waited for that has the connection.
        if let Some(connection) = self.http1.pop(timeout) {
            return Ok(Connection::Http1(connection));
        }
        let (stream, _) = self.connect(Protocol::Http1).await?;
        Ok(Connection::Http1(http1::Connection::over(stream).await?))
    }
}

/// hyper drops the body of a GET or HEAD whose length is not known, unless it is told how to frame it.
fn keep_body<B: Body>(request: &mut Request<B>) {
    let seldom = matches!(*request.method(), Method::GET | Method::HEAD);
    let body = request.body();
    if seldom && !body.is_end_stream() && body.size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}
