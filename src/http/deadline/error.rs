use std::{error::Error, fmt, time::Duration};

/// A request whose time was over before there was an answer, whatever was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineExceeded {
    time: Duration,
}

impl DeadlineExceeded {
    pub(super) fn new(time: Duration) -> Self {
        Self { time }
    }

    /// The time that it had when it arrived.
    pub fn time(&self) -> Duration {
        self.time
    }
}

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request had {:?}, which are over", self.time)
    }
}

impl Error for DeadlineExceeded {}

/// An attempt that was given up while its request has time left, so that there is some for another attempt.
///
/// It says nothing against the backend: the client has little time, and another backend may be quicker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareExceeded {
    share: Duration,
}

impl ShareExceeded {
    pub(in crate::http) fn new(share: Duration) -> Self {
        Self { share }
    }

    /// The attempt's share of the time of its request.
    pub fn share(&self) -> Duration {
        self.share
    }
}

impl fmt::Display for ShareExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {:?}, the attempt's share of the request's time", self.share)
    }
}

impl Error for ShareExceeded {}
