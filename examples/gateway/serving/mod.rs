//! The configuration at work: from a connection to a pool's proxy.
//!
//! ```text
//!  Config ── stack.rs ──▶ each pool's proxy, to be built     ┐
//!         ── checks.rs ─▶ its health checks                  │ plan.rs, one for the process;
//!         ── limit.rs ──▶ its limit                          ┘ the next is made of it and another Config
//!
//!  connection ─ worker.rs ─▶ connection.rs ─▶ router.rs ─▶ limit.rs ─▶ the pool's ReverseProxy
//!               accepts       tls.rs          by the plan
//!                             patience.rs     of the moment
//!                             frames.rs
//!                             pressing.rs
//!                             worth.rs, all by limits.rs
//! ```

mod body;
mod checks;
mod connection;
mod frames;
mod limit;
pub mod limits;
mod patience;
mod plan;
mod pressing;
mod router;
mod stack;
pub mod tls;
mod worker;
mod workers;
mod worth;

pub use self::{
    connection::Connections,
    plan::{Plan, Pool},
    workers::{Workers, runtime},
};
