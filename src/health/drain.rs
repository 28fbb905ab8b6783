use crate::{
    backend::{Admin, Backend, BackendId, HealthState},
    pool::BackendPool,
};
use std::{error::Error, fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The operator's word on a backend. It holds whatever the checks and the traffic say, until he says otherwise.
impl<T: Clone + Send + Sync + 'static> BackendPool<T> {
    /// Gives the backend `id` no new requests, and lets those that it has go on to their end.
    ///
    /// ```
    /// use tower_balancer::BackendPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
    /// let draining = pool.drain("http://10.0.0.1:8080")?;
    /// draining.done().await; // or give it some time, with `tokio::time::timeout`
    /// assert_eq!(draining.in_flight(), 0);
    /// pool.enable("http://10.0.0.1:8080");
    ///
    /// pool.drain("http://10.0.0.2:8080")?;
    /// // Nobody would be left.
    /// assert!(pool.drain("http://10.0.0.1:8080").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CannotDrain`] where there is no such backend, or where no other is left that could take its requests: then only
    /// [`drain_anyway`](Self::drain_anyway) does it.
    pub fn drain(&self, id: &str) -> Result<Draining, CannotDrain> {
        let backend = self.get(id).ok_or_else(|| CannotDrain::Unknown(id.into()))?;
        // Of two who drain the last two at once, one does.
        let _one_at_a_time = self.leaving();
        // One that is on trial takes a request at a time, and may be out with it.
        let is_well = |other: &Arc<Backend>| other.health().state() == HealthState::Healthy;
        let is_other = |other: &Arc<Backend>| !Arc::ptr_eq(other, &backend) && is_well(other);
        if backend.is_eligible() && !self.members().backends().iter().any(is_other) {
            return Err(CannotDrain::Last(id.into()));
        }
        self.drain_anyway(id)
    }

    /// The same, be it the last one.
    ///
    /// # Errors
    ///
    /// [`CannotDrain::Unknown`] where there is no such backend.
    pub fn drain_anyway(&self, id: &str) -> Result<Draining, CannotDrain> {
        let backend = self.get(id).ok_or_else(|| CannotDrain::Unknown(id.into()))?;
        backend.administer(Admin::Draining, Instant::now().into_std());
        Ok(Draining { backend })
    }

    /// Takes the backend `id` out, as broken or wrong, until it is [enabled](Self::enable). Returns whether the pool has it.
    pub fn disable(&self, id: &str) -> bool {
        let now = Instant::now().into_std();
        self.get(id).inspect(|backend| _ = backend.administer(Admin::Disabled, now)).is_some()
    }

    /// Takes back what was said by [`drain`](Self::drain) or [`disable`](Self::disable), and ends an ejection: whether it is in
    /// rotation is up to the checks, which have gone on meanwhile. Returns whether the pool has it.
    pub fn enable(&self, id: &str) -> bool {
        let now = Instant::now().into_std();
        self.get(id).inspect(|backend| _ = backend.administer(Admin::Enabled, now)).is_some()
    }
}

/// A backend that is drained. Dropping this changes nothing.
#[derive(Debug)]
pub struct Draining {
    backend: Arc<Backend>,
}

/// How often somebody looks whether it is done: nobody waits longer for it, and no request pays for telling.
const LOOK: Duration = Duration::from_millis(20);

impl Draining {
    /// The requests that it still has.
    pub fn in_flight(&self) -> u32 {
        self.backend.load().in_flight()
    }

    /// Waits until it has none.
    ///
    /// # Cancellation
    ///
    /// Safe: waiting can be given up and begun again, and the backend goes on draining.
    pub async fn done(&self) {
        // A request that was picked for it a moment before may be about to be counted: so it has to be seen empty twice.
        let mut seen_empty = 0;
        while seen_empty < 2 {
            seen_empty = if self.in_flight() == 0 { seen_empty + 1 } else { 0 };
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A backend that was not drained. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotDrain {
    /// The pool has no backend of this id.
    Unknown(BackendId),
    /// It is the last one that is well.
    Last(BackendId),
}

impl fmt::Display for CannotDrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "the pool has no backend {id}"),
            Self::Last(id) => write!(f, "backend {id} is the last one that is well"),
        }
    }
}

impl Error for CannotDrain {}
