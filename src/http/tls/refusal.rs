use crate::error::causes;
use std::error::Error;
use tokio_rustls::rustls::{self, AlertDescription as Alert};

/// What a server says that does not want our certificate, or wants one.
const REFUSALS: [Alert; 9] = [
    Alert::CertificateRequired,
    Alert::BadCertificate,
    Alert::UnsupportedCertificate,
    Alert::CertificateRevoked,
    Alert::CertificateExpired,
    Alert::CertificateUnknown,
    Alert::UnknownCA,
    Alert::AccessDenied,
    // The signature is not good.
    Alert::DecryptError,
];

/// Whether a connection broke since the server refused who we are. With TLS 1.3 it says so after what is the end of the
/// handshake to us: it has done nothing of what was sent meanwhile.
pub(in crate::http) fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| match cause.downcast_ref() {
        Some(rustls::Error::AlertReceived(alert)) => REFUSALS.contains(alert),
        Some(_) => false,
        // HTTP/2 keeps the words alone.
        None => {
            let words = cause.to_string();
            REFUSALS.iter().any(|alert| words == rustls::Error::AlertReceived(*alert).to_string())
        }
    })
}

/// Whether the server speaks none of the protocols that it was offered.
pub(in crate::http) fn is_about_protocol(error: &(dyn Error + 'static)) -> bool {
    let alert = |cause: &(dyn Error + 'static)| {
        matches!(cause.downcast_ref(), Some(rustls::Error::AlertReceived(Alert::NoApplicationProtocol)))
    };
    causes(error).any(alert)
}
