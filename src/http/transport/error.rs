use crate::error::BoxError;
use std::{error::Error, fmt, sync::Arc};

/// A request without an answer.
#[derive(Debug)]
pub(in crate::http) enum Failed {
    /// Nothing was sent.
    Unreachable(ConnectError),
    /// The connection or the stream broke. It had brought an answer before, where it was `reused`.
    Broken { error: hyper::Error, reused: bool },
}

impl Failed {
    /// By what broke.
    pub(super) fn on_connection(error: hyper::Error, reused: bool) -> Self {
        #[cfg(feature = "tls")]
        if !reused && crate::http::tls::is_refusal(&error) {
            return ConnectError::new(error).into();
        }
        Self::Broken { error, reused }
    }
}

/// There is no connection to the backend. Those that waited for the same connection share the error.
#[derive(Clone, Debug)]
pub(in crate::http) struct ConnectError {
    source: Arc<dyn Error + Send + Sync>,
}

impl ConnectError {
    pub(super) fn new(source: impl Into<BoxError>) -> Self {
        Self { source: source.into().into() }
    }

    /// Whether it is for what was offered to be spoken that the backend refused.
    pub(super) fn wants_other_protocol(&self) -> bool {
        #[cfg(feature = "tls")]
        return crate::http::tls::is_about_protocol(&*self.source);
        #[cfg(not(feature = "tls"))]
        false
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable(error)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection to the backend")
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
