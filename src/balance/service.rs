use super::{
    Describe,
    future::ResponseFuture,
    wait::{self, Waiting, WaitingRoom, has_room},
};
use crate::{
    error::{BoxError, Reason},
    pool::{Dispatch, Promise, View},
    strategy::{Hint, Strategy},
};
use std::{
    fmt, mem,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;
use tower::Service;
use tracing::{Level, enabled, trace};

/// The `tracing` target of the events that explain each pick, at level `TRACE`. While nobody listens they cost nothing.
pub const PICK_TARGET: &str = "tower_balancer::pick";

/// Picks a backend for each request and passes both on as a [`Dispatch`].
///
/// # Readiness
///
/// `poll_ready` asks the pool, through the strategy, whether one more request could be taken, and then the inner
/// service. With no backend available it is ready all the same, unless the layer was told to
/// [`wait`](super::BalancerLayer::wait): the next `call` then fails at once with [`Unavailable`](crate::Unavailable).
/// It never fails because of the pool, since an error from `poll_ready` means in tower that the service is gone for
/// good. Once ready it stays ready until `call`, however the pool changes.
///
/// The pick happens in `call`, over the pool of that moment: a backend that left in between is not picked.
///
/// # Clones
///
/// A clone shares pool, strategy and waiting room; it does not inherit readiness, nor a place in the waiting room.
///
/// # Cancellation
///
/// Dropping the response future, polled or not, releases the lease and counts as
/// [`Cancelled`](crate::backend::Outcome::Cancelled). Dropping the service leaves the waiting room.
pub struct Balancer<S, T, G: Strategy, D = ()> {
    inner: S,
    view: View<T, G>,
    describe: D,
    room: Option<WaitingRoom>,
    readiness: Readiness,
}

/// What the pool has said since the last call.
enum Readiness {
    Unasked,
    Waiting(Waiting),
    /// Go on: with a promise where others wait for what there is.
    Room(Option<Promise>),
    /// Go on, to hear that there is none.
    Refused(Reason),
}

impl<S, T, G: Strategy, D> Balancer<S, T, G, D> {
    pub(super) fn new(inner: S, view: View<T, G>, describe: D, room: Option<WaitingRoom>) -> Self {
        Self { inner, view, describe, room, readiness: Readiness::Unasked }
    }
}

impl<S, T, G, D> Balancer<S, T, G, D>
where
    T: Send + Sync + 'static,
    G: Strategy,
{
    /// Ready whatever the pool says: `call` looks again, and says what is missing.
    fn poll_pool(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Readiness::Unasked = self.readiness {
            self.readiness = self.consult();
        }
        if let Readiness::Waiting(waiting) = &mut self.readiness {
            self.readiness = match ready!(waiting.as_mut().poll(cx)) {
                Some(promise) => Readiness::Room(Some(promise)),
                None => Readiness::Refused(Reason::QueueTimeout),
            };
        }
        Poll::Ready(())
    }

    fn consult(&self) -> Readiness {
        let Some(room) = &self.room else {
            // A strategy hears of each caller.
            _ = self.view.load().admit();
            return Readiness::Room(None);
        };
        if let Some(promise) = room.pass_by(&self.view) {
            return Readiness::Room(Some(promise));
        }
        room.enter(&self.view).map_or(Readiness::Refused(Reason::QueueFull), Readiness::Waiting)
    }
}

impl<S, T, G, D, Req> Service<Req> for Balancer<S, T, G, D>
where
    S: Service<Dispatch<T, Req>>,
    S::Error: Into<BoxError>,
    T: Clone + Send + Sync + 'static,
    G: Strategy,
    D: Describe<Req>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.poll_pool(cx));
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (mut promise, mut refused) = match mem::replace(&mut self.readiness, Readiness::Unasked) {
            Readiness::Room(promise) => (promise, None),
            Readiness::Refused(reason) => (None, Some(reason)),
            // Whoever calls without being ready has nothing.
            Readiness::Unasked | Readiness::Waiting(_) => (None, None),
        };
        let now = Instant::now().into_std();
        let mut hint = Hint::new(now, fastrand::u64(..));
        self.describe.describe(&request, &mut hint);
        self.view.advance(now);
        // Who was refused long ago, or never waits, takes what nobody was promised.
        if let Some(room) = &self.room
            && refused.is_some()
        {
            promise = room.pass_by(&self.view);
            refused = refused.filter(|_| promise.is_none());
        } else if promise.is_none() && self.view.queue().promised() > 0 {
            promise = wait::promise(&self.view);
            refused = promise.is_none().then_some(Reason::AllAtLimit);
        }
        let snapshot = self.view.load();
        let before = enabled!(target: PICK_TARGET, Level::TRACE).then(|| snapshot.explain_before(&hint));
        // Who was refused does not take what others were promised.
        let leased = match refused {
            Some(reason) => Err(snapshot.refuse(reason)),
            None => snapshot.lease(&hint),
        };
        if let Some(before) = before {
            let picked = leased.as_ref().ok().map(|(lease, _)| lease.backend().id());
            trace!(target: PICK_TARGET, "{}", snapshot.explained(before, &hint, picked));
        }
        let (lease, target) = match leased {
            Ok((lease, target)) => (lease, target.clone()),
            Err(unavailable) => {
                self.view.refused(unavailable.reason());
                // What is full has room with the next answer; what is out comes back when it is due.
                let recovery = match unavailable.reason() {
                    Reason::AllAtLimit | Reason::QueueFull | Reason::QueueTimeout => Some(Duration::ZERO),
                    _ => self.view.due(now),
                };
                return ResponseFuture::unavailable(unavailable.recovering_in(recovery));
            }
        };
        drop(snapshot);
        self.view.picked();
        if let Some(promise) = promise {
            promise.kept(|promised| has_room(&self.view, promised));
        }
        self.describe.picked(&request, lease.backend());
        ResponseFuture::called(self.inner.call(Dispatch { lease, target, request }))
    }
}

impl<S: Clone, T, G: Strategy, D: Clone> Clone for Balancer<S, T, G, D> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.view.clone(), self.describe.clone(), self.room.clone())
    }
}

impl<S: fmt::Debug, T, G: Strategy, D> fmt::Debug for Balancer<S, T, G, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("inner", &self.inner).field("view", &self.view).finish_non_exhaustive()
    }
}
