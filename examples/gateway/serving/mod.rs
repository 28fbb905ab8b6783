//! The configuration at work: from a connection to a pool's proxy.
//!
//! ```text
//!  Config ── stack.rs ──▶ each pool's proxy, to be built     ┐
//!         ── checks.rs ─▶ its health checks                  │ plan.rs, one for the process;
//!         ── limit.rs ──▶ its limit                          ┘ the next is made of it and another Config
//!
//!  connection ─ worker.rs ─▶ connection.rs ─▶ router.rs ─▶ limit.rs ─▶ the pool's ReverseProxy
//!               accepts       its times,      by the plan
//!                             its client      of the moment
//! ```

mod activity;
mod body;
mod checks;
mod connection;
mod limit;
mod peer;
mod plan;
mod router;
mod stack;
mod worker;
mod workers;

pub use self::{
    plan::{Plan, Pool},
    workers::{Workers, runtime},
};
