//! The proxy's server: who comes in, and an orderly end.

use crate::connection::Connections;
use std::{
    io,
    net::{self, SocketAddr},
    pin::pin,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tower_balancer::{proxy::Builder, strategy::Strategy};
use tracing::{debug, warn};

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

/// Where connections come in, until it is closed.
pub struct Door {
    pub listener: net::TcpListener,
    pub connections: Connections,
    /// It closes when this turns true.
    pub stop: watch::Receiver<bool>,
    /// Dropped when it has closed.
    pub open: mpsc::Sender<()>,
}

/// What one worker does: it serves whoever comes until the door closes, and then lets what is in flight end, within `grace`.
/// Its connections to the backends are its own.
pub async fn until_closed<G: Strategy>(door: Door, proxy: Builder<G>, grace: Duration) -> io::Result<()> {
    let Door { listener, connections, mut stop, open } = door;
    let listener = TcpListener::from_std(listener)?;
    let service = proxy.build();
    let stop = async move { _ = stop.wait_for(|stopping| *stopping).await };
    let (close, closing) = watch::channel(false);
    // Held by each connection.
    let (served, mut all_served) = mpsc::channel::<()>(1);
    let serve = |stream: TcpStream, address: SocketAddr| {
        let Some(stream) = connections.admit(stream) else {
            debug!("no place for {address}");
            return;
        };
        let mut closing = closing.clone();
        let closing = async move { _ = closing.wait_for(|closing| *closing).await };
        let (connection, served) = (connections.serve(stream, address, service.clone(), closing), served.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("connection of {address}: {error}");
            }
            drop(served);
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
    // Who has connected has been promised an answer; who goes on connecting has not.
    let closed = Instant::now() + LINGER;
    while Instant::now() < closed
        && let Ok(Ok((stream, address))) = timeout(Duration::from_millis(10), listener.accept()).await
    {
        serve(stream, address);
    }
    drop((listener, open));
    tokio::time::sleep(LINGER).await;
    _ = close.send(true);
    drop(served);
    if timeout(grace, all_served.recv()).await.is_err() {
        warn!("Stopped with requests in flight after {grace:?}");
    }
    Ok(())
}
