//! Three backends to try it on: each says hello and its port.

use crate::config::pool::Pool;
use axum::Router;
use std::io;
use tokio::net::TcpListener;

/// A listener for each backend of the pool, on loopback.
pub async fn bind(pool: &Pool) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for origin in pool.backends.iter().map(|backend| &*backend.url) {
        let listener = TcpListener::bind(("127.0.0.1", origin.port())).await;
        let named = |error| io::Error::other(format!("the demo's backend {origin}: {error}"));
        listeners.push(listener.map_err(named)?);
    }
    Ok(listeners)
}

/// Answers every request with a greeting.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    axum::serve(listener, Router::new().fallback(move || async move { format!("Hello from Backend {port}\n") })).await
}
