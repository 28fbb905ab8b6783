use super::{Family, families::*};
#[cfg(feature = "http")]
use crate::http::RetryBudget;
use crate::{
    backend::{Backend, EjectionCause, HealthState, ResponseTimes},
    error::Reason,
    pool::BackendPool,
};
use std::{fmt, sync::Arc, time::Instant};

/// Who takes the samples: a text for Prometheus, say. The values of the labels come in the order in which the
/// [`Family`] names them.
pub trait Sink {
    /// One count.
    fn counter(&mut self, family: Family, labels: &[&str], value: u64);
    /// One measure.
    fn gauge(&mut self, family: Family, labels: &[&str], value: f64);
    /// One distribution of times.
    fn histogram(&mut self, family: Family, labels: &[&str], times: &ResponseTimes);
}

/// A pool under the name by which it is published, and what belongs to it.
#[derive(Clone)]
pub struct Observed {
    name: Arc<str>,
    pool: Arc<dyn Pool>,
    #[cfg(feature = "http")]
    budget: Option<RetryBudget>,
}

/// A pool, whatever its targets are.
trait Pool: Send + Sync {
    fn tell(&self, name: &str, now: Instant, sink: &mut dyn Sink);
}

impl Observed {
    /// `pool`, to be published under `name`: a word of the host's, the value of the label `pool`.
    pub fn new<T: Send + Sync + 'static>(name: impl Into<Arc<str>>, pool: &BackendPool<T>) -> Self {
        Self {
            name: name.into(),
            pool: Arc::new(pool.clone()),
            #[cfg(feature = "http")]
            budget: None,
        }
    }

    /// The same with the budget that its retries and hedges are paid from.
    #[cfg(feature = "http")]
    pub fn budget(self, budget: &RetryBudget) -> Self {
        Self { budget: Some(budget.clone()), ..self }
    }

    /// Tells `sink` all there is to tell at `now`.
    pub fn tell(&self, now: Instant, sink: &mut dyn Sink) {
        self.pool.tell(&self.name, now, sink);
        #[cfg(feature = "http")]
        if let Some(budget) = &self.budget {
            let labels = [&*self.name];
            sink.counter(RETRIES, &labels, budget.retries());
            sink.counter(HEDGES, &labels, budget.hedges());
            sink.gauge(BUDGET_LEFT, &labels, budget.left(now) as f64);
            sink.counter(BUDGET_REFUSALS, &labels, budget.refused());
        }
    }
}

impl<T: Send + Sync> Pool for BackendPool<T> {
    fn tell(&self, name: &str, now: Instant, sink: &mut dyn Sink) {
        let (members, stats) = (self.members(), self.stats());
        let available = members.backends().iter().filter(|backend| backend.is_eligible()).count();
        sink.gauge(BACKENDS, &[name], members.backends().len() as f64);
        sink.gauge(AVAILABLE, &[name], available as f64);
        sink.counter(PICKS, &[name], stats.picks());
        for reason in Reason::ALL {
            sink.counter(UNAVAILABLE, &[name, reason.as_str()], stats.unavailable(reason));
        }
        sink.gauge(WAITING, &[name], self.waiting() as f64);
        sink.gauge(FAIL_OPEN, &[name], truth(self.is_open()));
        sink.counter(FAIL_OPENS, &[name], stats.fail_opens());
        sink.counter(FREEZES, &[name], stats.freezes());
        members.backends().iter().for_each(|backend| tell_backend(name, backend, now, sink));
    }
}

fn tell_backend(pool: &str, backend: &Backend, now: Instant, sink: &mut dyn Sink) {
    let (load, stats, state) = (backend.load(), backend.stats(), backend.health().state());
    let labels = [pool, backend.id().as_str()];
    let [pool, id] = labels;
    for (outcome, count) in load.outcomes() {
        sink.counter(OUTCOMES, &[pool, id, outcome.as_str()], count);
    }
    sink.histogram(RESPONSE_TIMES, &labels, load.response_times());
    sink.gauge(IN_FLIGHT, &labels, load.in_flight().into());
    for other in HealthState::ALL {
        sink.gauge(STATE, &[pool, id, other.as_str()], truth(other == state));
    }
    sink.gauge(SILENT, &labels, truth(backend.is_silent(now)));
    sink.gauge(WEIGHT, &labels, backend.weight());
    if let Some(limit) = backend.limit() {
        sink.gauge(LIMIT, &labels, limit.into());
    }
    for cause in EjectionCause::ALL {
        sink.counter(EJECTIONS, &[pool, id, cause.as_str()], stats.ejections(cause));
    }
    sink.counter(CHECKS, &[pool, id, "passed"], stats.checks_passed());
    sink.counter(CHECKS, &[pool, id, "failed"], stats.checks_failed());
}

fn truth(is_so: bool) -> f64 {
    u8::from(is_so).into()
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("name", &self.name).finish_non_exhaustive()
    }
}
