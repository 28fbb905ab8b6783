use super::{Backoff, Health, HealthState, words::beginning};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How much of a cause is kept, in bytes.
const CAUSE: usize = 400;

/// What is known of a backend's health from the four who know something: the operator, the one who brought it, the probes
/// and the traffic. Pure: each input comes with its time, and the state follows from what all of them said.
#[derive(Debug)]
pub(super) struct Standing {
    admin: Admin,
    /// When the operator said so.
    told: Option<Instant>,
    /// Since when the one who brought it takes it away, and in which words.
    leaving: Option<(Arc<str>, Instant)>,
    active: Option<Observed>,
    passive: Passive,
    /// Ejections in a row: each is twice as long as the one before.
    ejections: u32,
    /// When the last ejection ended for good, and how long it was.
    readmitted: Option<(Instant, Duration)>,
    /// The latest word on whether it can be reached. A probe that was sent before knows less.
    latest: Option<Instant>,
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admin {
    Enabled,
    Draining,
    Disabled,
}

/// What was observed from outside.
#[derive(Clone, Debug)]
struct Observed {
    healthy: bool,
    cause: Arc<str>,
    since: Instant,
}

/// What traffic has found out.
#[derive(Clone, Debug)]
enum Passive {
    Admitted,
    Ejected(Ejected),
    /// It is tried again, one request at a time.
    Probing {
        ejected: Ejected,
        since: Instant,
        passed: u32,
    },
}

#[derive(Clone, Debug)]
struct Ejected {
    cause: Arc<str>,
    since: Instant,
    until: Instant,
    /// It could not be reached, which a probe can tell as well: one that passes ends it.
    unreachable: bool,
}

/// Requests that have to be answered, one after the other, before a backend is trusted again.
const TRIALS: u32 = 2;

impl Standing {
    pub(super) fn assumed() -> Self {
        Self {
            admin: Admin::Enabled,
            told: None,
            leaving: None,
            active: None,
            passive: Passive::Admitted,
            ejections: 0,
            readmitted: None,
            latest: None,
        }
    }

    /// The state that follows, why, since when, and until when.
    pub(super) fn health(&self) -> Health {
        let known = |state, cause: &Arc<str>, since| Health::known(state, Arc::clone(cause), since);
        if let (Admin::Disabled, Some(since)) = (self.admin, self.told) {
            return known(HealthState::Disabled, &"disabled by the host".into(), since);
        }
        let drained = match (self.admin, self.told) {
            (Admin::Draining, Some(since)) => Some(("drained by the host".into(), since)),
            _ => self.leaving.clone(),
        };
        if let Some((cause, since)) = drained {
            let fails = self.active.as_ref().is_some_and(|active| !active.healthy);
            return Health::draining(cause, since, !fails && matches!(self.passive, Passive::Admitted));
        }
        match (&self.active, &self.passive) {
            (Some(Observed { healthy: false, cause, since }), _) => known(HealthState::Unhealthy, cause, *since),
            (_, Passive::Ejected(Ejected { cause, since, until, unreachable })) => {
                Health::ejected(Arc::clone(cause), *since, *until, !unreachable)
            }
            (_, Passive::Probing { ejected, since, .. }) => known(HealthState::Probing, &ejected.cause, *since),
            (Some(Observed { cause, since, .. }), Passive::Admitted) => {
                // Healthy since the last of what kept it out has ended.
                let since = self.readmitted.map_or(*since, |(readmitted, _)| readmitted.max(*since));
                known(HealthState::Healthy, cause, since)
            }
            (None, Passive::Admitted) => match self.readmitted {
                Some((since, _)) => known(HealthState::Healthy, &"it answers again".into(), since),
                None => Health::assumed(),
            },
        }
    }

    /// The operator's last word, and when he said it.
    #[cfg(feature = "etcd")]
    pub(super) fn admin(&self) -> (Admin, Option<Instant>) {
        (self.admin, self.told)
    }

    /// The operator's word.
    pub(super) fn administer(&mut self, admin: Admin, now: Instant) {
        // Saying it again does not begin it again.
        if self.admin != admin {
            self.told = Some(now);
        }
        if admin == Admin::Enabled {
            // Who wants it in wants it in now, whatever traffic has found.
            self.readmit(now);
        }
        self.admin = admin;
    }

    /// The word of the one who brought it: it leaves, because of `cause`, or with `None` stays. What the others say goes on
    /// to count, and saying it again does not begin it again.
    pub(super) fn leave(&mut self, cause: Option<&str>, now: Instant) {
        self.leaving = cause.map(|cause| {
            let since = self.leaving.as_ref().map_or(now, |(_, since)| *since);
            (cause.into(), since)
        });
    }

    /// A probe's word, or the host's, as of `when`. One that is older than the last counts for nothing: it was asked before
    /// that was known. One that confirms the state may know a newer cause of it; the date stays.
    pub(super) fn observe(&mut self, healthy: bool, cause: &str, when: Instant) {
        if self.latest.is_some_and(|latest| when < latest) {
            return;
        }
        self.latest = Some(when);
        self.note(healthy, cause, when);
        if healthy && matches!(self.unreachable(), Some(true)) {
            self.readmit(when);
        }
    }

    /// The word of others that they find it well: what was observed against it no longer counts. That it cannot be reached from
    /// here does; of that they know nothing.
    #[cfg(feature = "etcd")]
    pub(super) fn acquit(&mut self, cause: &str, when: Instant) {
        self.note(true, cause, when);
    }

    fn note(&mut self, healthy: bool, cause: &str, when: Instant) {
        let confirmed = self.active.as_ref().filter(|active| active.healthy == healthy);
        let since = confirmed.map_or(when, |active| active.since);
        let cause = beginning(cause, CAUSE);
        // A cause that stays the same, as it mostly does, is shared.
        let same = self.active.as_ref().filter(|active| *active.cause == *cause);
        let cause = same.map_or_else(|| cause.into(), |active| Arc::clone(&active.cause));
        self.active = Some(Observed { healthy, cause, since });
    }

    /// Takes it out for a while, for what traffic has found. One that is out stays out as it is; that it could not be reached
    /// is remembered, so that a probe from before counts for nothing.
    pub(super) fn eject(&mut self, cause: &str, unreachable: bool, now: Instant, backoff: Backoff, seed: u64) {
        if unreachable && self.latest.is_some_and(|latest| now < latest) {
            return;
        }
        if unreachable {
            self.latest = Some(now);
        }
        if let Passive::Ejected(_) = self.passive {
            return;
        }
        // Who has been in for longer than he was out begins anew.
        if let (Passive::Admitted, Some((since, length))) = (&self.passive, self.readmitted)
            && now.saturating_duration_since(since) > length
        {
            self.ejections = 0;
        }
        let until = now + backoff.length(self.ejections, seed);
        self.ejections = self.ejections.saturating_add(1);
        self.passive =
            Passive::Ejected(Ejected { cause: beginning(cause, CAUSE).into(), since: now, until, unreachable });
    }

    /// Lets time pass: what has been out for long enough is tried again. While probes ask whether it can be reached, traffic
    /// need not.
    pub(super) fn advance(&mut self, now: Instant, probed: bool, backoff: Backoff) {
        if let Passive::Ejected(ejected) = &mut self.passive
            && ejected.until <= now
        {
            if ejected.unreachable && probed {
                ejected.until = now + backoff.base();
            } else {
                self.passive = Passive::Probing { ejected: ejected.clone(), since: now, passed: 0 };
            }
        }
    }

    /// A request that it was tried with was answered.
    pub(super) fn trial_passed(&mut self, now: Instant) {
        if let Passive::Probing { passed, .. } = &mut self.passive {
            *passed += 1;
            if *passed >= TRIALS {
                self.readmit(now);
            }
        }
    }

    /// A request that it was tried with failed: it is out again, for longer.
    pub(super) fn trial_failed(&mut self, now: Instant, backoff: Backoff, seed: u64) {
        if let Passive::Probing { ejected, .. } = self.passive.clone() {
            self.eject(&ejected.cause, ejected.unreachable, now, backoff, seed);
        }
    }

    /// When time alone will change something.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.passive {
            Passive::Ejected(ejected) if self.admin == Admin::Enabled && self.leaving.is_none() => Some(ejected.until),
            _ => None,
        }
    }

    fn unreachable(&self) -> Option<bool> {
        match &self.passive {
            Passive::Ejected(ejected) | Passive::Probing { ejected, .. } => Some(ejected.unreachable),
            Passive::Admitted => None,
        }
    }

    fn readmit(&mut self, now: Instant) {
        if let Passive::Ejected(ejected) | Passive::Probing { ejected, .. } = &self.passive {
            self.readmitted = Some((now, ejected.until.saturating_duration_since(ejected.since)));
            self.passive = Passive::Admitted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthState::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// Without chance: the length of the first ejection is between 4 and 6 s.
    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(300) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn of_a_long_cause_the_beginning_is_kept() {
        let (start, long) = (origin(), "é".repeat(CAUSE));
        let kept = |standing: &Standing| standing.health().cause().map(str::to_owned).unwrap_or_default();
        let mut standing = Standing::assumed();
        standing.observe(false, &long, start);
        assert_eq!(kept(&standing), "é".repeat(CAUSE / 2));
        let mut standing = Standing::assumed();
        standing.eject(&long, false, start, Backoff::default(), 0);
        assert_eq!(kept(&standing), "é".repeat(CAUSE / 2));
    }

    #[test]
    fn what_is_older_than_the_last_word_counts_for_nothing() {
        let start = origin();
        let mut standing = Standing::assumed();
        assert_eq!(standing.health(), Health::assumed());

        // What is observed, when, and what is known then: the state, the cause, and since when.
        for (healthy, cause, when, state, known, since) in [
            (true, "status: 200", 1, Healthy, "status: 200", 1),
            (true, "status: 204", 2, Healthy, "status: 204", 1),
            (false, "Connection refused", 3, Unhealthy, "Connection refused", 3),
            (false, "timed out", 5, Unhealthy, "timed out", 3),
            (true, "asked before it broke", 2, Unhealthy, "timed out", 3),
            (true, "asked before it was last seen broken", 4, Unhealthy, "timed out", 3),
            (true, "status: 200", 5, Healthy, "status: 200", 5),
        ] {
            standing.observe(healthy, cause, start + seconds(when));
            let health = standing.health();
            assert_eq!((health.state(), health.cause()), (state, Some(known)), "{cause}");
            assert_eq!(health.since(), Some(start + seconds(since)), "{cause}");
        }
    }

    #[test]
    fn what_could_not_be_reached_comes_back_by_a_probe_that_was_sent_later() {
        let start = origin();
        let mut standing = Standing::assumed();
        standing.observe(true, "status: 200", start);
        standing.eject("Connection refused", true, start + seconds(10), BACKOFF, 1);
        assert_eq!(standing.health().state(), Ejected);
        standing.observe(true, "status: 200", start + seconds(9));
        assert_eq!(standing.health().state(), Ejected);
        standing.observe(true, "status: 200", start + seconds(11));
        assert_eq!(standing.health().state(), Healthy);
        assert_eq!(standing.health().since(), Some(start + seconds(11)));

        // While somebody asks, nobody tries.
        standing.eject("Connection refused", true, start + seconds(20), BACKOFF, 1);
        standing.advance(start + seconds(40), true, BACKOFF);
        assert_eq!(standing.health().state(), Ejected);
        standing.advance(start + seconds(60), false, BACKOFF);
        assert_eq!(standing.health().state(), Probing);
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn what_could_not_be_reached_does_not_come_back_because_others_reach_it() {
        let start = origin();
        let mut standing = Standing::assumed();
        standing.eject("Connection refused", true, start + seconds(1), BACKOFF, 1);
        standing.observe(false, "refused (2 of 2 gateways)", start + seconds(3));
        standing.acquit("well by 2 of 2 gateways", start + seconds(5));
        assert_eq!((standing.health().state(), standing.health().since()), (Ejected, Some(start + seconds(1))));
        // A check of our own that began after anything else that was known from here.
        standing.observe(true, "status: 200", start + seconds(4));
        assert_eq!(standing.health().state(), Healthy);
    }

    #[test]
    fn what_answered_badly_does_not_come_back_by_a_probe() {
        let start = origin();
        let mut standing = Standing::assumed();
        standing.eject("5 failures in a row", false, start, BACKOFF, 1);
        standing.observe(true, "status: 200", start + seconds(1));
        assert_eq!(standing.health().state(), Ejected);
        // But a probe that fails keeps it out.
        standing.observe(false, "status: 500", start + seconds(2));
        standing.advance(start + seconds(7), true, BACKOFF);
        assert_eq!(standing.health().state(), Unhealthy);
        standing.observe(true, "status: 200", start + seconds(8));
        assert_eq!(standing.health().state(), Probing);
    }

    #[test]
    fn two_answers_bring_it_back_and_a_failure_puts_it_out_for_twice_as_long() {
        let start = origin();
        let mut standing = Standing::assumed();
        let mut now = start;
        standing.eject("broken", false, now, BACKOFF, 7);
        for turn in 0..8 {
            let length = (standing.health().until().unwrap() - now).as_secs_f64();
            let expected = (5.0 * f64::from(1 << turn)).min(300.0);
            assert!((0.8..=1.2).contains(&(length / expected)), "{turn}: {length}");
            now = standing.health().until().unwrap();
            standing.advance(now, true, BACKOFF);
            standing.trial_passed(now);
            assert_eq!(standing.health().state(), Probing);
            standing.trial_failed(now, BACKOFF, 7);
            assert_eq!(standing.health().state(), Ejected);
        }
        now = standing.health().until().unwrap();
        standing.advance(now, true, BACKOFF);
        standing.trial_passed(now);
        standing.trial_passed(now);
        assert_eq!((standing.health().state(), standing.health().cause()), (Healthy, Some("it answers again")));
        // Who has been in for longer than he was out begins anew.
        standing.eject("broken", false, now + seconds(400), BACKOFF, 7);
        assert!(standing.health().until().unwrap() - now <= seconds(406));
    }

    #[test]
    fn the_host_has_the_last_word() {
        let start = origin();
        let mut standing = Standing::assumed();
        standing.administer(Admin::Disabled, start);
        standing.observe(true, "status: 200", start);
        standing.eject("broken", false, start, BACKOFF, 1);
        assert_eq!((standing.health().state(), standing.due()), (Disabled, None));
        standing.administer(Admin::Draining, start);
        // Said again, it does not begin again.
        standing.administer(Admin::Draining, start + seconds(1));
        assert_eq!(standing.health().since(), Some(start));
        assert_eq!(standing.health().state(), Draining);
        assert!(!standing.health().is_draining_and_well());
        // What traffic had found is put aside; what probes find is not.
        standing.administer(Admin::Enabled, start + seconds(1));
        assert_eq!(standing.health().state(), Healthy);
        standing.observe(false, "status: 500", start + seconds(2));
        standing.administer(Admin::Enabled, start + seconds(3));
        assert_eq!(standing.health().state(), Unhealthy);
    }

    #[test]
    fn who_brought_it_drains_it_and_changes_nothing_else() {
        let start = origin();
        let mut standing = Standing::assumed();
        standing.leave(Some("its source drains it"), start);
        standing.leave(Some("its source lists it no more"), start + seconds(1));
        let health = standing.health();
        assert_eq!((health.state(), health.since()), (Draining, Some(start)));
        assert!(health.is_draining_and_well());
        assert_eq!(health.cause(), Some("its source lists it no more"));

        // The operator lets it, and so he does; an ejection goes on beside it.
        standing.administer(Admin::Enabled, start);
        assert_eq!(standing.health().state(), Draining);
        standing.eject("broken", false, start, BACKOFF, 1);
        assert_eq!((standing.health().state(), standing.due()), (Draining, None));
        standing.leave(None, start + seconds(1));
        assert_eq!(standing.health().state(), Ejected);

        // What the operator says goes before it, and stays when it has ended.
        standing.administer(Admin::Disabled, start);
        standing.leave(Some("its source drains it"), start);
        assert_eq!(standing.health().state(), Disabled);
        standing.leave(None, start);
        assert_eq!(standing.health().state(), Disabled);
    }

    #[derive(Clone, Debug)]
    enum Input {
        Observe(bool, u64),
        Eject(bool),
        Advance(bool),
        Passed,
        Failed,
        Disable(bool),
        Leave(bool),
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            (any::<bool>(), 0..10_u64).prop_map(|(healthy, ago)| Input::Observe(healthy, ago)),
            any::<bool>().prop_map(Input::Eject),
            any::<bool>().prop_map(Input::Advance),
            Just(Input::Passed),
            Just(Input::Failed),
            any::<bool>().prop_map(Input::Disable),
            any::<bool>().prop_map(Input::Leave),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_it_is_never_stuck(inputs in proptest::collection::vec((input(), 0..20_u64), 0..60)) {
            let mut now = origin() + seconds(100);
            let mut standing = Standing::assumed();
            for (input, later) in inputs {
                now += seconds(later);
                match input {
                    Input::Observe(healthy, ago) => standing.observe(healthy, "probe", now - seconds(ago)),
                    Input::Eject(unreachable) => standing.eject("traffic", unreachable, now, BACKOFF, later),
                    Input::Advance(probed) => standing.advance(now, probed, BACKOFF),
                    Input::Passed => standing.trial_passed(now),
                    Input::Failed => standing.trial_failed(now, BACKOFF, later),
                    Input::Disable(true) => standing.administer(Admin::Disabled, now),
                    Input::Disable(false) => standing.administer(Admin::Enabled, now),
                    Input::Leave(leaves) => standing.leave(leaves.then_some("source"), now),
                }
                let health = standing.health();
                // What is out has a reason and a date; what ends by itself has an end, and somebody is told.
                prop_assert!(health.state().is_eligible() || (health.cause().is_some() && health.since().is_some()));
                prop_assert_eq!(health.state() == Ejected, health.until().is_some());
                prop_assert!(health.until().is_none() || standing.due() == health.until());
                prop_assert!(health.until().is_none_or(|until| until <= now + seconds(360)));
            }
            // The host lets it, a probe passes, time passes, two requests are answered: it is in.
            standing.leave(None, now);
            standing.administer(Admin::Enabled, now);
            standing.observe(true, "probe", now);
            now += seconds(361);
            standing.advance(now, false, BACKOFF);
            standing.trial_passed(now);
            standing.trial_passed(now);
            prop_assert_eq!(standing.health().state(), Healthy);
        }
    }
}
