use crate::pool::BackendPool;
use tokio::time::Instant;

/// The manual input: what a host knows and wants to say at once.
impl<T> BackendPool<T> {
    /// Says of the backend `id` what a check that passes would: it is in rotation, unless it is drained, disabled, or ejected
    /// for what it answered, which [`enable`](Self::enable) ends. Returns whether the pool has it; an unknown id changes
    /// nothing.
    ///
    /// A checker or real traffic may take it out again. For an HTTP backend the id is the canonical URL:
    /// [`Origin`](crate::backend::Origin).
    pub fn mark_healthy(&self, id: &str) -> bool {
        self.get(id).inspect(|backend| _ = backend.mark_healthy(BY_HAND, Instant::now().into_std())).is_some()
    }

    /// Takes the backend `id` out of rotation: no pick from now on goes there. Returns whether the pool has it; an
    /// unknown id changes nothing.
    ///
    /// A checker may put it back in.
    pub fn mark_unhealthy(&self, id: &str) -> bool {
        self.get(id).inspect(|backend| _ = backend.mark_unhealthy(BY_HAND, Instant::now().into_std())).is_some()
    }
}

const BY_HAND: &str = "marked by the host";
