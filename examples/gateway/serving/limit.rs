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
    places: usize,
    wait: Duration,
}

impl Limit {
    pub fn of(limits: &Limits) -> Option<Arc<Self>> {
        let most = limits.max_in_flight.0?.get() as usize;
        let (wait, places) = limits.waiting().unwrap_or_default();
        let (in_flight, line) = (Arc::new(Semaphore::new(most)), Semaphore::new(places));
        Some(Arc::new(Self { in_flight, line, places, wait }))
    }

    /// How many stand in line.
    pub fn waiting(&self) -> usize {
        self.places - self.line.available_permits()
    }

    /// A place among those in flight, for as long as it is held, where one is free.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.in_flight).try_acquire_owned().ok()
    }

    /// The same in time, if there is a place in line. The first to come is the first to be let in.
    pub async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let _in_line = self.line.try_acquire().ok()?;
        timeout(self.wait, Arc::clone(&self.in_flight).acquire_owned()).await.ok()?.ok()
    }
}
