use super::policy::ATTEMPT;
use crate::{
    backend::{Backend, BackendId},
    balance::Describe,
    strategy::Hint,
};
use http::{HeaderValue, Request, request};
use std::sync::{Arc, OnceLock};

/// The backends that a request was sent to before, in its extensions: the next attempt goes to another while there is one.
///
/// Written by [`Retry`](super::Retry). A host that tries again itself may insert one.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// In the order in which they were.
    pub backends: Vec<BackendId>,
    /// Not even where there is no other: see [`Hint::others_only`].
    pub others_only: bool,
}

impl Tried {
    /// Makes of a head that of the next attempt.
    pub(in crate::http) fn mark(self, head: &mut request::Parts) {
        head.headers.insert(ATTEMPT, HeaderValue::from(self.backends.len()));
        head.extensions.insert(self);
    }
}

/// Where a request went, for whoever sent it and has no answer yet: in its extensions.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Picked(Arc<OnceLock<Arc<Backend>>>);

impl Picked {
    /// The backend, once one is picked.
    pub(in crate::http) fn backend(&self) -> Option<&Arc<Backend>> {
        self.0.get()
    }
}

/// Tells the strategy which backends a request has [`Tried`]: for the balancer below a [`Retry`](super::Retry).
#[derive(Clone, Copy, Debug, Default)]
pub struct TriedBackends;

impl<B> Describe<Request<B>> for TriedBackends {
    fn describe<'a>(&self, request: &'a Request<B>, hint: &mut Hint<'a>) {
        if let Some(Tried { backends, others_only }) = request.extensions().get() {
            (hint.excluded, hint.others_only) = (backends, *others_only);
        }
    }

    fn picked(&self, request: &Request<B>, backend: &Arc<Backend>) {
        if let Some(Picked(cell)) = request.extensions().get() {
            _ = cell.set(Arc::clone(backend));
        }
    }
}
