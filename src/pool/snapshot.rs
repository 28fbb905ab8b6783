use super::{Explanation, Members};
use crate::{
    backend::{Backend, BackendId},
    error::Unavailable,
    strategy::{Admission, Candidates, Eligible, Hint, Picker},
};
use std::{fmt, sync::Arc};

/// One version of a pool: the members, which of them are eligible, and the picker that was built over exactly these
/// members. Published as a whole, never changed: whoever holds one sees one consistent version.
///
/// The pool's own snapshot has no picker (`P = ()`); a [`View`](super::View) adds that of its strategy.
pub struct Snapshot<T, P = ()> {
    pub(super) members: Arc<Members<T>>,
    pub(super) eligible: Arc<Eligible>,
    pub(super) picker: Arc<P>,
}

impl<T, P> Snapshot<T, P> {
    /// All members.
    pub fn members(&self) -> &Arc<Members<T>> {
        &self.members
    }

    /// What a picker picks from.
    pub fn candidates(&self) -> Candidates<'_> {
        Candidates::new(self.members.backends(), &self.eligible)
    }

    /// The same version as another picker sees it.
    pub(super) fn with_picker<Q>(&self, picker: Arc<Q>) -> Snapshot<T, Q> {
        Snapshot { members: Arc::clone(&self.members), eligible: Arc::clone(&self.eligible), picker }
    }
}

impl<T, P: Picker> Snapshot<T, P> {
    /// Whether one more request could be taken.
    pub fn admit(&self) -> Admission {
        self.picker.admit(&self.candidates())
    }

    /// The backend for the request that `hint` describes, and its target.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] where no backend can take it.
    pub fn pick(&self, hint: &Hint<'_>) -> Result<(&Arc<Backend>, &T), Unavailable> {
        if hint.excluded.is_empty() {
            return self.pick_among(self.candidates(), hint);
        }
        // Only a second attempt comes here. Excluding is taking away, once, for every strategy.
        let mut untried = (*self.eligible).clone();
        for (index, backend) in self.candidates().iter() {
            if hint.excluded.contains(backend.id()) {
                untried.set(index, false);
            }
        }
        let untried = Candidates::new(self.members.backends(), &untried);
        self.pick_among(if untried.is_empty() { self.candidates() } else { untried }, hint)
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
        // backend that is out.
        let picked = self.picker.pick(&candidates, hint).filter(|&index| candidates.is_eligible(index));
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
