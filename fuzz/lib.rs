//! What the fuzz targets call, and of the gateway what that takes.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "a binary's modules, of which most is not called here")]

pub mod checks;
#[path = "../examples/gateway/config/mod.rs"]
mod config;
#[path = "../examples/gateway/events/mod.rs"]
mod events;
#[path = "../examples/gateway/options.rs"]
mod options;
#[path = "../examples/gateway/serving/mod.rs"]
mod serving;
