//! One worker: HTTP/1.1 and HTTP/2 on one port, and an orderly end.

use super::{
    connection::{Connections, LINGER},
    farewell::Farewell,
    plan::Plan,
    router::Router,
    turns::{self, Turns},
};
use std::{
    future::poll_fn,
    io,
    net::{self, SocketAddr},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

/// How often somebody looks whether the tunnels are closed.
const LOOK: Duration = Duration::from_millis(10);

/// Where connections come in, until it is closed.
pub struct Door {
    pub listeners: Vec<net::TcpListener>,
    /// How they are served.
    pub connections: Arc<Connections>,
    /// It closes when this turns true.
    pub stop: watch::Receiver<bool>,
    /// Dropped when it has closed.
    pub open: mpsc::Sender<()>,
}

/// What one worker does: it serves whoever comes until the door closes, and then lets what is in flight end, within the
/// grace of the plan. Its connections to the backends are its own.
pub async fn until_closed(door: Door, plans: watch::Receiver<Arc<Plan>>) -> io::Result<()> {
    let Door { listeners, connections, stop, open } = door;
    let listeners: Vec<_> = listeners.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?;
    let router = Router::new(Arc::clone(&plans.borrow()));
    tokio::spawn(router.clone().follow(plans));
    let (turns, taken) = Turns::new();
    tokio::spawn(taken);
    let (close, closing) = watch::channel(false);
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let service = Farewell::new(router.clone(), stop.clone());
    let serve = |stream: TcpStream, address: SocketAddr| {
        let Some(client) = connections.admit(stream, &turns) else { return debug!("no place for {address}") };
        let mut closing = closing.clone();
        let closing = async move { _ = closing.wait_for(|closing| *closing).await };
        let (connection, alive) = (connections.serve(client, address, service.clone(), closing), alive.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("connection of {address}: {error}");
            }
            drop(alive);
        });
    };

    let stop = async {
        let mut stop = stop.clone();
        _ = stop.wait_for(|stopping| *stopping).await;
    };
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listeners) => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                serve(stream, address);
                turns::accepted().await;
            }
            Err(error) => {
                // Out of file descriptors, mostly: connections that end free some.
                warn!("cannot accept: {error}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Who has connected has been promised an answer; who goes on connecting has not.
    let closed = Instant::now() + LINGER;
    while Instant::now() < closed
        && let Ok(Ok((stream, address))) = timeout(Duration::from_millis(10), accept(&listeners)).await
    {
        serve(stream, address);
        turns::accepted().await;
    }
    // Whoever is in the queue of a socket when it closes is lost. So nothing comes between the last look and the end.
    for listener in listeners {
        let listener = listener.into_std()?;
        while let Ok((stream, address)) = listener.accept() {
            stream.set_nonblocking(true)?;
            serve(TcpStream::from_std(stream)?, address);
        }
    }
    drop(open);
    sleep(LINGER).await;
    close.send_replace(true);
    drop(alive);
    let grace = router.shutdown_grace();
    let gone = async {
        all_gone.recv().await;
        // A tunnel is no task of ours any more, and has its place until it is closed.
        while connections.open() > 0 {
            sleep(LOOK).await;
        }
    };
    if timeout(grace, gone).await.is_err() {
        warn!("Stopped with requests in flight after {grace:?}");
    }
    Ok(())
}

/// The next connection by whichever of them.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut ready = listeners.iter().map(|listener| listener.poll_accept(cx)).filter(Poll::is_ready);
        ready.next().unwrap_or(Poll::Pending)
    })
    .await
}
