//! The configuration at work: from a connection to a pool's proxy.
//!
//! ```text
//!  Config ── stack.rs ──▶ each pool's proxy, to be built     ┐
//!         ── checks.rs ─▶ its health checks                  │ plan.rs, one for the process;
//!         ── limit.rs ──▶ its limit                          │ the next is made of it and another Config
//!         ── discovery.rs ▶ who tells of its backends        │
//!         ── fleet.rs ──▶ its checks, with other gateways     ┘
//!
//!  connection ─ worker.rs ─▶ connection.rs ─▶ router.rs ─▶ answering.rs ─▶ the pool's ReverseProxy
//!               accepts       tls.rs          by the plan  limit.rs
//!                             patience.rs,    of the moment
//!                             parting.rs
//!                             frames.rs, trailers.rs, turns.rs, doze.rs
//!                             pressing.rs, both by credit.rs; signs.rs
//!                             worth.rs, all by limits.rs, counted in fired.rs
//!                             farewell.rs; answers in responses.rs
//! ```

mod answering;
mod body;
mod checks;
mod connection;
mod credit;
mod discovery;
mod doze;
mod farewell;
pub mod fired;
#[cfg(feature = "etcd")]
mod fleet;
mod frames;
mod limit;
pub mod limits;
mod parting;
mod patience;
mod plan;
mod pressing;
mod responses;
mod router;
mod signs;
mod stack;
pub mod tls;
mod trailers;
pub mod turns;
mod worker;
mod workers;
mod worth;

pub use self::{
    connection::Connections,
    plan::{Plan, Pool},
    workers::{Workers, runtime},
};
