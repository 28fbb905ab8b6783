use super::{Explanation, FailOpen, Members};
use crate::{
    backend::{Backend, BackendId, HealthState, Lease},
    error::{Reason, Unavailable},
    strategy::{Admission, Candidates, Eligible, Hint, Index, Picker},
};
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// One version of a pool: the members, which of them are eligible, and the picker that was built over exactly these
/// members. Published as a whole, never changed: whoever holds one sees one consistent version.
///
/// The pool's own snapshot has no picker (`P = ()`); a [`View`](super::View) adds that of its strategy.
pub struct Snapshot<T, P = ()> {
    pub(super) members: Arc<Members<T>>,
    pub(super) eligible: Arc<Eligible>,
    pub(super) fail_open: FailOpen,
    pub(super) is_open: bool,
    pub(super) picker: Arc<P>,
}

impl<T, P> Snapshot<T, P> {
    /// All members.
    pub fn members(&self) -> &Arc<Members<T>> {
        &self.members
    }

    /// The number of the set of eligible backends: equal numbers are equal sets.
    pub fn version(&self) -> u64 {
        self.eligible.version()
    }

    /// Whether too few backends are well, and others are picked as well: see [`FailOpen`].
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// What a picker picks from.
    pub fn candidates(&self) -> Candidates<'_> {
        Candidates::new(self.members.backends(), &self.eligible)
    }

    /// The same version as another picker sees it.
    pub(super) fn with_picker<Q>(&self, picker: Arc<Q>) -> Snapshot<T, Q> {
        Snapshot {
            members: Arc::clone(&self.members),
            eligible: Arc::clone(&self.eligible),
            fail_open: self.fail_open,
            is_open: self.is_open,
            picker,
        }
    }
}

impl<T, P: Picker> Snapshot<T, P> {
    /// Whether one more request could be taken.
    pub fn admit(&self) -> Admission {
        self.admit_beside(0)
    }

    /// Whether one more could be, beside so many that were promised to others.
    pub(crate) fn admit_beside(&self, promised: usize) -> Admission {
        let candidates = self.candidates();
        let mut missing = promised + 1;
        // Mostly the first one has room for all.
        let mut fills = |(_, backend): (_, &Arc<Backend>)| {
            missing = missing.saturating_sub(backend.room() as usize);
            missing == 0
        };
        match self.picker.admit(&candidates) {
            Admission::Admit if !candidates.iter().any(&mut fills) => {
                Admission::Refuse(Unavailable::new(Reason::AllAtLimit))
            }
            admission => admission,
        }
    }

    /// What to tell a caller that has waited in vain, or may not wait, for `reason`: what is missing, where it is more than
    /// room.
    pub(crate) fn refuse(&self, reason: Reason) -> Unavailable {
        match self.admit() {
            Admission::Refuse(unavailable) if unavailable.reason() != Reason::AllAtLimit => unavailable,
            _ => self.full(reason),
        }
    }

    /// The same where nobody has room, for `reason`: who is on trial with a request is not well yet.
    fn full(&self, reason: Reason) -> Unavailable {
        let is_on_trial = |(_, backend): (_, &Arc<Backend>)| backend.health().state() == HealthState::Probing;
        Unavailable::new(if self.candidates().iter().all(is_on_trial) { Reason::AllUnhealthy } else { reason })
    }

    /// The backend for the request that `hint` describes, and its target.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where no backend can take it.
    pub fn pick(&self, hint: &Hint<'_>) -> Result<(&Arc<Backend>, &T), Unavailable> {
        self.at(self.index(hint)?)
    }

    /// Picks as [`pick`](Self::pick) does, and takes a lease on what was picked. A backend that is full, on trial with another
    /// request, has stopped answering, or asked to be left alone, is passed over: then the strategy is asked again about the
    /// others.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where no backend can take it.
    pub fn lease(&self, hint: &Hint<'_>) -> Result<(Lease, &T), Unavailable> {
        let index = self.index(hint)?;
        // Who is bound to a backend waits for it.
        let may_go = !self.at(index)?.0.keeps_off(hint.now) || self.picker.binds(index, hint);
        if may_go && let Some(leased) = self.try_lease(index, hint)? {
            return Ok(leased);
        }
        self.lease_another(hint, index)
    }

    /// A lease on the backend at `index`, if that has room.
    fn try_lease(&self, index: Index, hint: &Hint<'_>) -> Result<Option<(Lease, &T)>, Unavailable> {
        let (backend, target) = self.at(index)?;
        Ok(Lease::try_take(backend, hint.work(), hint.now).map(|lease| (lease, target)))
    }

    /// The strategy picked one that cannot take the request. That is seldom, and may cost a list.
    #[cold]
    fn lease_another(&self, hint: &Hint<'_>, picked: Index) -> Result<(Lease, &T), Unavailable> {
        let (hint, untried) = (&hint.unbound(), self.untried(hint));
        // One that is silent or rests is better than none: then the one that was picked, or a strategy that takes turns would
        // take two for each request.
        for any in [false, true] {
            if any
                && untried.contains(picked)
                && let Some(leased) = self.try_lease(picked, hint)?
            {
                return Ok(leased);
            }
            let backends = self.members.backends().iter().enumerate();
            let mut rest = Eligible::for_once(backends.map(|(place, backend)| {
                let may_be = untried.contains(Index::new(place)) && !backend.is_full();
                may_be && (any || !backend.is_silent(hint.now) && !backend.is_resting(hint.now))
            }));
            // Each turn takes one away, so this ends.
            while !rest.as_slice().is_empty()
                && let Ok(index) = self.index_among(Candidates::new(self.members.backends(), &rest), hint)
            {
                if let Some(leased) = self.try_lease(index, hint)? {
                    return Ok(leased);
                }
                rest.set(index, false);
            }
        }
        Err(self.full(Reason::AllAtLimit))
    }

    /// Those that are eligible and were not tried; where all were, those that are eligible, if that will do. Excluding is taking away, once,
    /// for every strategy.
    fn untried(&self, hint: &Hint<'_>) -> Cow<'_, Eligible> {
        if hint.excluded.is_empty() {
            return Cow::Borrowed(&self.eligible);
        }
        let mut untried = (*self.eligible).clone().one_off();
        for id in hint.excluded {
            if let Some(index) = self.members.place(id.as_str()) {
                untried.set(index, false);
            }
        }
        if untried.as_slice().is_empty() && !hint.others_only {
            return Cow::Borrowed(&self.eligible);
        }
        Cow::Owned(untried)
    }

    /// Picks as [`pick`](Self::pick) does, and says why: for an operator who asks, not for the way of a request. It counts as
    /// a pick: a cursor moves on.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tower_balancer::{BackendPool, strategy::{Hint, LeastRequest}};
    ///
    /// let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
    /// pool.mark_unhealthy("http://10.0.0.2:8080");
    /// let view = pool.view(LeastRequest::new());
    ///
    /// let explanation = view.load().explain(&Hint::new(Instant::now(), 0));
    /// assert_eq!(explanation.picked.as_ref().unwrap(), "http://10.0.0.1:8080");
    /// assert_eq!(explanation.out[0].0, "http://10.0.0.2:8080");
    /// println!("{explanation}");
    /// # Ok::<_, tower_balancer::pool::InvalidMember>(())
    /// ```
    pub fn explain(&self, hint: &Hint<'_>) -> Explanation {
        let before = Explanation::before(self, hint);
        let picked = self.pick(hint).ok().map(|(backend, _)| backend.id());
        self.explained(before, hint, picked)
    }

    /// How things stand before the request that `hint` describes is decided on.
    pub(crate) fn explain_before(&self, hint: &Hint<'_>) -> Explanation {
        Explanation::before(self, hint)
    }

    /// Why it went to `picked`.
    pub(crate) fn explained(&self, before: Explanation, hint: &Hint<'_>, picked: Option<&BackendId>) -> Explanation {
        match picked {
            Some(picked) => before.after(self, hint, picked),
            None => before,
        }
    }

    fn index(&self, hint: &Hint<'_>) -> Result<Index, Unavailable> {
        if hint.excluded.is_empty() {
            return self.index_among(self.candidates(), hint);
        }
        // Only a second attempt comes here.
        self.index_among(Candidates::new(self.members.backends(), &self.untried(hint)), hint)
    }

    /// A picker that answers with something else than a candidate is broken: that costs a 503, not a request to a backend that
    /// is out. But one that is drained may be picked for what is bound to it.
    fn index_among(&self, candidates: Candidates<'_>, hint: &Hint<'_>) -> Result<Index, Unavailable> {
        let may_be = |&index: &Index| {
            let is_draining = |backend: &Arc<Backend>| backend.is_draining(hint.now, Duration::MAX);
            let is_bound = || self.picker.binds(index, hint) && candidates.get(index).is_some_and(is_draining);
            candidates.is_eligible(index) || is_bound()
        };
        let picked = self.picker.pick(&candidates, hint).filter(may_be);
        picked.ok_or_else(|| candidates.unavailable())
    }

    fn at(&self, index: Index) -> Result<(&Arc<Backend>, &T), Unavailable> {
        self.members.get(index).ok_or_else(|| self.candidates().unavailable())
    }
}

impl<T, P> fmt::Debug for Snapshot<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("members", &self.members)
            .field("eligible", &self.eligible)
            .finish_non_exhaustive()
    }
}
