use super::{Balancer, wait::WaitingRoom};
use crate::{
    pool::{BackendPool, View},
    strategy::{Hint, Strategy},
};
use std::{fmt, time::Duration};
use tower::Layer;

/// Puts a [`Balancer`] in front of a service.
///
/// All services made by one layer, and all their clones, share the strategy's state and the waiting room.
pub struct BalancerLayer<T, G: Strategy, D = ()> {
    view: View<T, G>,
    describe: D,
    room: Option<WaitingRoom>,
}

impl<T: Clone + Send + Sync + 'static, G: Strategy> BalancerLayer<T, G> {
    /// Balances over `pool` by `strategy`, and fails fast: with no backend available the answer is
    /// [`Unavailable`](crate::Unavailable) at once.
    pub fn new(pool: &BackendPool<T>, strategy: G) -> Self {
        Self { view: pool.view(strategy), describe: (), room: None }
    }
}

impl<T, G: Strategy, D> BalancerLayer<T, G, D> {
    /// Tells the strategy about each request: its key, what it tried. See [`Describe`](super::Describe).
    pub fn describe<Req, F>(self, describe: F) -> BalancerLayer<T, G, F>
    where
        F: for<'a> Fn(&'a Req, &mut Hint<'a>),
    {
        self.describe_by(describe)
    }

    /// The same by anything that can tell: an [`http::RequestKey`](crate::http::RequestKey), say.
    pub fn describe_by<E>(self, describe: E) -> BalancerLayer<T, G, E> {
        BalancerLayer { view: self.view, describe, room: self.room }
    }

    /// The pool as this layer's strategy sees it: to [explain](crate::pool::Snapshot::explain) its picks.
    pub fn view(&self) -> &View<T, G> {
        &self.view
    }

    /// With no backend available, up to `limit` callers wait in `poll_ready`, each for up to `timeout`, until there is
    /// one. Further callers, and those whose time is over, fail fast.
    pub fn wait(self, timeout: Duration, limit: usize) -> Self {
        Self { room: Some(WaitingRoom::new(timeout, limit)), ..self }
    }
}

impl<S, T, G: Strategy, D: Clone> Layer<S> for BalancerLayer<T, G, D> {
    type Service = Balancer<S, T, G, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Balancer::new(inner, self.view.clone(), self.describe.clone(), self.room.clone())
    }
}

impl<T, G: Strategy, D: Clone> Clone for BalancerLayer<T, G, D> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone(), describe: self.describe.clone(), room: self.room.clone() }
    }
}

impl<T, G: Strategy, D> fmt::Debug for BalancerLayer<T, G, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancerLayer").field("view", &self.view).field("room", &self.room).finish_non_exhaustive()
    }
}
