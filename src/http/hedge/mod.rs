//! Asking a second backend when the first takes long, or has stopped answering.
//!
//! Requests that change nothing, as a GET does, have no body and belong to no session are sent to a backend other than the first; the
//! first good answer wins, and the other attempt is dropped, which counts for nobody. When, is one of two rules:
//!
//! * Where the first [has stopped answering](HedgeLayer::silent): it is silent for many times as long as its answers take, and
//!   to others as well, or is out by now. So who waits for a backend that hangs need not wait until a timeout; a request
//!   that takes long by itself is left alone. A [`ReverseProxy`](crate::ReverseProxy) does so unless told otherwise.
//! * Where it [takes long](HedgeLayer::new): most answers come fast, and a few take many times as long, because their server
//!   paused, or its line was long. Asking another once an answer is later than nearly all others, after the 95th percentile
//!   of the last seconds, costs a few percent more requests and cuts the tail (Dean and Barroso, "The Tail at Scale", 2013).
//!   A backend must be able to bear requests that nobody waits for any more, so this has to be asked for.
//!
//! All of it is paid out of the [`RetryBudget`] that it shares with [`Retry`](super::Retry), below which it stands, and what
//! takes long out of a share of the requests as well, a twentieth unless set otherwise. The requests are counted into the
//! shared budget by the [`Retry`](super::Retry) above; without one, give it a budget of so many a second. Where both
//! attempts failed, a retry after that excludes both.
//!
//! ```
//! use tower_balancer::{BackendPool, ReverseProxy, http::{HedgeLayer, RetryBudget, RetryLayer}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let budget = RetryBudget::default();
//! let proxy: ReverseProxy<_, String> = ReverseProxy::builder(&pool)
//!     .retry(RetryLayer::new(budget.clone()))
//!     .hedge(HedgeLayer::new(budget))
//!     .build();
//! # let _ = proxy;
//! # Ok(())
//! # }
//! ```

mod future;
mod histogram;
mod service;

pub use self::{future::ResponseFuture, service::Hedge};

use self::histogram::Histogram;
use super::{Charge, RetryBudget, RetryLayer, own::own};
use crate::backend::Moment;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tower::Layer;

/// Puts a [`Hedge`] in front of a balancer. All services made by one layer, and their clones, share what they measured.
#[derive(Clone, Debug)]
pub struct HedgeLayer {
    // `None` where nothing is hedged.
    rule: Option<Arc<Rule>>,
    /// It stands right below a retry, and what that one keeps of a request will do.
    is_beside: bool,
}

/// When a second attempt is made.
#[derive(Clone, Debug)]
struct Rule {
    /// What takes long; `None` where only those are hedged whose backend has stopped.
    late: Option<Arc<Late>>,
    /// What it shares with retries.
    budget: RetryBudget,
}

/// What takes long.
#[derive(Debug)]
struct Late {
    quantile: f64,
    times: Histogram,
    /// Its own share of the requests.
    share: RetryBudget,
}

/// Before that many answers nobody knows what is late.
const LEAST: u32 = 100;

impl HedgeLayer {
    /// A second attempt where the backend has stopped answering, out of the budget of `retry`; none where that never tries
    /// again. For a place right below that retry: what a layer between the two does to a request is not done to a second
    /// attempt.
    pub fn beside(retry: &RetryLayer) -> Self {
        retry.budget().map_or(Self::none(), |budget| Self::silent(budget.clone())).right_below_retry()
    }

    /// A second attempt where the backend has stopped answering, out of `budget`.
    pub fn silent(budget: RetryBudget) -> Self {
        Self::by(Rule { late: None, budget })
    }

    /// The same, and after the 95th percentile, for a twentieth of the requests.
    pub fn new(budget: RetryBudget) -> Self {
        Self::with(0.95, 0.05, budget)
    }

    /// The same, and after that `quantile`, for that `share` of the requests: both from 0 to 1.
    ///
    /// # Panics
    ///
    /// If one of them is not.
    pub fn with(quantile: f64, share: f64, budget: RetryBudget) -> Self {
        assert!((0.0..=1.0).contains(&quantile), "the quantile of a hedge is from 0 to 1, not {quantile}");
        assert!((0.0..=1.0).contains(&share), "the share of a hedge is from 0 to 1, not {share}");
        let late = Late { quantile, times: Histogram::new(), share: RetryBudget::new(share, 0) };
        Self::by(Rule { late: Some(Arc::new(late)), budget })
    }

    fn by(rule: Rule) -> Self {
        Self { rule: Some(Arc::new(rule)), is_beside: false }
    }

    /// No second attempt.
    pub fn none() -> Self {
        Self { rule: None, is_beside: false }
    }

    /// The same, for where no layer between a retry and this one does anything to a request.
    pub(crate) fn right_below_retry(self) -> Self {
        Self { is_beside: true, ..self }
    }
}

impl Rule {
    /// Counts a request that could be hedged, and says after which time it takes long.
    fn late_after(&self, now: Instant) -> Option<Duration> {
        let late = self.late.as_ref()?;
        late.share.deposit(now);
        late.times.quantile(late.quantile, LEAST, Moment::of(now))
    }

    /// What a second attempt now is paid with. What one budget has and the other has not is given back.
    fn charge(&self, why: Why, now: Instant) -> Option<Vec<Charge>> {
        let share = self.late.as_ref().filter(|_| why == Why::Late).map(|late| &late.share);
        share.into_iter().chain([&self.budget]).map(|budget| budget.charge(now)).collect()
    }
}

/// Why a second attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Late,
    Stopped,
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        // What was measured they share.
        Hedge::new(inner, self.rule.as_ref().map(own), self.is_beside)
    }
}
