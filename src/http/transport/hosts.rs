use super::{Settings, host::Host};
use crate::{hash::mix, sync::locked};
use http::uri::{Authority, Scheme};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tokio::time::Instant;

type Known<B> = HashMap<Box<str>, Arc<Host<B>>, BuildHasherDefault<Words>>;

/// The backends of one scheme that were asked, by authority.
pub(super) struct Hosts<B> {
    scheme: Scheme,
    settings: Arc<Settings>,
    known: RwLock<Known<B>>,
    swept: Mutex<Option<Instant>>,
}

impl<B> Hosts<B> {
    pub(super) fn new(scheme: Scheme, settings: Arc<Settings>) -> Self {
        Self { scheme, settings, known: RwLock::default(), swept: Mutex::default() }
    }

    pub(super) fn of(&self, authority: &Authority) -> Arc<Host<B>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = known.get(authority.as_str()) {
            return Arc::clone(host);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Host::new(&self.scheme, authority, Arc::clone(&self.settings)));
        Arc::clone(known.entry(authority.as_str().into()).or_insert_with(new))
    }

    /// Closes what was idle for too long, and forgets the backends to which nothing is left: those that are gone are asked
    /// no more, and so would keep theirs. To be called when a connection is to be opened; once in an idle timeout it looks.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        {
            let mut swept = locked(&self.swept);
            if swept.is_some_and(|swept| now - swept < self.settings.idle_timeout) {
                return;
            }
            *swept = Some(now);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, host| {
            let used = host.purge(now);
            // Requests on their way hold their host.
            used || Arc::strong_count(host) > 1
        });
    }
}

/// A hash of texts, eight bytes at a time: the names come from the pool, not from clients who would choose them to collide.
#[derive(Default)]
struct Words(u64);

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().chain([&last]).copied().map(u64::from_le_bytes);
        self.0 = words.fold(self.0, mix);
    }

    /// The end of a text, of which there is one in a name.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
