use super::header;
use http::{Request, request};
use std::time::{Duration, Instant};

/// When the time of a request is over, in its extensions.
///
/// Written by [`Deadline`](super::Deadline), read once per attempt by [`ResponseTimeout`](crate::http::ResponseTimeout). A
/// host that knows one before may insert it above the [`Deadline`](super::Deadline), which sees to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestDeadline(pub Instant);

impl RequestDeadline {
    /// The time that is left; nothing when it is over.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(tokio::time::Instant::now().into_std())
    }
}

/// How many attempts a request has left that ran out of time each, in its extensions: the one that carries this, and
/// those that may follow it.
///
/// Written by [`Retry`](crate::http::Retry). A host that tries again itself may insert one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptsLeft(pub u32);

impl AttemptsLeft {
    /// Marks the head of an attempt, where its time is to be shared out at all.
    pub(in crate::http) fn mark(self, head: &mut request::Parts) {
        if head.extensions.get::<RequestDeadline>().is_some() {
            head.extensions.insert(self);
        }
    }
}

/// Writes the time that is left into those headers that the request came with. How long the attempt may take so that there is
/// as much for each that may follow; `None` where none may. The last one has all that is left, and
/// [`Deadline`](super::Deadline) sees to that.
pub(in crate::http) fn share_out<B>(request: &mut Request<B>) -> Option<Duration> {
    let left = request.extensions().get::<RequestDeadline>()?.left();
    header::write(request.headers_mut(), left);
    let &AttemptsLeft(attempts) = request.extensions().get()?;
    (attempts > 1).then(|| left / attempts)
}
