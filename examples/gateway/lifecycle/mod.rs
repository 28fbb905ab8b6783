//! From the start of the process to its end: sockets, signals, reloads, and what the service manager is told.

pub mod listen;
pub mod notify;
pub mod reload;
pub mod signals;
