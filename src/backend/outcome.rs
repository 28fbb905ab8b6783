use std::fmt;

/// What became of one request that was sent to a backend, as far as the backend is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Outcome {
    /// It answered, and the answer is not its fault.
    Success,
    /// It answered that the client was wrong (HTTP 4xx but 429): says nothing against the backend.
    ClientFault,
    /// It can be reached and is broken: HTTP 5xx, a stream that it reset, an error of unknown kind.
    BackendFault,
    /// It has too much to do, and said so: HTTP 429, 503 with `Retry-After`, a refused stream.
    Overload,
    /// It could not be reached: refused, no route, no name, no TLS. Nothing was sent.
    ConnectFault,
    /// The connection broke after something was sent, before the answer was complete.
    Reset,
    /// It did not answer in time.
    Timeout,
    /// The connection broke, and that says nothing against the backend: it had been idle before, and servers close idle
    /// connections; or the request was still on its way, and servers close on requests that they do not want.
    Lost,
    /// The caller gave up: the request was dropped, or the client's own body broke. Says nothing about the backend.
    Cancelled,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::ClientFault,
        Self::BackendFault,
        Self::Overload,
        Self::ConnectFault,
        Self::Reset,
        Self::Timeout,
        Self::Lost,
        Self::Cancelled,
    ];

    /// The outcome as one word in lower case, for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientFault => "client_fault",
            Self::BackendFault => "backend_fault",
            Self::Overload => "overload",
            Self::ConnectFault => "connect_fault",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the transport to the backend failed, which takes the backend out at once: one that cannot be reached always, one
    /// that broke off before it answered where it is alone, or no more than half of its pool would be out, so that a request that
    /// breaks whoever gets it does not walk through all of them.
    ///
    /// A [`Timeout`](Self::Timeout) does not: one slow endpoint would walk through the pool and take out every backend
    /// that serves it. A backend that hangs altogether fails its next health check.
    pub fn is_transport_failure(self) -> bool {
        matches!(self, Self::ConnectFault | Self::Reset)
    }

    /// Whether the backend has answered, however badly: a sign of life.
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Success | Self::ClientFault | Self::BackendFault | Self::Overload)
    }

    /// What a fault is called where nobody has better words for it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Success | Self::ClientFault | Self::Lost | Self::Cancelled => "",
            Self::BackendFault => "answered with an error of its own",
            Self::Overload => "answered that it has too much to do",
            Self::ConnectFault => "could not be reached",
            Self::Reset => "broke off",
            Self::Timeout => "did not answer in time",
        }
    }

    /// Whether this speaks against the backend.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::Success | Self::ClientFault | Self::Lost | Self::Cancelled)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_order_of_all() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number);
            let same_word = |other: &Outcome| other.as_str() == outcome.as_str();
            assert_eq!(Outcome::ALL.iter().filter(|other| same_word(other)).count(), 1, "{outcome}");
        }
    }

    #[test]
    fn what_the_client_did_is_no_fault_of_the_backend() {
        let faults: Vec<_> = Outcome::ALL.into_iter().filter(|outcome| outcome.is_fault()).collect();
        use Outcome::*;
        assert_eq!(faults, [BackendFault, Overload, ConnectFault, Reset, Timeout]);
    }
}
