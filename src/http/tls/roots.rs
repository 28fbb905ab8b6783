use super::InvalidTls;
use std::sync::{Arc, OnceLock};
use tokio_rustls::rustls::RootCertStore;

/// Whom the system trusts, read when it is first asked for. It takes some ten milliseconds.
pub(super) fn of_system() -> Result<Arc<RootCertStore>, InvalidTls> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores have odd ones in them, on which nobody depends.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let problem = found.errors.first().map_or_else(|| "it has none".to_owned(), ToString::to_string);
        return Err(InvalidTls::new("root certificates of the system", problem));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}
