use std::{sync::Arc, time::Instant};

/// How a [`Discoverer`](super::Discoverer) does: for dashboards, and for whether this process is ready.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// What the source is called.
    pub source: Arc<str>,
    /// The source's word for the state of things that it told last.
    pub version: Option<Arc<str>>,
    /// How many it lists, those that it drains among them.
    pub members: usize,
    /// How many it lists no more and which stay until that is confirmed: see [`Guard`](super::Guard).
    pub doubted: usize,
    /// When it last had something to say; `None` until then.
    pub last_success: Option<Instant>,
    /// What went wrong the last time that something did.
    pub last_failure: Option<Failure>,
    /// How often it has failed since the last success.
    pub failures: u32,
    /// Since when it has failed; `None` while it does not.
    pub failing_since: Option<Instant>,
    /// What it lists that is no backend, in words.
    pub skipped: Arc<[String]>,
    /// There will be no more news: the source has said so.
    pub has_ended: bool,
}

/// A failure of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// When it was noticed.
    pub when: Instant,
    /// What went wrong, in the words of the innermost cause.
    pub cause: Arc<str>,
}

impl Status {
    pub(super) fn new(source: String) -> Self {
        Self {
            source: source.into(),
            version: None,
            members: 0,
            doubted: 0,
            last_success: None,
            last_failure: None,
            failures: 0,
            failing_since: None,
            skipped: Arc::default(),
            has_ended: false,
        }
    }

    /// Whether the source has ever said who is there.
    pub fn is_ready(&self) -> bool {
        self.last_success.is_some()
    }
}
