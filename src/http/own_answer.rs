use super::{
    Refused,
    deadline::{DeadlineExceeded, ShareExceeded},
    excused::Excused,
};
use crate::{
    backend::Outcome,
    error::{Reason, Unavailable, find},
    feedback::ProxyError,
};
use http::StatusCode;
use std::error::Error;
use tower::load_shed::error::Overloaded;

/// Why a client was answered by the proxy and not by a backend: an extension of the responses that
/// [`Respond`](super::Respond) makes, for metrics and logs. The client does not see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum OwnAnswer {
    /// No backend is well.
    Unavailable,
    /// There were too many requests at once, for the backends or for the proxy.
    Overloaded,
    /// The request must not be forwarded.
    Refused,
    /// The time of the request was over.
    Deadline,
    /// A backend did not answer in time.
    Timeout,
    /// A backend could not be reached.
    Unreachable,
    /// A connection broke before there was an answer, or what came was none.
    Broken,
    /// The client's own body broke.
    ClientBroke,
    /// Something failed that has no word here.
    Internal,
}

impl OwnAnswer {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Unavailable,
        Self::Overloaded,
        Self::Refused,
        Self::Deadline,
        Self::Timeout,
        Self::Unreachable,
        Self::Broken,
        Self::ClientBroke,
        Self::Internal,
    ];

    /// The reason as one word in lower case, for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::Deadline => "deadline",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::ClientBroke => "client_broke",
            Self::Internal => "internal",
        }
    }

    /// What to answer where a request came to `error`, and in which words.
    pub(super) fn to(error: &(dyn Error + 'static)) -> (Self, StatusCode, &'static str) {
        let overloaded = (Self::Overloaded, StatusCode::SERVICE_UNAVAILABLE, "Too many requests in flight");
        if let Some(unavailable) = find::<Unavailable>(error) {
            return match unavailable.reason() {
                Reason::NoBackends | Reason::AllUnhealthy => {
                    (Self::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "No healthy backends available")
                }
                // They are well, and have enough to do.
                Reason::AllAtLimit | Reason::QueueFull | Reason::QueueTimeout => overloaded,
            };
        }
        if find::<Overloaded>(error).is_some() {
            return overloaded;
        }
        if let Some(refused) = find::<Refused>(error) {
            return (Self::Refused, refused.status(), refused.status().canonical_reason().unwrap_or_default());
        }
        let (bad, late) = (StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT);
        if find::<DeadlineExceeded>(error).is_some() || find::<ShareExceeded>(error).is_some() {
            return (Self::Deadline, late, "Gateway timeout");
        }
        match find::<ProxyError>(error).map(|error| (error.kind(), error.sent())) {
            Some((Outcome::Timeout, _)) => (Self::Timeout, late, "Gateway timeout"),
            Some((Outcome::Cancelled, true)) if find::<Excused>(error).is_some_and(Excused::is_callers_delay) => {
                (Self::ClientBroke, StatusCode::REQUEST_TIMEOUT, "Request timeout")
            }
            Some((Outcome::Cancelled, true)) => (Self::ClientBroke, StatusCode::BAD_REQUEST, "Bad request"),
            Some((Outcome::ConnectFault, _)) => (Self::Unreachable, bad, "Bad gateway"),
            Some(_) => (Self::Broken, bad, "Bad gateway"),
            None => Self::BROKEN,
        }
    }

    /// The answer to what nobody has foreseen.
    pub(super) const BROKEN: (Self, StatusCode, &'static str) =
        (Self::Internal, StatusCode::INTERNAL_SERVER_ERROR, "Internal server error");
}
