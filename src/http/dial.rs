#[cfg(feature = "tls")]
use super::TlsConfig;
use super::{protocol::Protocol, stream::Stream};
use crate::{backend::Origin, error::BoxError};
use http::uri::Scheme;
use tokio::net::TcpStream;

/// How a probe gets to a backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Dial {
    /// Another than the one that serves.
    pub(super) port: Option<u16>,
    #[cfg(feature = "tls")]
    pub(super) tls: TlsConfig,
}

impl Dial {
    /// A connection of its own, with TLS where requests go over TLS. No session is resumed: a certificate that is not good any
    /// more is found out.
    pub(super) async fn connect(&self, target: &Origin, protocol: Protocol) -> Result<Stream, BoxError> {
        let encrypted = *target.scheme() == Scheme::HTTPS;
        if encrypted && cfg!(not(feature = "tls")) {
            return Err("the probe does not speak TLS".into());
        }
        let stream = TcpStream::connect((target.host(), self.port.unwrap_or(target.port()))).await?;
        #[cfg(feature = "tls")]
        if encrypted {
            let stream = self.tls.connector(target.host())?.connect(stream, protocol).await?;
            return Ok(Stream::Tls(Box::new(stream)));
        }
        _ = protocol;
        Ok(Stream::Plain(stream))
    }
}
