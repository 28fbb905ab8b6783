//! The synchronisation that our own algorithms use, in one place: `tests/loom.rs` compiles the same files with loom's.

pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
