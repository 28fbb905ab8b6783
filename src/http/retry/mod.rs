//! Trying again, on another backend.
//!
//! A request that failed where it need not have may be answered elsewhere, and nobody has to know. [`Retry`] stands above
//! the balancer: each attempt is a pick of its own, the backends that were tried are excluded from it exactly, and each
//! failed attempt has been judged, and reported to its backend, before the next one begins.
//!
//! | failure | is tried again |
//! |---|---|
//! | nothing was sent: refused, no route, a refused stream | always, at once |
//! | sent, then broken; no answer in time; 502, 503, 504 | if the method is idempotent (RFC 9110 §9.2.2), after a random delay |
//! | anything else | never |
//!
//! Calls of gRPC are POSTs: what was sent is tried again only with [`any_method`](RetryLayer::any_method). Retries are for
//! [`Client`](super::Client): a tonic `Channel` takes no body that is kept.
//!
//! Three things bound it. The number of attempts: one more, unless [set](RetryLayer::retries) otherwise. The
//! [budget](RetryBudget), which all requests share: when everything fails, the load grows by a fifth, not by a factor. And
//! the body: what passed of it is kept up to 64 KiB while it passes; a longer one is sent once. Once the head of an answer
//! is passed on, there is no other attempt.
//!
//! Where the request has a [deadline](super::deadline), an attempt that another may follow gets its share of the time that
//! is left.
//!
//! An attempt that follows another says so in `X-Retry-Attempt`; a request that comes in with one is tried once, so the
//! attempts of several hops do not multiply.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_balancer::{
//!     BackendPool,
//!     balance::BalancerLayer,
//!     feedback::FeedbackLayer,
//!     http::{AddressLayer, Client, ClientConfig, ReplayBody, RetryBudget, RetryLayer, TriedBackends},
//!     strategy::LeastRequest,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let client: Client<ReplayBody<String>> = ClientConfig::new().build();
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::new(RetryBudget::default()))
//!     .layer(BalancerLayer::new(&pool, LeastRequest::new()).describe_by(TriedBackends))
//!     .layer(FeedbackLayer::http())
//!     .layer(AddressLayer::new())
//!     .service(client);
//! # fn takes_requests(_: impl tower::Service<http::Request<String>> + Clone) {}
//! # takes_requests(service);
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! The head of each request that may be tried again is cloned before it is sent. Whether the budget, the body and
//! the pool will allow another attempt is not known when the time is shared out: where they do not, the rest of the time is
//! not used. Before a single backend take [`RetryLayer::retries`] of 0 where requests have deadlines.

mod budget;
mod future;
mod policy;
mod replay;
mod service;
mod tried;

pub use self::{
    budget::{Charge, RetryBudget},
    future::ResponseFuture,
    replay::ReplayBody,
    service::Retry,
    tried::{Tried, TriedBackends},
};

pub(super) use self::{
    policy::{ATTEMPT, Failure, is_unavailable},
    tried::Kept,
};

use self::policy::Policy;
use super::own::own;
use std::{sync::Arc, time::Duration};
use tower::Layer;

/// Puts a [`Retry`] in front of a service.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: Arc<Policy>,
}

/// Enough for forms and for calls; a file is not sent twice.
const BODY_LIMIT: usize = 64 * 1024;

/// The first delay is up to 25 ms; it doubles, up to a quarter of a second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));

impl RetryLayer {
    /// One attempt more than the first, out of `budget`.
    pub fn new(budget: RetryBudget) -> Self {
        let policy = Policy { retries: 1, any_method: false, body_limit: BODY_LIMIT, backoff: BACKOFF, budget };
        Self { policy: Arc::new(policy) }
    }

    /// Every request is tried once.
    pub fn none() -> Self {
        Self::new(RetryBudget::default()).retries(0)
    }

    /// What attempts beyond the first are paid with, where there are some.
    pub(super) fn budget(&self) -> Option<&RetryBudget> {
        Some(&self.policy.budget).filter(|_| self.policy.retries > 0)
    }

    fn with(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    /// Attempts beyond the first. With 0 nothing is kept and nothing cloned.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|policy| policy.retries = retries)
    }

    /// The delay before the second attempt of what was sent is up to `base`, and doubles with each further one up to
    /// `cap`; how long it is within that is chance.
    pub fn backoff(self, base: Duration, cap: Duration) -> Self {
        self.with(|policy| policy.backoff = (base, cap))
    }

    /// Bytes of a request's body that are kept so that it can be sent again.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|policy| policy.body_limit = bytes)
    }

    /// What was sent may be sent again whatever its method: the host knows that its backends do the same thing once.
    pub fn any_method(self) -> Self {
        self.with(|policy| policy.any_method = true)
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new(RetryBudget::default())
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(inner, own(&self.policy))
    }
}
