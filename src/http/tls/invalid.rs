use std::{error::Error, fmt};
use tokio_rustls::rustls::pki_types::pem;

/// The error for certificates, keys and names that are none: it says which, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTls {
    what: &'static str,
    problem: String,
}

impl InvalidTls {
    pub(super) fn new(what: &'static str, problem: impl fmt::Display) -> Self {
        Self { what, problem: problem.to_string() }
    }

    /// Whether it is a private key, or one that is not the certificate's.
    pub fn is_about_key(&self) -> bool {
        self.what == "key"
    }

    pub(super) fn pem(what: &'static str, error: pem::Error) -> Self {
        match error {
            pem::Error::NoItemsFound => Self::new(what, "expected one in PEM, found none"),
            error => Self::new(what, error),
        }
    }
}

impl fmt::Display for InvalidTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.what, self.problem)
    }
}

impl Error for InvalidTls {}
