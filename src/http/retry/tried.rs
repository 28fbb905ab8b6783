use super::policy::ATTEMPT;
use crate::{
    backend::{Backend, BackendId},
    balance::Describe,
    strategy::Hint,
};
use http::{HeaderValue, Method, Request, request};
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
    /// Makes of a head that of an attempt after so many.
    pub(in crate::http) fn mark(self, made: u32, head: &mut request::Parts) {
        head.headers.insert(ATTEMPT, HeaderValue::from(made));
        head.extensions.insert(self);
    }
}

/// The head of a request that may be sent again, and where it went: kept by whoever may do so, and in its extensions.
#[derive(Clone, Debug)]
pub(in crate::http) struct Kept {
    inner: Arc<Inner>,
    /// The head that carries this is that of another attempt.
    is_again: bool,
}

#[derive(Debug)]
struct Inner {
    head: request::Parts,
    picked: [OnceLock<Arc<Backend>>; MOST],
    /// What whoever is above keeps of the same request, and before the same backends.
    above: Option<Kept>,
}

/// More attempts than that are not written down here.
const MOST: usize = 4;

impl Kept {
    /// Keeps `head`, which carries this from now on. What it carried is somebody else's, before other backends.
    pub(in crate::http) fn new(head: &mut request::Parts) -> Self {
        Self::under(None, head)
    }

    /// The same below whoever has made what `head` carries: that one hears of what is picked as well.
    pub(in crate::http) fn below(head: &mut request::Parts) -> Self {
        Self::under(head.extensions.remove(), head)
    }

    fn under(above: Option<Self>, head: &mut request::Parts) -> Self {
        let inner = Inner { head: head.clone(), picked: Default::default(), above };
        let kept = Self { inner: Arc::new(inner), is_again: false };
        head.extensions.insert(kept.clone());
        kept
    }

    /// The head of another attempt, which carries this.
    pub(in crate::http) fn head(&self) -> request::Parts {
        let mut head = self.inner.head.clone();
        head.extensions.insert(Self { is_again: true, ..self.clone() });
        head
    }

    /// Whether whoever has kept it sends it again.
    pub(in crate::http) fn is_again(&self) -> bool {
        self.is_again
    }

    pub(in crate::http) fn method(&self) -> &Method {
        &self.inner.head.method
    }

    /// The backends that were picked for it, in their order.
    pub(in crate::http) fn picked(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.inner.picked.iter().filter_map(OnceLock::get)
    }

    fn pick(&self, backend: &Arc<Backend>) {
        _ = self.inner.picked.iter().find(|cell| cell.set(Arc::clone(backend)).is_ok());
        if let Some(above) = &self.inner.above {
            above.pick(backend);
        }
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
        if let Some(kept) = request.extensions().get::<Kept>() {
            kept.pick(backend);
        }
    }
}
