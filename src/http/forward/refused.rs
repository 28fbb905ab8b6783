use http::StatusCode;
use std::{error::Error, fmt};

/// A request that is not forwarded, whatever the backends: none was picked for it. With 502, an answer that is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    status: StatusCode,
    reason: &'static str,
}

impl Refused {
    pub(super) const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// With 400: no server should make anything of it.
    pub(super) const fn malformed(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// The status that says so to the client.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.status == StatusCode::BAD_GATEWAY { "answer" } else { "request" };
        write!(f, "{what} refused: {}", self.reason)
    }
}

impl Error for Refused {}
