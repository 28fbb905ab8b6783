use std::{fmt, sync::Arc, time::Instant};

/// Whether a backend may be picked, and if not, on whose word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// It is in rotation.
    Healthy,
    /// Out: a probe or the host says so, until one says otherwise.
    Unhealthy,
    /// Out for a while: traffic found that it fails.
    Ejected,
    /// It was ejected and is tried again, with one request at a time.
    Probing,
    /// Out: the host drains it, or where it was discovered it is leaving. Requests in flight go on to their end.
    Draining,
    /// Out: the host has disabled it.
    Disabled,
}

impl HealthState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Healthy, Self::Unhealthy, Self::Ejected, Self::Probing, Self::Draining, Self::Disabled];

    /// The state as one lower-case word, for metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }

    /// Whether a backend in this state may be picked: one that is [`Probing`](Self::Probing) for one request at a time.
    pub fn is_eligible(self) -> bool {
        matches!(self, Self::Healthy | Self::Probing)
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is known about a backend's health: the state, why, since when, and when time alone will change it.
///
/// A new backend is healthy by assumption: it has neither cause nor date until somebody says something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    state: HealthState,
    known: Option<Known>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    cause: Arc<str>,
    since: Instant,
    until: Option<Instant>,
    /// Of an ejected one: it answers, if badly. Of one that is drained: nothing else speaks against it.
    serves: bool,
}

impl Health {
    /// Healthy, because nobody has said otherwise.
    pub(super) fn assumed() -> Self {
        Self { state: HealthState::Healthy, known: None }
    }

    pub(super) fn known(state: HealthState, cause: Arc<str>, since: Instant) -> Self {
        Self { state, known: Some(Known { cause, since, until: None, serves: false }) }
    }

    pub(super) fn ejected(cause: Arc<str>, since: Instant, until: Instant, serves: bool) -> Self {
        Self { state: HealthState::Ejected, known: Some(Known { cause, since, until: Some(until), serves }) }
    }

    pub(super) fn draining(cause: Arc<str>, since: Instant, serves: bool) -> Self {
        Self { state: HealthState::Draining, known: Some(Known { cause, since, until: None, serves }) }
    }

    /// The state.
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// What it was concluded from, in words; `None` while the state is an assumption.
    pub fn cause(&self) -> Option<&str> {
        self.known.as_ref().map(|known| &*known.cause)
    }

    /// When the state began; `None` while it is an assumption.
    pub fn since(&self) -> Option<Instant> {
        self.known.as_ref().map(|known| known.since)
    }

    /// Whether it is out for what it answered: then it can be reached.
    pub(crate) fn is_ejected_for_answers(&self) -> bool {
        self.state == HealthState::Ejected && self.serves()
    }

    /// Whether it is out because it is drained, and for nothing else.
    pub(super) fn is_draining_and_well(&self) -> bool {
        self.state == HealthState::Draining && self.serves()
    }

    fn serves(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.serves)
    }

    /// When an ejection ends, and the backend is tried again; `None` where the state does not end by itself.
    pub fn until(&self) -> Option<Instant> {
        self.known.as_ref().and_then(|known| known.until)
    }
}
