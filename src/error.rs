//! The errors that every floor may name, and how to read a chain of causes.

use std::{error::Error, fmt, io, time::Duration};

/// A boxed error, the same type as `tower::BoxError`.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// No backend could be picked for a request; nothing was sent anywhere.
///
/// This is the answer to one request, never a state of the service: the next call may succeed. It is never charged
/// to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable {
    reason: Reason,
    earliest_recovery: Option<Duration>,
}

/// Why no backend could be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// The pool has no members.
    NoBackends,
    /// The pool has members, and none of them is eligible.
    AllUnhealthy,
    /// Those that are eligible have as many requests in flight as they may.
    AllAtLimit,
    /// It would have waited for a backend, and as many wait as may.
    QueueFull,
    /// It waited for a backend, and its time was over before there was one.
    QueueTimeout,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::NoBackends, Self::AllUnhealthy, Self::AllAtLimit, Self::QueueFull, Self::QueueTimeout];

    /// The reason as one word in lower case, for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoBackends => "no_backends",
            Self::AllUnhealthy => "all_unhealthy",
            Self::AllAtLimit => "all_at_limit",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
        }
    }
}

impl Unavailable {
    /// An error with its reason.
    pub fn new(reason: Reason) -> Self {
        Self { reason, earliest_recovery: None }
    }

    /// The same, with the time until something may have changed.
    pub fn recovering_in(self, earliest_recovery: Option<Duration>) -> Self {
        Self { earliest_recovery, ..self }
    }

    /// The time until the first backend that is out for a while is tried again, where that is known: what a client may be
    /// told to wait.
    pub fn earliest_recovery(&self) -> Option<Duration> {
        self.earliest_recovery
    }

    /// Why no backend could be picked.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            Reason::NoBackends => "the pool has no backends",
            Reason::AllUnhealthy => "no backend is healthy",
            Reason::AllAtLimit => "every backend has as many requests as it may",
            Reason::QueueFull => "as many requests wait for a backend as may",
            Reason::QueueTimeout => "no backend became available in time",
        })
    }
}

impl Error for Unavailable {}

#[cfg(feature = "http")]
/// The first error of type `E` in a chain of causes, outermost first.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// An error and all its causes, outermost first.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // The source of an io error that wraps another is the other's source: the other itself would be missed.
        Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
        None => error.source(),
    })
}

/// Whether the cause is a want of this process or machine (descriptors, buffers), for which no backend is to blame.
pub(crate) fn is_local(error: &(dyn Error + 'static)) -> bool {
    // EMFILE, ENFILE and ENOBUFS (Linux, BSD) have no stable kind. EADDRNOTAVAIL is not among them: it may be a want of
    // ports, and is also what the last of a name's addresses gives where this machine has no IPv6.
    const EXHAUSTED: [i32; 4] = [23, 24, 55, 105];
    let mut codes = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    codes.any(|code| EXHAUSTED.contains(&code))
}

/// What went wrong in the words of the innermost cause, without the number of the operating system:
/// `Connection refused`.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let innermost = causes(error).last().unwrap_or(error);
    if innermost.is::<tokio::time::error::Elapsed>() {
        return "timed out".to_owned();
    }
    let words = innermost.to_string();
    match words.find(" (os error") {
        Some(end) => words[..end].to_owned(),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_cause_is_the_innermost_without_the_errno() {
        let refused = io::Error::from_raw_os_error(111);
        let wrapped = io::Error::other(refused);
        assert_eq!(root_cause(&wrapped), "Connection refused");
        assert_eq!(root_cause(&Unavailable::new(Reason::NoBackends)), "the pool has no backends");
    }

    #[test]
    #[cfg(feature = "http")]
    fn an_error_is_found_anywhere_in_the_chain() {
        let outer = io::Error::other(io::Error::other(Unavailable::new(Reason::AllUnhealthy)));
        assert_eq!(find::<Unavailable>(&outer).map(Unavailable::reason), Some(Reason::AllUnhealthy));
        assert!(find::<Unavailable>(&io::Error::other("something else")).is_none());
    }
}
