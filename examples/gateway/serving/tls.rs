//! TLS towards clients: 1.2 and 1.3, with a certificate that can be read anew.

use arc_swap::ArcSwap;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};

/// What clients are offered over TLS, in the order in which it is liked.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How connections over TLS begin. Clones have their certificate together.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

impl Tls {
    /// With the certificate chain and the key in these PEM files. rustls has no suites but those with forward secrecy and
    /// authenticated encryption, of which these are all.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, InvalidCertificate> {
        let provider = Arc::new(ring::default_provider());
        let current = ArcSwap::from_pointee(read(chain, key, &provider)?);
        let certificate = Arc::new(Certificate { chain: chain.into(), key: key.into(), provider, current });
        let config = ServerConfig::builder_with_provider(Arc::clone(&certificate.provider));
        // Both are versions of which the provider has suites.
        let config = config.with_protocol_versions(&[&TLS13, &TLS12]).map_err(|error| certificate.invalid(error))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&certificate) as Arc<_>);
        config.alpn_protocols = PROTOCOLS.map(Vec::from).into();
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    /// Reads the files again. Connections that begin from now on get what is in them; where that is not right, what was.
    pub fn reload(&self) -> Result<(), InvalidCertificate> {
        let Certificate { chain, key, provider, current } = &*self.certificate;
        current.store(Arc::new(read(chain, key, provider)?));
        Ok(())
    }

    /// The encrypted stream on this one.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    fn invalid(&self, problem: impl fmt::Display) -> InvalidCertificate {
        InvalidCertificate(format!("{}: {problem}", self.chain.display()))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

fn read(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, InvalidCertificate> {
    let invalid =
        |path: &Path, problem: &dyn fmt::Display| InvalidCertificate(format!("{}: {problem}", path.display()));
    let certificates = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| invalid(chain, &error))?;
    if certificates.is_empty() {
        return Err(invalid(chain, &"expected a certificate chain in PEM, found none"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| invalid(key, &error))?;
    // A key that is not the certificate's is an error here, and not the first client's.
    CertifiedKey::from_der(certificates, private, provider).map_err(|error: rustls::Error| invalid(key, &error))
}

/// Files in which there is no certificate with its key. It names the file and the problem.
#[derive(Debug)]
pub struct InvalidCertificate(String);

impl fmt::Display for InvalidCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidCertificate {}
