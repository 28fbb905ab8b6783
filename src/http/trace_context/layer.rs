use super::{TRACEPARENT, Trace, TraceAttempt, TraceContext, Traced, state};
use crate::{
    http::{own::own, seldom},
    rng::Rng,
};
use http::HeaderMap;
use std::sync::Arc;
use tower::Layer;

/// Puts a [`Trace`] in front of a service, and by [`attempts`](Self::attempts) a [`TraceAttempt`] below its balancer.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    // `None` where nothing is traced.
    rule: Option<Arc<Rule>>,
}

/// What is traced, and under which name.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) pool: Arc<str>,
    /// Of the traces that begin here, this share is recorded.
    share: f64,
}

impl TraceLayer {
    /// Continues the traces of clients and begins others, all of them recorded.
    pub fn new() -> Self {
        Self { rule: Some(Arc::new(Rule { pool: "".into(), share: 1.0 })) }
    }

    /// Traces nothing; what clients say passes as it is.
    pub fn none() -> Self {
        Self { rule: None }
    }

    /// The name of the pool in the spans.
    pub fn pool(self, pool: impl Into<Arc<str>>) -> Self {
        self.with(|rule| rule.pool = pool.into())
    }

    /// Of the traces that begin here, this share is recorded: 0 for none, 1 for all.
    ///
    /// # Panics
    ///
    /// If it is not from 0 to 1.
    pub fn sample(self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "the share of traces that are recorded is from 0 to 1, not {share}");
        self.with(|rule| rule.share = share)
    }

    /// For the place below the balancer, where each attempt passes.
    pub fn attempts(&self) -> TraceAttemptLayer {
        TraceAttemptLayer { rule: self.rule.clone() }
    }

    fn with(mut self, change: impl FnOnce(&mut Rule)) -> Self {
        if let Some(rule) = &mut self.rule {
            change(Arc::make_mut(rule));
        }
        self
    }
}

impl Default for TraceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace::new(inner, self.rule.as_ref().map(own))
    }
}

/// Puts a [`TraceAttempt`] in front of a service. Made by [`TraceLayer::attempts`].
#[derive(Clone, Debug)]
pub struct TraceAttemptLayer {
    rule: Option<Arc<Rule>>,
}

impl<S> Layer<S> for TraceAttemptLayer {
    type Service = TraceAttempt<S>;

    fn layer(&self, inner: S) -> TraceAttempt<S> {
        TraceAttempt::new(inner, self.rule.as_ref().map(own))
    }
}

impl Rule {
    /// Takes out of `headers` what they say of a trace, and makes a span of it: below theirs, or the first.
    pub(super) fn begin(&self, headers: &mut HeaderMap, seed: u64) -> Traced {
        let told = if seldom::has(headers, &TRACEPARENT) {
            // Several are none: nobody knows which is right.
            let several = seldom::has_several(headers, &TRACEPARENT);
            headers.remove(TRACEPARENT).filter(|_| !several)
        } else {
            None
        };
        let told = told.and_then(|told| TraceContext::parse(told.as_bytes()));
        let state = if seldom::has(headers, &state::TRACESTATE) { state::take(headers) } else { None };
        match told {
            Some(told) => Traced { context: told.child(), state },
            // A state without a parent is nobody's.
            None => Traced { context: TraceContext::root(Rng::new(seed).unit() < self.share), state: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_traces_that_begin_here_the_share_is_recorded() {
        for share in [0.0, 0.1, 1.0] {
            let rule = Rule { pool: "".into(), share };
            let sampled =
                (0..10_000).filter(|seed| rule.begin(&mut HeaderMap::new(), *seed).context.is_sampled()).count();
            assert!((sampled as f64 / 10_000.0 - share).abs() < 0.01, "{share}: {sampled}");
        }
    }
}
