use super::{Moment, words::beginning};
use arc_swap::ArcSwapOption;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The last thing that spoke against a backend, whether or not it took the backend out: a check that failed, a request that
/// got no answer or a bad one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    words: Arc<str>,
    when: Instant,
}

impl LastError {
    /// What it was, in words.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// When it was seen.
    pub fn when(&self) -> Instant {
        self.when
    }
}

/// Where it is kept. Lock-free, and of no cost to requests that end well.
#[derive(Debug, Default)]
pub(super) struct Kept(ArcSwapOption<LastError>);

/// How much of it is kept, in bytes.
const LONGEST: usize = 400;

/// The same again is no news so soon: where all requests fail alike, most of them only read.
const SAME: Duration = Duration::from_millis(100);

impl Kept {
    pub(super) fn load(&self) -> Option<Arc<LastError>> {
        self.0.load_full()
    }

    pub(super) fn keep(&self, words: &str, when: Instant) {
        let words = beginning(words, LONGEST);
        let is_same = |last: &Arc<LastError>| {
            *last.words == *words && Moment::of(when).since(Moment::of(last.when)) < SAME && last.when <= when
        };
        if !self.0.load().as_ref().is_some_and(is_same) {
            self.0.store(Some(Arc::new(LastError { words: words.into(), when })));
        }
    }
}
