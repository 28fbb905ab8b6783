use crate::{backend::BackendId, balance::Describe, strategy::Hint};
use http::Request;

/// The backends that a request was sent to before, in its extensions: the next attempt goes to another while there is one.
///
/// Written by [`Retry`](super::Retry). A host that tries again itself may insert one.
#[derive(Clone, Debug, Default)]
pub struct Tried(pub Vec<BackendId>);

/// Tells the strategy which backends a request has [`Tried`]: for the balancer below a [`Retry`](super::Retry).
#[derive(Clone, Copy, Debug, Default)]
pub struct TriedBackends;

impl<B> Describe<Request<B>> for TriedBackends {
    fn describe<'a>(&self, request: &'a Request<B>, hint: &mut Hint<'a>) {
        if let Some(Tried(backends)) = request.extensions().get() {
            hint.excluded = backends;
        }
    }
}
