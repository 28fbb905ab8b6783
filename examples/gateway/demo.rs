//! Three backends to try it on: each says hello and its port.

use crate::serve;
use axum::Router;
use std::io;
use tokio::net::TcpListener;
use tower_balancer::{BackendPool, backend::Origin};

/// A listener for each backend of the pool, on loopback.
pub async fn bind(pool: &BackendPool<Origin>) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for (_, origin) in pool.members().iter() {
        let listener = serve::bind(([127, 0, 0, 1], origin.port()).into()).await;
        listeners.push(listener.map_err(|error| io::Error::other(format!("the demo's backend: {error}")))?);
    }
    Ok(listeners)
}

/// Answers every request with a greeting.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    axum::serve(listener, Router::new().fallback(move || async move { format!("Hello from Backend {port}\n") })).await
}
