//! What the verdict of all, and what this gateway's own requests have found, come to for a backend.

use super::council::Verdict;
use crate::backend::{Backend, HealthState};
use std::time::Instant;

/// Whether this gateway's own requests could not reach it.
pub(super) fn is_out_of_reach(backend: &Backend) -> bool {
    let health = backend.health();
    health.state() == HealthState::Ejected && !health.is_ejected_for_answers()
}

/// Makes the pool say what the council says. One that traffic has taken out stays out: being well to others does not help here.
pub(super) fn pass(backend: &Backend, verdict: &Verdict, now: Instant) {
    use HealthState::{Disabled, Draining, Unhealthy};
    let health = backend.health();
    match verdict {
        Verdict::Ill { ill, of, cause } if health.state() != Unhealthy => {
            match of {
                1 => backend.mark_unhealthy(cause, now),
                _ => backend.mark_unhealthy(&format!("{cause} ({ill} of {of} gateways)"), now),
            };
        }
        // Of one that is drained it cannot be seen what was said before.
        Verdict::Well { well, of }
            if health.cause().is_none() || matches!(health.state(), Unhealthy | Draining | Disabled) =>
        {
            match of {
                1 => backend.acquit("it passes its checks", now),
                _ => backend.acquit(&format!("well by {well} of {of} gateways"), now),
            };
        }
        Verdict::Unasked if health.cause().is_none() => _ = backend.mark_unhealthy("not checked yet", now),
        _ => {}
    }
}

/// Lets `backend`, which requests could not reach, back in where a check that began later could; else has it checked.
pub(super) fn reach(backend: &Backend, asked: Option<&Backend>, now: Instant) {
    let Some(asked) = asked else { return };
    let (out, found) = (backend.health(), asked.health());
    let Some((cause, since)) = found.cause().zip(found.since()) else { return };
    if found.state() != HealthState::Healthy || (out.since() <= Some(since) && backend.mark_healthy(cause, since)) {
        return;
    }
    // What traffic has found counts as a check that failed, and the next is at once.
    asked.mark_unhealthy(out.cause().unwrap_or_default(), now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Lease, Outcome},
        pool::{BackendPool, Member},
    };
    use std::{sync::Arc, time::Duration};

    #[test]
    fn one_that_fails_again_after_a_check_has_passed_is_checked_again() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let one = || BackendPool::from_members([Member::new("a", ())]).unwrap();
        let (pool, share) = (one(), one());
        let (backend, asked) = (pool.get("a").unwrap(), share.get("a").unwrap());
        let fails = |when| Lease::take(Arc::clone(&backend), when).fail(Outcome::ConnectFault, "refused", when);
        fails(at(1));
        asked.mark_healthy("status: 200", at(2));
        fails(at(3));
        reach(&backend, Some(&asked), at(4));
        let states = || (backend.health().state(), asked.health().state());
        assert_eq!(states(), (HealthState::Ejected, HealthState::Unhealthy));
        asked.mark_healthy("status: 200", at(5));
        reach(&backend, Some(&asked), at(6));
        assert_eq!(states(), (HealthState::Healthy, HealthState::Healthy));
    }
}
