use super::{Backend, EjectionCause, Moment, Outcome, gate::Pass};
use crate::sync::Ordering;
use std::{sync::Arc, time::Instant};

/// One request in flight on one backend.
///
/// A lease is taken at the pick and travels with the request by ownership: into the response future, then, for HTTP,
/// into the response body. Whoever learns how the request ended says so with [`complete`](Self::complete) or
/// [`fail`](Self::fail), or that nobody wants to know any more with [`give_up`](Self::give_up). A lease that is dropped
/// without a word was [`Cancelled`](Outcome::Cancelled). In every case `Drop` releases it, once.
///
/// ```
/// use std::{sync::Arc, time::Instant};
/// use tower_balancer::backend::{Backend, Lease, Outcome};
///
/// let backend = Arc::new(Backend::new("a"));
/// let lease = Lease::take(Arc::clone(&backend), Instant::now());
/// assert_eq!(backend.load().in_flight(), 1);
///
/// lease.complete(Outcome::Success, Instant::now());
/// assert_eq!(backend.load().in_flight(), 0);
/// assert_eq!(backend.load().count(Outcome::Success), 1);
/// ```
#[derive(Debug)]
#[must_use = "a lease that is dropped at once counts as a cancelled request"]
pub struct Lease {
    backend: Arc<Backend>,
    started: Moment,
    outcome: Outcome,
    cost: f64,
    pass: Pass,
    /// The answer has begun: its latency is known, and the request waits no more.
    answered: bool,
    /// It is known whether it is good.
    judged: bool,
}

impl Lease {
    /// Counts one more request in flight on `backend`, from `now`, whatever its limit.
    pub fn take(backend: Arc<Backend>, now: Instant) -> Self {
        Self::costing(backend, 1.0, now)
    }

    /// The same for a request that is as much work as `cost` ordinary ones: finite and not negative, as
    /// [`Hint::work`](crate::strategy::Hint::work) gives it.
    pub fn costing(backend: Arc<Backend>, cost: f64, now: Instant) -> Self {
        let started = Moment::of(now);
        backend.load().try_begin(cost, started, u32::MAX);
        Self::begun(backend, cost, started, Pass::Free)
    }

    /// The same, unless the backend has as many in flight as it may, or is on trial with another request.
    pub fn try_take(backend: &Arc<Backend>, cost: f64, now: Instant) -> Option<Self> {
        let started = Moment::of(now);
        let pass = backend.gate.pass()?;
        if backend.load().try_begin(cost, started, backend.limit.load(Ordering::Relaxed)) {
            return Some(Self::begun(Arc::clone(backend), cost, started, pass));
        }
        if let Pass::Trial(permit) = pass {
            backend.gate.give_back(permit);
        }
        None
    }

    fn begun(backend: Arc<Backend>, cost: f64, started: Moment, pass: Pass) -> Self {
        Self { backend, started, outcome: Outcome::Cancelled, cost, pass, answered: false, judged: false }
    }

    /// The backend that serves the request.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Says that the answer has begun at `now`, with what it says so far. That is the backend's latency; how long the rest
    /// takes is as much the client's doing. A second time it says nothing. A fault is one also where nobody reads the rest.
    pub fn answered(&mut self, outcome: Outcome, now: Instant) {
        self.answered_so(outcome, None, now);
    }

    fn answered_so(&mut self, outcome: Outcome, words: Option<&str>, now: Instant) {
        if !std::mem::replace(&mut self.answered, true) {
            let moment = Moment::of(now);
            self.backend.heard(outcome, self.started, moment);
            self.judge(outcome, words, now, moment);
        }
    }

    /// Says that the answer has begun at `now`, and that only its end will tell whether it is good, as in gRPC.
    pub fn begun_answer(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.answered, true) {
            let moment = Moment::of(now);
            self.backend.heard(Outcome::Success, self.started, moment);
            // A stream may last for hours: a trial is over with its beginning.
            if let Pass::Trial(_) = self.pass {
                self.backend.answered(Outcome::Success, None, self.pass, now, moment);
                self.pass = Pass::Free;
            }
        }
    }

    /// Ends the request with `outcome` at `now`.
    pub fn complete(self, outcome: Outcome, now: Instant) {
        self.complete_so(outcome, None, now);
    }

    fn complete_so(mut self, outcome: Outcome, words: Option<&str>, now: Instant) {
        if !self.answered {
            self.answered_so(outcome, words, now);
        } else if outcome.is_fault() && !self.outcome.is_fault() {
            // It had begun well.
            self.backend.load().failed_late(outcome, self.started, Moment::of(now));
            self.judge(outcome, words, now, Moment::of(now));
        } else if !self.judged {
            self.judge(outcome, words, now, Moment::of(now));
        }
        self.outcome = outcome;
    }

    /// Says that nobody waits for the answer any more, at `now`: it was [`Cancelled`](Outcome::Cancelled), and would have taken
    /// longer than it has. After it has begun this says nothing.
    pub fn give_up(mut self, now: Instant) {
        if !std::mem::replace(&mut self.answered, true) {
            self.backend.load().given_up(self.started, Moment::of(now));
        }
    }

    fn judge(&mut self, outcome: Outcome, words: Option<&str>, now: Instant, moment: Moment) {
        self.judged = true;
        if outcome.is_fault() {
            self.outcome = outcome;
        }
        self.backend.answered(outcome, words, self.pass, now, moment);
        self.pass = Pass::Free;
    }

    /// Ends the request with a failure, and its cause in words.
    ///
    /// A [transport failure](Outcome::is_transport_failure) takes the backend out of rotation at once. Where it broke off in the
    /// middle of an answer it could be reached, and it may be that answer: then it counts, as an error of its own does.
    pub fn fail(self, outcome: Outcome, cause: &str, now: Instant) {
        // While it is tried again, those decide that try it, not those that were sent before it was out.
        if !self.answered && (matches!(self.pass, Pass::Trial(_)) || self.backend.gate.is_open()) {
            match outcome {
                Outcome::ConnectFault => _ = self.backend.eject_for(EjectionCause::Transport, cause, now),
                Outcome::Reset => self.backend.broke_off(cause, now),
                _ => {}
            }
        }
        self.complete_so(outcome, Some(cause), now);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.answered {
            self.backend.load().abandoned(self.started);
        }
        // Nothing was found out: the next one is the trial.
        if let Pass::Trial(permit) = self.pass {
            self.backend.gate.give_back(permit);
        }
        self.backend.load().end(self.outcome, self.cost);
        self.backend.released(self.pass);
    }
}
