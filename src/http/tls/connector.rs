use super::{InvalidTls, TlsConfig, server_name};
use crate::{
    error::BoxError,
    http::protocol::{H2, Protocol},
};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig,
        client::Resumption,
        crypto::ring,
        pki_types::ServerName,
        sign::SingleCertAndKey,
        version::{TLS12, TLS13},
    },
};

/// Sessions to be resumed: each serves once, and a server mostly gives two of them.
const SESSIONS: usize = 8;

/// How connections to one backend begin. Its sessions are its own: those of another with the same name would be of no use, and
/// push them out.
#[derive(Clone, Debug)]
pub(in crate::http) struct Connector {
    name: ServerName<'static>,
    config: ClientConfig,
}

impl TlsConfig {
    /// To a backend whose URL has this host.
    pub(in crate::http) fn connector(&self, host: &str) -> Result<Connector, InvalidTls> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host.trim_start_matches('[').trim_end_matches(']'))?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_protocol_versions(&[&TLS13, &TLS12]);
        let config = config.map_err(|error| InvalidTls::new("versions", error))?;
        let config = config.with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity)))),
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Connector { name, config })
    }
}

impl Connector {
    /// The encrypted stream on `stream`, for one of the protocols that `offered` stands for. Only where both were offered
    /// may it be either.
    pub(in crate::http) async fn connect(
        &self,
        stream: TcpStream,
        offered: Protocol,
    ) -> Result<TlsStream<TcpStream>, BoxError> {
        let mut config = self.config.clone();
        config.alpn_protocols = offered.names();
        let stream = TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream).await?;
        if offered == Protocol::Http2 && !speaks_http2(&stream) {
            return Err("the backend does not speak HTTP/2 over TLS".into());
        }
        Ok(stream)
    }
}

/// What the server has chosen.
pub(in crate::http) fn speaks_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(H2)
}
