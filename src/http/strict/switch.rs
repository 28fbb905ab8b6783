use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Tells a [`Strict`](super::Strict) that its connection goes on in another protocol: a request extension, which the server puts
/// into the requests of that connection.
///
/// [`Upgrade`](crate::http::Upgrade) says so when the backend has switched. A service that answers 101 by itself has to say it
/// too. The stream cannot see it by itself: what is written reads like such an answer also where it is the body of another.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// The answer to the request that this was in is 101, and no request comes after it.
    pub fn switched(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn has_switched(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
