//! What is seen of a client on its stream of bytes, by whoever decides about the connection.

use std::sync::atomic::AtomicBool;

/// That a client is there: each is set when it happens, by whoever sees to the bytes, and taken back by whoever looks.
#[derive(Debug, Default)]
pub struct Signs {
    /// Something was read from it.
    pub said: AtomicBool,
    /// Something was written to it.
    pub taken: AtomicBool,
    /// It has said nothing for a while between two requests over HTTP/1.1.
    pub dozes: AtomicBool,
    /// It has asked for something by HTTP/1.0. That is not taken back.
    pub is_old: AtomicBool,
}
