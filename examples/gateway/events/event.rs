//! One thing that has happened.

use serde::Serialize;
use std::fmt::Display;

/// One thing that has happened, as it is told. Each has words for people; what else it has is for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub kind: Kind,
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The state of health that a backend has come into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// What that was concluded from, or what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The operator's address, where one has changed something; how it was, and how it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many events are not told because nobody has them any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A backend's state, or the first word on it.
    Health,
    /// A backend joined.
    Added,
    /// A backend left.
    Removed,
    /// A backend has another weight.
    Weight,
    /// A backend has another tier or zone.
    Locality,
    /// Too few are well, and others are picked as well; or no longer.
    FailOpen,
    /// Nobody is ejected for answers, because most of a pool went at once.
    Frozen,
    /// A backend that is drained has no request left, or no time.
    Drained,
    /// An operator has changed something.
    Change,
    /// The configuration was read again, and taken up.
    Reload,
    /// It was read again, and is wrong.
    ReloadRefused,
    /// Events are missing here.
    Missed,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Weight => "weight",
            Self::Locality => "locality",
            Self::FailOpen => "fail_open",
            Self::Frozen => "frozen",
            Self::Drained => "drained",
            Self::Change => "change",
            Self::Reload => "reload",
            Self::ReloadRefused => "reload_refused",
            Self::Missed => "missed",
        }
    }
}

/// The longest words that are kept: what a backend says of itself may be long.
const LONGEST: usize = 400;

impl Event {
    pub fn new(kind: Kind, text: impl Display) -> Self {
        let (pool, backend, state, reason, who, before, after, missed) = Default::default();
        Self { kind, text: bounded(text.to_string()), pool, backend, state, reason, who, before, after, missed }
    }

    pub fn pool(self, pool: &str) -> Self {
        Self { pool: Some(pool.to_owned()), ..self }
    }

    pub fn backend(self, backend: impl Display) -> Self {
        Self { backend: Some(backend.to_string()), ..self }
    }

    pub fn reason(self, reason: &str) -> Self {
        Self { reason: Some(bounded(reason.to_owned())), ..self }
    }
}

fn bounded(mut words: String) -> String {
    if words.len() > LONGEST {
        let end = (0..=LONGEST).rfind(|end| words.is_char_boundary(*end)).unwrap_or_default();
        words.truncate(end);
        words.push('…');
    }
    words
}
