use super::Moment;
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

/// The same again is no news so soon: where all requests fail alike, most of them only read.
const SAME: Duration = Duration::from_millis(100);

impl Kept {
    pub(super) fn load(&self) -> Option<Arc<LastError>> {
        self.0.load_full()
    }

    pub(super) fn keep(&self, words: &str, when: Instant) {
        let is_same = |last: &Arc<LastError>| {
            *last.words == *words && Moment::of(when).since(Moment::of(last.when)) < SAME && last.when <= when
        };
        if !self.0.load().as_ref().is_some_and(is_same) {
            self.0.store(Some(Arc::new(LastError { words: words.into(), when })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Backend, Lease, Outcome};
    use super::*;

    #[test]
    fn it_is_remembered_whoever_found_it_and_also_when_it_is_over() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let backend = Arc::new(Backend::new("a"));
        let last = || backend.last_error().map(|last| (last.words().to_owned(), last.when()));
        let lease = |millis| Lease::take(Arc::clone(&backend), at(millis));

        lease(0).complete(Outcome::ClientFault, at(1));
        lease(1).give_up(at(2));
        assert_eq!(last(), None);

        lease(2).complete(Outcome::BackendFault, at(3));
        assert_eq!(last(), Some(("answered with an error of its own".into(), at(3))));
        lease(4).fail(Outcome::ConnectFault, "Connection refused", at(5));
        assert_eq!(last(), Some(("Connection refused".into(), at(5))));
        backend.mark_unhealthy("status: 500", at(6));
        assert_eq!(last(), Some(("status: 500".into(), at(6))));

        backend.mark_healthy("status: 200", at(7));
        lease(8).complete(Outcome::Success, at(9));
        assert_eq!(last(), Some(("status: 500".into(), at(6))));
        // The same again is noted now and then.
        for (millis, noted) in [(50, 6), (105, 6), (107, 107), (108, 107)] {
            backend.mark_unhealthy("status: 500", at(millis));
            assert_eq!(last().unwrap().1, at(noted));
        }
    }
}
