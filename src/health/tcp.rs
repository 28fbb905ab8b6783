use super::Probe;
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::error::BoxError;
use std::net::SocketAddr;
use tokio::net::{TcpStream, ToSocketAddrs};

/// A backend is healthy if it accepts a TCP connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpProbe;

impl Probe<SocketAddr> for TcpProbe {
    async fn check(&self, target: SocketAddr) -> Result<String, BoxError> {
        connect(target).await
    }
}

#[cfg(feature = "http")]
impl Probe<Origin> for TcpProbe {
    async fn check(&self, target: Origin) -> Result<String, BoxError> {
        connect((target.host(), target.port())).await
    }
}

async fn connect(address: impl ToSocketAddrs) -> Result<String, BoxError> {
    TcpStream::connect(address).await?;
    Ok("connected".to_owned())
}
