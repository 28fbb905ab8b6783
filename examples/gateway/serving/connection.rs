//! One connection of a client: who is at its other end, and how it ends.

use super::{
    activity::{Activity, Expired, Patience, Watched},
    body::Body,
    router::Router,
};
use http::{HeaderValue, Request, Response, Version, header, uri::Scheme};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tower_balancer::http::Peer;
use tracing::debug;

/// How a worker serves its connections.
#[derive(Clone)]
pub struct Serving {
    pub server: auto::Builder<TokioExecutor>,
    pub router: Router,
    pub patience: Patience,
    /// It has turned true: each answer is the last of its connection.
    pub stop: watch::Receiver<bool>,
    /// It turns true: connections end, with what is in flight.
    pub close: watch::Receiver<bool>,
}

/// A client that is told to go has so long to do so.
const LEAVE: Duration = Duration::from_secs(5);

impl Serving {
    /// Serves a connection to its end.
    pub async fn serve(mut self, stream: TcpStream, address: SocketAddr) {
        // Small answers go out at once.
        _ = stream.set_nodelay(true);
        let activity = Arc::new(Activity::new());
        let stream = Watched::new(stream, &activity);
        let peer = Peer::new(address, &Scheme::HTTP);
        let visit = Visit { router: self.router, peer, stop: self.stop, activity: Arc::clone(&activity) };
        let visit = Arc::new(visit);
        let service = service_fn(move |request| Arc::clone(&visit).answer(request));
        let mut connection = pin!(self.server.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let expired = activity.expired(self.patience);
        let close = async move { _ = self.close.wait_for(|close| *close).await };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            expired = expired => match expired {
                // Who sends a head for so long is told nothing.
                Expired::Head => return debug!("connection of {address}: no head in time"),
                Expired::Idle => {
                    connection.as_mut().graceful_shutdown();
                    loop {
                        match timeout(LEAVE, connection.as_mut()).await {
                            Ok(ended) => break ended,
                            // A request came just before it was told.
                            Err(_) if activity.is_busy() => {}
                            Err(_) => break Ok(()),
                        }
                    }
                }
            },
            () = close => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!("connection of {address}: {error}");
        }
    }
}

/// What is the same for all requests of a connection.
struct Visit {
    router: Router,
    peer: Peer,
    stop: watch::Receiver<bool>,
    activity: Arc<Activity>,
}

impl Visit {
    async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let version = request.version();
        let busy = self.activity.begin(version);
        let client = self.router.client_behind(&self.peer, request.headers());
        request.extensions_mut().insert(client.unwrap_or_else(|| self.peer.clone()));
        let mut response = self.router.answer(request).await.map(|body| body.busy(busy));
        // A client that is told does not send its next request into a connection that is being closed.
        if version < Version::HTTP_2 && self.stop.has_changed().unwrap_or(true) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}
