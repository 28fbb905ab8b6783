use std::{fmt, sync::Arc, time::Instant};

/// Whether a backend may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    observed: Option<(Arc<str>, Instant)>,
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
        self.observed.as_ref().map(|(cause, _)| &**cause)
    }

    /// When the state was first observed; `None` while it is an assumption.
    pub fn since(&self) -> Option<Instant> {
        self.observed.as_ref().map(|(_, since)| *since)
    }

    /// Takes in an observation, as of `when`, and says whether the state is news. The first one always is: it turns the
    /// assumption into knowledge. One that confirms the state may know a newer cause of it; the date stays. One that is
    /// older than the state counts for nothing: a probe that was sent before a request failed does not know of it.
    pub(super) fn observe(&mut self, state: HealthState, cause: &str, when: Instant) -> bool {
        match &mut self.observed {
            Some((_, since)) if when < *since => false,
            Some((known, _)) if self.state == state => {
                if **known != *cause {
                    *known = cause.into();
                }
                false
            }
            _ => {
                *self = Self { state, observed: Some((cause.into(), when)) };
                true
            }
        }
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

        assert!(health.observe(Healthy, "status: 200", at(1)));
        assert!(!health.observe(Healthy, "status: 204", at(2)));
        assert_eq!((health.cause(), health.since()), (Some("status: 204"), Some(at(1))));

        assert!(health.observe(Unhealthy, "Connection refused", at(3)));
        assert!(!health.observe(Unhealthy, "timed out", at(4)));
        assert_eq!((health.state(), health.cause(), health.since()), (Unhealthy, Some("timed out"), Some(at(3))));
    }
}
