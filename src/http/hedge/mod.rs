//! Asking a second backend when the first takes long.
//!
//! Most answers come fast, and a few take many times as long, because their server paused, or its line was long. Asking
//! another server once an answer is later than nearly all others costs a few percent more requests and cuts the tail
//! (Dean and Barroso, "The Tail at Scale", 2013). [`Hedge`] does so for requests that may be sent twice and have no body:
//! after the 95th percentile of the last seconds, to a backend other than the first; the first good answer wins, and the
//! other attempt is dropped, which counts for nobody.
//!
//! It is bounded twice: by a share of the requests, a twentieth unless set otherwise, and by the [`RetryBudget`] that it
//! shares with [`Retry`](super::Retry), below which it stands. Off in a [`ReverseProxy`](crate::ReverseProxy) unless asked
//! for: a backend must be able to bear a request that nobody waits for any more. The requests are counted into the shared
//! budget by the [`Retry`](super::Retry) above; without one, give it a budget of so many a second. Where both attempts
//! failed, a retry after that excludes the one whose failure it sees.
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
use super::{Charge, RetryBudget};
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
}

/// When a second attempt is made.
#[derive(Debug)]
struct Rule {
    quantile: f64,
    times: Histogram,
    /// Its own share of the requests.
    share: RetryBudget,
    /// What it shares with retries.
    budget: RetryBudget,
}

/// Before that many answers nobody knows what is late.
const LEAST: u32 = 100;

impl HedgeLayer {
    /// A second attempt after the 95th percentile, for a twentieth of the requests, out of `budget`.
    pub fn new(budget: RetryBudget) -> Self {
        Self::with(0.95, 0.05, budget)
    }

    /// A second attempt after that `quantile`, for that `share` of the requests: both from 0 to 1.
    ///
    /// # Panics
    ///
    /// If one of them is not.
    pub fn with(quantile: f64, share: f64, budget: RetryBudget) -> Self {
        assert!((0.0..=1.0).contains(&quantile), "the quantile of a hedge is from 0 to 1, not {quantile}");
        assert!((0.0..=1.0).contains(&share), "the share of a hedge is from 0 to 1, not {share}");
        let rule = Rule { quantile, times: Histogram::new(), share: RetryBudget::new(share, 0), budget };
        Self { rule: Some(Arc::new(rule)) }
    }

    /// No second attempt.
    pub fn none() -> Self {
        Self { rule: None }
    }
}

impl Rule {
    /// Counts a request that could be hedged, and says after which time it would be.
    fn delay(&self, now: Instant) -> Option<Duration> {
        self.share.deposit(now);
        self.times.quantile(self.quantile, LEAST, Moment::of(now))
    }

    /// What one more now is paid with. What one budget has and the other has not is given back.
    fn charge(&self, now: Instant) -> Option<[Charge; 2]> {
        Some([self.share.charge(now)?, self.budget.charge(now)?])
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge::new(inner, self.rule.clone())
    }
}
