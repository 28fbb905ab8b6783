use std::{fmt, sync::Arc, time::Instant};

/// Whether a backend may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// It is in rotation.
    Healthy,
    /// It is out of rotation until something says otherwise.
    Unhealthy,
}

impl HealthState {
    /// The state as one lower-case word, for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known about a backend's health: the state, why, and since when.
///
/// A new backend is healthy by assumption: it has neither cause nor date until the first observation.
#[derive(Clone, Debug)]
pub struct Health {
    state: HealthState,
    observed: Option<Observed>,
}

#[derive(Clone, Debug)]
struct Observed {
    cause: Arc<str>,
    since: Instant,
    /// When the state was last confirmed.
    latest: Instant,
}

impl Health {
    /// Healthy, because nobody has said otherwise.
    pub(super) fn assumed() -> Self {
        Self { state: HealthState::Healthy, observed: None }
    }

    /// The state.
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// What was observed last, in words; `None` while the state is an assumption.
    pub fn cause(&self) -> Option<&str> {
        self.observed.as_ref().map(|observed| &*observed.cause)
    }

    /// When the state was first observed; `None` while it is an assumption.
    pub fn since(&self) -> Option<Instant> {
        self.observed.as_ref().map(|observed| observed.since)
    }

    /// What an observation, as of `when`, makes of it, and whether that is news. The first one always is: it turns the
    /// assumption into knowledge. One that confirms the state may know a newer cause of it; the date stays. One that is
    /// older than the last one counts for nothing: a probe that was sent before a request failed does not know of it.
    pub(super) fn after(&self, state: HealthState, cause: &str, when: Instant) -> Option<(Self, bool)> {
        let known = self.observed.as_ref();
        if known.is_some_and(|known| when < known.latest) {
            return None;
        }
        let confirmed = known.filter(|_| self.state == state);
        let since = confirmed.map_or(when, |known| known.since);
        // A cause that stays the same, as it mostly does, is shared.
        let cause =
            known.filter(|known| *known.cause == *cause).map_or_else(|| cause.into(), |known| Arc::clone(&known.cause));
        Some((Self { state, observed: Some(Observed { cause, since, latest: when }) }, confirmed.is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthState::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn the_first_observation_and_every_change_are_news_and_nothing_else_is() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::assumed();
        assert_eq!((health.state(), health.cause(), health.since()), (Healthy, None, None));

        // What is observed, when, whether it is news, and what is known then: the cause, and since when.
        for (state, cause, when, news, known, since) in [
            (Healthy, "status: 200", 1, true, "status: 200", 1),
            (Healthy, "status: 204", 2, false, "status: 204", 1),
            (Unhealthy, "Connection refused", 3, true, "Connection refused", 3),
            (Unhealthy, "timed out", 5, false, "timed out", 3),
            (Healthy, "asked before it broke", 2, false, "timed out", 3),
            (Healthy, "asked before it was last seen broken", 4, false, "timed out", 3),
            (Healthy, "status: 200", 5, true, "status: 200", 5),
        ] {
            let after = health.after(state, cause, at(when));
            assert_eq!(after.as_ref().is_some_and(|(_, news)| *news), news, "{cause}");
            health = after.map_or(health, |(after, _)| after);
            assert_eq!((health.cause(), health.since()), (Some(known), Some(at(since))), "{cause}");
        }
    }
}
