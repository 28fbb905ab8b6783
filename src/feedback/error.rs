use super::Fault;
use crate::{
    backend::{BackendId, Outcome},
    error::BoxError,
};
use std::{error::Error, fmt};

/// A request that a backend was picked for and that got no answer.
#[derive(Debug)]
pub struct ProxyError {
    backend: BackendId,
    fault: Fault,
    source: BoxError,
}

impl ProxyError {
    pub(super) fn new(backend: BackendId, fault: Fault, source: BoxError) -> Self {
        Self { backend, fault, source }
    }

    /// The backend that was picked.
    pub fn backend(&self) -> &BackendId {
        &self.backend
    }

    /// How the request failed.
    pub fn kind(&self) -> Outcome {
        self.fault.kind
    }

    /// Whether the backend may have seen anything of the request.
    pub fn sent(&self) -> bool {
        self.fault.sent
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.fault.kind {
            Outcome::ConnectFault => "cannot connect to",
            Outcome::Timeout => "no answer in time from",
            Outcome::Cancelled if !self.fault.sent => "no means to reach",
            Outcome::Cancelled => "the request broke on its way to",
            Outcome::Reset => "the connection broke to",
            _ => "no answer from",
        };
        write!(f, "{what} backend {}", self.backend)
    }
}

impl Error for ProxyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
