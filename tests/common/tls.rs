//! Authorities, and backends that speak TLS and tell what they have seen of it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use crate::common::Server;
use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};
use tower::{BoxError, Service};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        // Two of the same name would be mistaken for each other.
        static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new([]).unwrap();
        let name = format!("authority {}", AUTHORITIES.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn signs(&self, name: &str) -> Identity {
        self.signs_with(name, |_| ())
    }

    pub fn signs_with(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }
}

/// How a backend speaks TLS.
pub struct Speaks<'a> {
    pub identity: Identity,
    /// By ALPN; nothing of it where there are none.
    pub protocols: &'a [&'a str],
    pub versions: &'a [&'static SupportedProtocolVersion],
    /// Clients show a certificate of this one.
    pub clients_of: Option<&'a Authority>,
}

pub const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

impl<'a> Speaks<'a> {
    pub fn as_(identity: Identity) -> Self {
        Self { identity, protocols: &["h2", "http/1.1"], versions: BOTH, clients_of: None }
    }

    pub fn config(&self) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_protocol_versions(self.versions).unwrap();
        let config = match self.clients_of {
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => config.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_slice_iter(self.identity.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes()).unwrap();
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }
}

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Handshake {
    pub protocol: Option<String>,
    pub asked_for: Option<String>,
    pub version: ProtocolVersion,
    pub resumed: bool,
    pub identified: bool,
}

/// A server over TLS.
pub struct Backend {
    pub server: Server,
    handshakes: Arc<Mutex<Vec<Handshake>>>,
}

impl Backend {
    pub async fn serving<S, B>(speaks: &Speaks<'_>, service: S) -> Self
    where
        S: Service<Request<hyper::body::Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::new(speaks.config()));
        let handshakes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&handshakes);
        let server = Server::raw(move |stream| {
            let (accepting, service) = (acceptor.accept(stream).into_fallible(), service.clone());
            let seen = Arc::clone(&seen);
            async move {
                let stream = match accepting.await {
                    Ok(stream) => stream,
                    // Who closes on what was sent takes back what was said.
                    Err((_, mut stream)) => {
                        _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                        return;
                    }
                };
                let session = stream.get_ref().1;
                seen.lock().unwrap().push(Handshake {
                    protocol: session.alpn_protocol().map(|protocol| String::from_utf8(protocol.to_vec()).unwrap()),
                    asked_for: session.server_name().map(str::to_owned),
                    version: session.protocol_version().unwrap(),
                    resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                    identified: session.peer_certificates().is_some(),
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let service = TowerToHyperService::new(service);
                _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Self { server, handshakes }
    }

    pub fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// By this name.
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port())
    }

    /// What there was since this was last asked.
    pub fn handshakes(&self) -> Vec<Handshake> {
        std::mem::take(&mut self.handshakes.lock().unwrap())
    }
}
