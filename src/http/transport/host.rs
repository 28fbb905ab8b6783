use super::{
    Held, Settings,
    connection::Connection,
    error::{ConnectError, Failed},
    exchange::exchange,
    http1, http2,
};
use crate::{error::BoxError, http::Coalesce};
use http::{
    HeaderValue, Request, Response, Uri, header,
    uri::{Authority, PathAndQuery},
};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::{net::TcpStream, time::Instant};
use tower::ServiceExt;

/// What a connection writes to and reads from.
pub(super) type Wire = TokioIo<Coalesce<TcpStream>>;

/// The connections to one backend.
pub(super) struct Host<B> {
    uri: Uri,
    /// How requests call it.
    name: Option<HeaderValue>,
    connections: Connections<B>,
    settings: Arc<Settings>,
}

enum Connections<B> {
    Http1(http1::Idle<B>),
    Http2(http2::Connections<B>),
}

impl<B> Host<B> {
    pub(super) fn new(authority: &Authority, settings: Arc<Settings>) -> Self {
        let name = match authority.port_u16() {
            Some(port) if port != 80 => HeaderValue::try_from(format!("{}:{port}", authority.host())),
            _ => HeaderValue::from_str(authority.host()),
        };
        let uri = Uri::builder().scheme("http").authority(authority.clone()).path_and_query("/").build();
        let connections = if settings.http2 {
            Connections::Http2(http2::Connections::new())
        } else {
            Connections::Http1(http1::Idle::new())
        };
        // With all three parts there is nothing that could be missing.
        Self { uri: uri.unwrap_or_default(), name: name.ok(), connections, settings }
    }

    /// As HTTP/1.1 has it: the path in the first line, the authority in `Host`, unless another was put there.
    pub(super) fn address(&self, request: &mut Request<B>) {
        if let (Some(name), header::Entry::Vacant(vacant)) = (&self.name, request.headers_mut().entry(header::HOST)) {
            vacant.insert(name.clone());
        }
        let path = std::mem::take(request.uri_mut()).into_parts().path_and_query;
        *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
    }

    /// As HTTP/2 has it: `:authority` comes from the URI, and nobody has to compare it with a `Host` that says the same.
    pub(super) fn drop_name(&self, request: &mut Request<B>) {
        if request.headers().get(header::HOST) == self.name.as_ref() {
            request.headers_mut().remove(header::HOST);
        }
    }

    /// A connection that is open and has room for a request.
    pub(super) fn free(&self) -> Option<Connection<B>> {
        match &self.connections {
            Connections::Http1(idle) => idle.pop(self.settings.idle_timeout).map(Connection::Http1),
            Connections::Http2(open) => open.stream(self.settings.idle_timeout).map(Connection::Http2),
        }
    }

    /// Takes back what is free again.
    pub(super) fn keep(&self, connection: Box<http1::Connection<B>>) {
        if let Connections::Http1(idle) = &self.connections {
            idle.push(connection, self.settings.max_idle, self.settings.idle_timeout);
        }
    }

    /// Closes what was idle for too long, and tells whether anything else is left.
    pub(super) fn purge(&self, now: Instant) -> bool {
        match &self.connections {
            Connections::Http1(idle) => idle.purge(now, self.settings.idle_timeout),
            Connections::Http2(open) => open.purge(now, self.settings.idle_timeout),
        }
    }

    pub(super) fn http2(&self) -> Option<&http2::Connections<B>> {
        match &self.connections {
            Connections::Http1(_) => None,
            Connections::Http2(open) => Some(open),
        }
    }

    /// A stream of bytes to it: all its addresses are tried.
    pub(super) async fn connect(&self) -> Result<Wire, ConnectError> {
        let stream = self.settings.connector.clone().oneshot(self.uri.clone()).await.map_err(ConnectError::new)?;
        Ok(TokioIo::new(Coalesce::new(stream.into_inner())))
    }
}

impl<B> Host<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    /// Sends `request` over a new connection, or, over HTTP/2, over any that has room.
    pub(super) async fn exchange_anew(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<(Response<Incoming>, Option<Held>), Failed> {
        let connection = match &self.connections {
            Connections::Http1(_) => Connection::Http1(http1::Connection::over(self.connect().await?).await?),
            Connections::Http2(open) => Connection::Http2(open.connect(&self, self.settings.idle_timeout).await?),
        };
        exchange(self, connection, request).await
    }
}
