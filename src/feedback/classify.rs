use crate::{
    backend::Outcome,
    error::{causes, is_local},
};
use std::{error::Error, io, time::Duration};

/// What an answer or an error says about the backend.
pub trait Classify<Res> {
    /// What `response`, as far as it is there, says; `None` where only its end will tell, as in gRPC, which then is
    /// [asked](crate::http::ClassifyEnd). It may still break while its body is on the way.
    fn response(&self, response: &Res) -> Option<Outcome>;

    /// How long the backend asks to be left alone, where `response` says so: up to 5 minutes, in which others get its requests
    /// as long as there are some, or until it answers well.
    fn rest(&self, response: &Res) -> Option<Duration> {
        let _ = response;
        None
    }

    /// What `error` says.
    fn error(&self, error: &(dyn Error + 'static)) -> Fault;
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it says about the backend.
    pub kind: Outcome,
    /// Whether the backend may have seen anything of the request. Where not, it is safe to send it to another.
    pub sent: bool,
}

impl Fault {
    /// The backend could not be reached.
    pub const CONNECT: Self = Self { kind: Outcome::ConnectFault, sent: false };
    /// The connection broke with the request on it.
    pub const RESET: Self = Self { kind: Outcome::Reset, sent: true };
    /// Something broke of which nothing says that it was the transport.
    pub const UNKNOWN: Self = Self { kind: Outcome::BackendFault, sent: true };
    /// The answer was lost, and the backend may be as well as ever.
    pub const LOST: Self = Self { kind: Outcome::Lost, sent: true };
    /// Time was up.
    pub const TIMEOUT: Self = Self { kind: Outcome::Timeout, sent: true };
    /// This process or machine is short of something: nothing was sent, and the backend is not to blame.
    pub const LOCAL: Self = Self { kind: Outcome::Cancelled, sent: false };
    /// The caller's side broke.
    pub const CANCELLED: Self = Self { kind: Outcome::Cancelled, sent: true };

    /// What the chain of causes of an error tells, by the errors of std and tokio in it. One that says nothing is
    /// [`UNKNOWN`](Self::UNKNOWN): it is counted, and takes nobody out.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        if is_local(error) {
            return Self::LOCAL;
        }
        causes(error).find_map(Self::of_cause).unwrap_or(Self::UNKNOWN)
    }

    fn of_cause(cause: &(dyn Error + 'static)) -> Option<Self> {
        if cause.is::<tokio::time::error::Elapsed>() || cause.is::<tower::timeout::error::Elapsed>() {
            return Some(Self::TIMEOUT);
        }
        use io::ErrorKind::*;
        match cause.downcast_ref::<io::Error>()?.kind() {
            ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable => Some(Self::CONNECT),
            ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Some(Self::RESET),
            TimedOut => Some(Self::TIMEOUT),
            _ => None,
        }
    }
}

/// The judgement for services of which nothing else is known: every answer is a success, every error a failure of the
/// kind that [`Fault::of`] finds.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransportErrors;

impl<Res> Classify<Res> for TransportErrors {
    fn response(&self, _response: &Res) -> Option<Outcome> {
        Some(Outcome::Success)
    }

    fn error(&self, error: &(dyn Error + 'static)) -> Fault {
        Fault::of(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_the_innermost_io_error_decides() {
        for (kind, fault) in [
            (io::ErrorKind::ConnectionRefused, Fault::CONNECT),
            (io::ErrorKind::HostUnreachable, Fault::CONNECT),
            (io::ErrorKind::ConnectionReset, Fault::RESET),
            (io::ErrorKind::UnexpectedEof, Fault::RESET),
            (io::ErrorKind::TimedOut, Fault::TIMEOUT),
            (io::ErrorKind::AddrNotAvailable, Fault::CONNECT),
            (io::ErrorKind::Other, Fault::UNKNOWN),
        ] {
            let wrapped = io::Error::other(io::Error::from(kind));
            assert_eq!(Fault::of(&wrapped), fault, "{kind:?}");
        }
        for errno in [23, 24, 105] {
            let exhausted = io::Error::from_raw_os_error(errno);
            assert_eq!(Fault::of(&exhausted), Fault::LOCAL, "{exhausted}");
        }
        assert_eq!(Fault::of(&tower::timeout::error::Elapsed::new()), Fault::TIMEOUT);
    }
}
