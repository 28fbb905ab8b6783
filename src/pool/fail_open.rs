use crate::{
    backend::{Backend, HealthState},
    strategy::Eligible,
};
use std::sync::Arc;

/// Who is picked from where too few backends are well: what the checks say may be wrong, and the few that are left may not
/// bear what all bore.
///
/// It begins below half of the backends, and ends above 60 %, so that it does not flicker. Backends that the host has
/// disabled or drains count neither way and are never picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailOpen {
    /// Only from those that are well; with none, requests are refused.
    #[default]
    Reject,
    /// From all: the checks are believed no longer. Envoy calls it panic.
    AllBackends,
    /// From those that are well and those that answer, if badly: ejected for their answers. From all where there are none.
    LeastBad,
}

/// It begins below this share of available backends, and ends above that.
const ENTER: f64 = 0.5;
const LEAVE: f64 = 0.6;

impl FailOpen {
    /// Which of `backends` may be picked, and whether that is more than are well, given whether it was so before.
    pub(super) fn eligible(self, backends: &[Arc<Backend>], was_open: bool) -> (Eligible, bool) {
        let well = || Eligible::new(backends.iter().map(|backend| backend.is_eligible()));
        if self == Self::Reject {
            return (well(), false);
        }
        let health: Vec<_> = backends.iter().map(|backend| backend.health()).collect();
        let enabled = |state| !matches!(state, HealthState::Draining | HealthState::Disabled);
        let available = health.iter().filter(|health| health.state().is_eligible()).count() as f64;
        let share = available / health.iter().filter(|health| enabled(health.state())).count().max(1) as f64;
        if share > if was_open { LEAVE } else { ENTER } || (!was_open && share == ENTER) {
            return (well(), false);
        }
        let all = || Eligible::new(health.iter().map(|health| enabled(health.state())));
        if self == Self::LeastBad {
            let answer =
                |health: &crate::backend::Health| health.state().is_eligible() || health.is_ejected_for_answers();
            let answering = Eligible::new(health.iter().map(|health| answer(health)));
            if !answering.as_slice().is_empty() {
                return (answering, true);
            }
        }
        (all(), true)
    }
}
