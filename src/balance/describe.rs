use crate::{backend::Backend, strategy::Hint};
use std::sync::Arc;

/// Tells the strategy about a request: the key it is bound to, the backends it has tried.
///
/// A closure will do:
///
/// ```
/// use std::hash::{BuildHasher, RandomState};
/// use tower_balancer::{BackendPool, balance::BalancerLayer, strategy::{Hint, RoundRobin}};
///
/// let pool = BackendPool::new(["http://10.0.0.1:8080"])?;
/// let hasher = RandomState::new();
/// let layer = BalancerLayer::new(&pool, RoundRobin::new())
///     .describe(move |user: &String, hint: &mut Hint<'_>| hint.key = Some(hasher.hash_one(user)));
/// # let _: BalancerLayer<_, _, _> = layer;
/// # Ok::<_, tower_balancer::pool::InvalidMember>(())
/// ```
pub trait Describe<Req> {
    /// Writes into `hint` what the request says.
    fn describe<'a>(&self, request: &'a Req, hint: &mut Hint<'a>);

    /// Hears which backend was picked for the request. Mostly nobody wants to know before there is an answer.
    fn picked(&self, _request: &Req, _backend: &Arc<Backend>) {}
}

/// Tells nothing.
impl<Req> Describe<Req> for () {
    fn describe<'a>(&self, _request: &'a Req, _hint: &mut Hint<'a>) {}
}

/// Tells what both tell.
impl<Req, A: Describe<Req>, B: Describe<Req>> Describe<Req> for (A, B) {
    fn describe<'a>(&self, request: &'a Req, hint: &mut Hint<'a>) {
        self.0.describe(request, hint);
        self.1.describe(request, hint);
    }

    fn picked(&self, request: &Req, backend: &Arc<Backend>) {
        self.0.picked(request, backend);
        self.1.picked(request, backend);
    }
}

/// Tells something or nothing.
impl<Req, A: Describe<Req>> Describe<Req> for Option<A> {
    fn describe<'a>(&self, request: &'a Req, hint: &mut Hint<'a>) {
        if let Some(describe) = self {
            describe.describe(request, hint);
        }
    }

    fn picked(&self, request: &Req, backend: &Arc<Backend>) {
        if let Some(describe) = self {
            describe.picked(request, backend);
        }
    }
}

impl<Req, F> Describe<Req> for F
where
    F: for<'a> Fn(&'a Req, &mut Hint<'a>),
{
    fn describe<'a>(&self, request: &'a Req, hint: &mut Hint<'a>) {
        self(request, hint);
    }
}
