use super::{
    check::Answer,
    pace::Pace,
    streak::{Streak, Thresholds},
};
use crate::{
    backend::{Backend, BackendId, HealthState},
    sync::locked,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Instant,
};

/// What a checker has found out about each backend so far. Its clones, and its runs one after the other, share it.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<HashMap<BackendId, Finding>>);

#[derive(Debug)]
struct Finding {
    /// A backend that left and came back under the same id is another one.
    backend: Weak<Backend>,
    streak: Streak,
}

impl Findings {
    /// Takes in what was found out about `backend`, which was asked at `asked`, and marks it where that counts. Returns how
    /// soon it wants to be checked again.
    pub(super) fn conclude(
        &self,
        backend: &Arc<Backend>,
        answer: &Answer,
        asked: Instant,
        now: Instant,
        thresholds: Thresholds,
    ) -> Pace {
        self.with(backend, |streak| {
            streak.notice(in_rotation(backend));
            let (healthy, cause) = match answer {
                Answer::Well(seen) => (true, seen),
                Answer::Ill(cause) => (false, cause),
                Answer::Nothing(cause) => {
                    tracing::error!(backend = %backend.id(), cause, "cannot probe");
                    return streak.pace();
                }
            };
            backend.stats().checked(healthy);
            if is_older(asked, backend, now) {
                return Pace::AtOnce;
            }
            if !streak.count(healthy, thresholds) {
                tracing::debug!(backend = %backend.id(), healthy, cause, "too few in a row to change its state");
            } else if healthy {
                backend.mark_healthy(cause, asked);
            } else {
                backend.mark_unhealthy(cause, asked);
            }
            streak.left(in_rotation(backend));
            // Somebody may have spoken just before the mark.
            if is_older(asked, backend, now) { Pace::AtOnce } else { streak.pace() }
        })
    }

    /// Whether somebody else has taken `backend` out since it was last looked at.
    pub(super) fn is_doubted(&self, backend: &Arc<Backend>) -> bool {
        self.with(backend, |streak| streak.notice(in_rotation(backend)))
    }

    /// Forgets `backend`, unless another has its id by now.
    pub(super) fn forget(&self, backend: &Arc<Backend>) {
        let mut findings = locked(&self.0);
        if findings.get(backend.id().as_str()).is_some_and(|finding| finding.is_about(backend)) {
            findings.remove(backend.id().as_str());
        }
    }

    /// Forgets backends that are no longer anywhere.
    pub(super) fn forget_the_gone(&self) {
        let mut findings = locked(&self.0);
        findings.retain(|_, finding| finding.backend.strong_count() > 0);
    }

    /// The lock is held while a backend is marked: results of one backend are taken in one after the other.
    fn with<R>(&self, backend: &Arc<Backend>, look: impl FnOnce(&mut Streak) -> R) -> R {
        let mut findings = locked(&self.0);
        let new = || Finding { backend: Arc::downgrade(backend), streak: Streak::default() };
        let finding = findings.entry(backend.id().clone()).or_insert_with(new);
        if !finding.is_about(backend) {
            *finding = new();
        }
        look(&mut finding.streak)
    }
}

impl Finding {
    fn is_about(&self, backend: &Arc<Backend>) -> bool {
        std::ptr::eq(self.backend.as_ptr(), Arc::as_ptr(backend))
    }
}

/// Whether it is in rotation, by its checks and by traffic. What the host wants of it says nothing about that.
fn in_rotation(backend: &Backend) -> Option<bool> {
    match backend.health().state() {
        HealthState::Draining | HealthState::Disabled => None,
        state => Some(state.is_eligible()),
    }
}

/// Whether what was asked at `asked` knows less than what the state follows from. A date that is still to come says nothing.
fn is_older(asked: Instant, backend: &Backend, now: Instant) -> bool {
    backend.health().since().is_some_and(|since| asked < since && since <= now)
}
