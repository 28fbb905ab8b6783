//! The synchronisation that our own algorithms use, in one place: `tests/loom.rs` compiles the same files with loom's.

use std::sync::PoisonError;

pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

/// For what is whole between any two lines under its lock: a panic there leaves it as it was.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
