//! One worker: HTTP/1.1 and HTTP/2 on one port, and an orderly end.

use super::{activity::Patience, connection::Serving, plan::Plan, router::Router};
use crate::config::server::Limits;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
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
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, timeout},
};
use tracing::warn;

/// A connection that was just opened has so long to say what it wants before a stop closes it.
const LINGER: Duration = Duration::from_millis(100);

/// Where connections come in, until it is closed.
pub struct Door {
    pub listeners: Vec<net::TcpListener>,
    /// How many connections there may be, over all workers.
    pub connections: Option<Arc<Semaphore>>,
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
    let plan = Arc::clone(&plans.borrow());
    let router = Router::new(Arc::clone(&plan));
    tokio::spawn(router.clone().follow(plans));
    let (close, closing) = watch::channel(false);
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let limits = &plan.config.server.limits;
    let patience = Patience { head: *limits.header_read_timeout, idle: *limits.idle_timeout };
    let serving =
        Serving { server: server(limits), router: router.clone(), patience, stop: stop.clone(), close: closing };
    let serve = |stream: TcpStream, address: SocketAddr, permit: Option<OwnedSemaphorePermit>| {
        let (serving, alive) = (serving.clone(), alive.clone());
        tokio::spawn(async move {
            serving.serve(stream, address).await;
            drop((permit, alive));
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
            accepted = accept(&listeners, connections.as_ref()) => accepted,
        };
        match accepted {
            Ok((stream, address, permit)) => serve(stream, address, permit),
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
        && let Ok(Ok((stream, address, permit))) = timeout(Duration::from_millis(10), accept(&listeners, None)).await
    {
        serve(stream, address, permit);
    }
    // Whoever is in the queue of a socket when it closes is lost. So nothing comes between the last look and the end.
    for listener in listeners {
        let listener = listener.into_std()?;
        while let Ok((stream, address)) = listener.accept() {
            stream.set_nonblocking(true)?;
            serve(TcpStream::from_std(stream)?, address, None);
        }
    }
    drop(open);
    tokio::time::sleep(LINGER).await;
    close.send_replace(true);
    drop(alive);
    let grace = router.shutdown_grace();
    if timeout(grace, all_gone.recv()).await.is_err() {
        warn!("Stopped with requests in flight after {grace:?}");
    }
    Ok(())
}

fn server(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    let head = limits.max_header_bytes.0;
    // The time for a head is watched by the connection, which tells it from the time between requests.
    server.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(head as usize);
    server.http2().timer(TokioTimer::new()).max_header_list_size(head).max_concurrent_streams(limits.max_streams.get());
    server
}

type Accepted = (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>);

/// The next connection, once there may be one more.
async fn accept(listeners: &[TcpListener], connections: Option<&Arc<Semaphore>>) -> io::Result<Accepted> {
    let permit = match connections {
        // Nobody closes it.
        Some(connections) => Arc::clone(connections).acquire_owned().await.ok(),
        None => None,
    };
    let (stream, address) = poll_fn(|cx| {
        let mut ready = listeners.iter().map(|listener| listener.poll_accept(cx)).filter(Poll::is_ready);
        ready.next().unwrap_or(Poll::Pending)
    })
    .await?;
    Ok((stream, address, permit))
}
