#[cfg(feature = "tls")]
use super::{TlsConfig, tls::speaks_http2};
use super::{protocol::Protocol, stream::Stream};
use crate::{backend::Origin, error::BoxError};
use http::uri::{Authority, Scheme};
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
    /// Whom it gets to, as `Host` and `:authority` have it.
    pub(super) fn authority(&self, target: &Origin) -> Result<Authority, BoxError> {
        match self.port {
            Some(port) => Ok(format!("{}:{port}", target.authority().host()).parse()?),
            None => Ok(target.authority().clone()),
        }
    }

    /// A connection of its own, with TLS where requests go over TLS, and whether HTTP/2 is spoken on it. No session is resumed: a
    /// certificate that is not good any more is found out.
    pub(super) async fn connect(&self, target: &Origin, offered: Protocol) -> Result<(Stream, bool), BoxError> {
        let encrypted = *target.scheme() == Scheme::HTTPS;
        if encrypted && cfg!(not(feature = "tls")) {
            return Err("the probe does not speak TLS".into());
        }
        let stream = TcpStream::connect((target.host(), self.port.unwrap_or(target.port()))).await?;
        #[cfg(feature = "tls")]
        if encrypted {
            let stream = self.tls.connector(target.host())?.connect(stream, offered).await?;
            let is_http2 = speaks_http2(&stream);
            return Ok((Stream::Tls(Box::new(stream)), is_http2));
        }
        Ok((Stream::Plain(stream), offered == Protocol::Http2))
    }
}
