use super::{Explanation, FailOpen, Members};
use crate::{
    backend::{Backend, BackendId, Lease},
    error::{Reason, Unavailable},
    strategy::{Admission, Candidates, Eligible, Hint, Index, Picker},
};
use std::{fmt, sync::Arc, time::Duration};

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
        let candidates = self.candidates();
        match self.picker.admit(&candidates) {
            // Mostly the first one has room.
            Admission::Admit if candidates.iter().all(|(_, backend)| backend.is_full()) => {
                Admission::Refuse(Unavailable::new(Reason::AllAtLimit))
            }
            admission => admission,
        }
    }

    /// The backend for the request that `hint` describes, and its target.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where no backend can take it.
    pub fn pick(&self, hint: &Hint<'_>) -> Result<(&Arc<Backend>, &T), Unavailable> {
        if hint.excluded.is_empty() {
            self.pick_among(self.candidates(), hint)
        } else {
            self.pick_among(Candidates::new(self.members.backends(), &self.untried(hint)), hint)
        }
    }

    /// Picks as [`pick`](Self::pick) does, and takes a lease on what was picked. A backend that is full, on trial with another
    /// request, or has stopped answering, is passed over: then the strategy is asked again about the others.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where no backend can take it.
    pub fn lease(&self, hint: &Hint<'_>) -> Result<(Lease, &T), Unavailable> {
        let (backend, target) = self.pick(hint)?;
        // A client that is bound to a backend waits for it.
        if (hint.session.is_some() || !backend.keeps_off(hint.now))
            && let Some(lease) = Lease::try_take(backend, hint.work(), hint.now)
        {
            return Ok((lease, target));
        }
        self.lease_another(hint)
    }

    /// The strategy picked one that cannot take the request. That is seldom, and may cost a list.
    #[cold]
    fn lease_another(&self, hint: &Hint<'_>) -> Result<(Lease, &T), Unavailable> {
        let untried = self.untried(hint);
        // One that is silent is better than none.
        for silent in [false, true] {
            let mut rest = untried.clone();
            for &index in untried.as_slice() {
                let backend = &self.members.backends()[index.get()];
                if backend.is_full() || (!silent && backend.is_silent(hint.now)) {
                    rest.set(index, false);
                }
            }
            while let Ok((backend, target)) = self.pick_among(Candidates::new(self.members.backends(), &rest), hint) {
                if let Some(lease) = Lease::try_take(backend, hint.work(), hint.now) {
                    return Ok((lease, target));
                }
                let Some(index) = self.members.place(backend.id().as_str()) else { break };
                rest.set(index, false);
            }
        }
        Err(Unavailable::new(Reason::AllAtLimit))
    }

    /// Those that are eligible and were not tried; where all were, those that are eligible. Excluding is taking away, once,
    /// for every strategy.
    fn untried(&self, hint: &Hint<'_>) -> Eligible {
        let mut untried = (*self.eligible).clone();
        for id in hint.excluded {
            if let Some(index) = self.members.place(id.as_str()) {
                untried.set(index, false);
            }
        }
        if untried.as_slice().is_empty() { (*self.eligible).clone() } else { untried }
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
        let picked = self.pick(hint).ok().map(|(backend, _)| backend.id());
        self.explain_pick(hint, picked)
    }

    /// Says why the request that `hint` describes went to `picked`.
    pub(crate) fn explain_pick(&self, hint: &Hint<'_>, picked: Option<&BackendId>) -> Explanation {
        Explanation::new(self, hint, picked)
    }

    fn pick_among(&self, candidates: Candidates<'_>, hint: &Hint<'_>) -> Result<(&Arc<Backend>, &T), Unavailable> {
        // A picker that answers with something else than a candidate is broken: that costs a 503, not a request to a
        // backend that is out. But for a session, one that is drained will do where it was not tried yet.
        let may_be = |&index: &Index| {
            let is_drained = |backend: &Arc<Backend>| {
                backend.is_draining(hint.now, Duration::MAX) && !hint.excluded.contains(backend.id())
            };
            let keeps_session = || hint.session.is_some() && candidates.get(index).is_some_and(is_drained);
            candidates.is_eligible(index) || keeps_session()
        };
        let picked = self.picker.pick(&candidates, hint).filter(may_be);
        let picked = picked.and_then(|index| self.members.get(index));
        picked.ok_or_else(|| candidates.unavailable())
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
