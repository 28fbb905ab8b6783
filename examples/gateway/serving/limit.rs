//! The limit of a pool as a whole: how many requests it has at once, to the ends of their answers, and who waits.

use crate::config::limits::Limits;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

#[derive(Debug)]
pub struct Limit {
    in_flight: Arc<Semaphore>,
    /// Places in line, and how long one stands there.
    line: Semaphore,
    wait: Duration,
}

impl Limit {
    pub fn of(limits: &Limits) -> Option<Arc<Self>> {
        let most = limits.max_in_flight.0?.get() as usize;
        let (wait, line) = limits.waiting().unwrap_or_default();
        Some(Arc::new(Self { in_flight: Arc::new(Semaphore::new(most)), line: Semaphore::new(line), wait }))
    }

    /// A place among those in flight, for as long as it is held; `None` where there is none, in time. The first to come is
    /// the first to be let in.
    pub async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let in_flight = Arc::clone(&self.in_flight);
        if let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() {
            return Some(permit);
        }
        let _in_line = self.line.try_acquire().ok()?;
        timeout(self.wait, in_flight.acquire_owned()).await.ok()?.ok()
    }
}
