//! Who says nothing between two requests gets along without what a server keeps for it: two buffers of 8 KiB and the rest of a
//! connection, where most clients of a gateway say nothing most of the time. The stream alone goes on, and is served anew when
//! something comes.

use super::signs::Signs;
use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::oneshot;

/// So long it is silent until then: who asks often is not to pay for it.
pub const AFTER: Duration = Duration::from_secs(5);

/// A stream that comes back when whoever has it is dropped because its client dozes, and only then.
pub struct Lent<I> {
    lent: Option<(I, oneshot::Sender<I>)>,
    signs: Arc<Signs>,
}

impl<I> Lent<I> {
    pub fn new(signs: Arc<Signs>, stream: I) -> (Self, oneshot::Receiver<I>) {
        let (owner, back) = oneshot::channel();
        (Self { lent: Some((stream, owner)), signs }, back)
    }
}

const HERE: &str = "it is here until this is dropped";

impl<I> Deref for Lent<I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.lent.as_ref().expect(HERE).0
    }
}

impl<I> DerefMut for Lent<I> {
    fn deref_mut(&mut self) -> &mut I {
        &mut self.lent.as_mut().expect(HERE).0
    }
}

impl<I> Drop for Lent<I> {
    fn drop(&mut self) {
        if self.signs.dozes.load(Ordering::Relaxed)
            && let Some((stream, owner)) = self.lent.take()
        {
            // Nobody waits for it where the whole connection is dropped.
            _ = owner.send(stream);
        }
    }
}
