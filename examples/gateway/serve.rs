//! The proxy's server: HTTP/1.1 and HTTP/2 on one port, and an orderly end.

use http::{Request, uri::Scheme};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use std::{convert::Infallible, io, net::SocketAddr, pin::pin, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceExt};
use tower_balancer::http::Peer;
use tracing::{debug, info, warn};

/// The most that the head of a request may take: twice what common servers allow, so that they are the ones to say 431.
const MAX_HEAD: usize = 64 * 1024;

/// A connection that was just opened has so long to say what it wants before a stop closes it.
const LINGER: Duration = Duration::from_millis(100);

/// A listener, or an error that names the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| {
        let text = error.to_string();
        let words = text.split(" (os error").next().unwrap_or(&text);
        io::Error::new(error.kind(), format!("cannot listen on {address}: {words}"))
    };
    TcpListener::bind(address).await.map_err(named)
}

/// Serves until `stop` completes; then accepts no more and lets what is in flight end, within `grace`.
pub async fn until<S, B>(stop: impl Future<Output = ()>, listener: TcpListener, service: S, grace: Duration)
where
    S: Service<Request<Incoming>, Response = http::Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).max_buf_size(MAX_HEAD);
    server.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32);
    let serve = |stream: TcpStream, address: SocketAddr| {
        // Small answers go out at once.
        _ = stream.set_nodelay(true);
        let service = service.clone().map_request(with_peer(address));
        let service = hyper_util::service::TowerToHyperService::new(service);
        let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("connection of {address}: {error}");
            }
        });
    };
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => serve(stream, address),
            Err(error) => {
                // Out of file descriptors, mostly: connections that end free some.
                warn!("cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Who has connected has been promised an answer.
    while let Ok(Ok((stream, address))) = tokio::time::timeout(Duration::from_millis(10), listener.accept()).await {
        serve(stream, address);
    }
    drop(listener);
    info!("Stopping: waiting up to {grace:?} for {} open connections; a second signal stops at once", graceful.count());
    tokio::time::sleep(LINGER).await;
    match tokio::time::timeout(grace, graceful.shutdown()).await {
        Ok(()) => info!("Stopped"),
        Err(_) => warn!("Stopped with requests in flight after {grace:?}"),
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
