//! A client's connection: HTTP/1.1 and HTTP/2 on one port, strictly read, within limits.

use super::limits::Limits;
use http::{Request, Response, uri::Scheme};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
    service::TowerToHyperService,
};
use std::{convert::Infallible, error::Error, net::SocketAddr};
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};
use tower_balancer::http::{Peer, Strict};

/// How connections are served.
#[derive(Clone)]
pub struct Connections {
    server: auto::Builder<TokioExecutor>,
}

impl Connections {
    pub fn new(limits: &Limits) -> Self {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_headers(limits.headers)
            .max_buf_size(limits.head_bytes as usize)
            // Who has nothing more to say may still listen.
            .half_close(true);
        server
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(limits.head_bytes)
            .max_concurrent_streams(limits.streams)
            .max_pending_accept_reset_streams(limits.pending_resets)
            .max_local_error_reset_streams(limits.provoked_resets)
            .keep_alive_interval(limits.ping_after)
            .keep_alive_timeout(limits.ping_time)
            // WebSocket begins so (RFC 8441).
            .enable_connect_protocol();
        Self { server }
    }

    /// Serves what comes on `stream` with `service`, until either side closes it.
    pub fn serve<S, B>(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        service: S,
    ) -> impl GracefulConnection<Error = Box<dyn Error + Send + Sync>> + Send + use<S, B>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        // Small answers go out at once.
        _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(service.map_request(with_peer(address)));
        self.server.serve_connection_with_upgrades(TokioIo::new(Strict::new(stream)), service).into_owned()
    }
}

/// Tells the proxy who the client is.
fn with_peer(address: SocketAddr) -> impl Fn(Request<Incoming>) -> Request<Incoming> + Clone {
    let peer = Peer::new(address, &Scheme::HTTP);
    move |mut request| {
        request.extensions_mut().insert(peer.clone());
        request
    }
}
