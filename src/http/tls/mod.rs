//! TLS towards the backends: see [`TlsConfig`].

mod connector;
mod invalid;
mod refusal;
mod roots;

pub use self::invalid::InvalidTls;
pub(super) use self::{
    connector::{Connector, speaks_http2},
    refusal::{is_about_protocol, is_refusal},
};
use std::{fmt, sync::Arc};
use tokio_rustls::rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};

/// Who is trusted behind `https://`, and who we are there.
///
/// A backend has to show a certificate, of an authority that is trusted, for the name or the IP address in its URL. There is no
/// way to do without. TLS is 1.3 or 1.2, with the suites of rustls alone, all of which keep their secrets when a key is lost.
/// Sessions are resumed, for each backend its own; nothing is sent before the handshake is over (no 0-RTT).
///
/// ```
/// use tower_balancer::{BackendPool, ReverseProxy, http::{ClientConfig, HttpProbe, TlsConfig}};
///
/// # fn run(ca: &[u8], chain: &[u8], key: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
/// // The PEM files of an authority of one's own, and of what the backends want to see of us.
/// let tls = TlsConfig::new().ca(ca)?.identity(chain, key)?.server_name("backends.internal")?;
/// let probe = HttpProbe::new().tls(tls.clone());
///
/// let pool = BackendPool::new(["https://10.0.0.1:8443", "https://10.0.0.2:8443"])?;
/// let proxy = ReverseProxy::builder(&pool).client(ClientConfig::new().auto().tls(tls));
/// # _ = (probe, proxy.build::<String>());
/// # Ok(())
/// # }
/// ```
///
/// # Limits
///
/// Certificates that were revoked are not known. With TLS 1.3 a backend looks at our certificate when we already take the
/// connection for open: what it says then is taken for a failure to connect, unless the connection breaks before it is heard.
#[derive(Clone, Default)]
pub struct TlsConfig {
    /// The system's, where there are none.
    roots: Option<Arc<RootCertStore>>,
    identity: Option<Arc<CertifiedKey>>,
    server_name: Option<ServerName<'static>>,
}

impl TlsConfig {
    /// Trusts whom the system trusts, and shows no certificate. The system's roots are read from its files at the first
    /// connection, once in a process; where they are may be said by `SSL_CERT_FILE` and `SSL_CERT_DIR`, as everywhere.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these authorities and no others: one or more certificates in PEM.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] where there is none, or one is no certificate.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Result<Self, InvalidTls> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem.as_ref(), "CA")? {
            roots.add(certificate).map_err(|error| InvalidTls::new("CA", error))?;
        }
        self.roots = Some(Arc::new(roots));
        Ok(self)
    }

    /// Reads the system's roots now, where there are no others: else it is the first connection that fails if there are none.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] where the system has none.
    pub fn load_roots(mut self) -> Result<Self, InvalidTls> {
        self.roots = Some(self.roots()?);
        Ok(self)
    }

    /// Shows this certificate where a backend asks for one: the chain, our own certificate first, and its key, both in PEM.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] where one of them is not there, or the key is not the certificate's.
    pub fn identity(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, InvalidTls> {
        let chain = certificates(chain.as_ref(), "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref()).map_err(|error| InvalidTls::pem("key", error))?;
        let identity = CertifiedKey::from_der(chain, key, &ring::default_provider());
        self.identity = Some(Arc::new(identity.map_err(|error| InvalidTls::new("key", error))?));
        Ok(self)
    }

    /// Expects this name or IP address of every backend, instead of the one in its URL. A name is also what it is asked for
    /// (SNI).
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] where it is neither.
    pub fn server_name(mut self, name: &str) -> Result<Self, InvalidTls> {
        self.server_name = Some(server_name(name)?);
        Ok(self)
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, InvalidTls> {
        self.roots.clone().map_or_else(roots::of_system, Ok)
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| InvalidTls::pem(what, error))?;
    if certificates.is_empty() {
        return Err(InvalidTls::new(what, "expected certificates in PEM, found none"));
    }
    Ok(certificates)
}

fn server_name(name: &str) -> Result<ServerName<'static>, InvalidTls> {
    let invalid = |_| InvalidTls::new("server name", format_args!("{name:?} is neither a DNS name nor an IP address"));
    ServerName::try_from(name.to_owned()).map_err(invalid)
}

/// Without the key.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("roots", &self.roots.as_ref().map(|roots| roots.len()))
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

#[cfg(test)]
mod tests;
