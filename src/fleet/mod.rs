//! Several gateways in front of the same backends: they share the health checks, and what the operator says.
//!
//! Ten gateways that each check a thousand backends every five seconds are two thousand questions a second that nobody has
//! asked for; and where the network of one of them is broken, it alone takes everybody out. So the gateways divide the checks
//! among themselves, and tell each other what they have found out, through an etcd.
//!
//! * Each backend is asked by `k` of the gateways, by rendezvous hashing over those whose leases are good. When one comes or
//!   goes, only its share moves, and whoever hands on a backend goes on asking until the other has an answer.
//! * The majority of the `k` decides, for all. One that alone finds a backend ill suspects itself, and says so.
//! * Beside that counts what each gateway's own traffic finds. What its requests cannot reach it asks itself, whoever else
//!   does, and it is back here when an own check passes.
//! * One that begins takes nobody out on its own word before the etcd has answered.
//! * Without the etcd each gateway is alone: after the [`ttl`](Fleet::ttl) it asks everybody and decides by itself, until the
//!   etcd is back. Nobody changes his state by that.
//! * What is drained, disabled or enabled at one gateway is so at all, also at those that come later. Each word has its time, and
//!   the last one counts, wherever and while whoever was cut off it was said. A backend that comes back is drained as it was. An
//!   order that nobody has needed for an hour, because it wants nothing or no gateway has its backend, and that is a week old
//!   leaves etcd.
//!
//! The backends that fall to this gateway are a pool of their own, [`Fleet::share`]. An ordinary
//! [`HealthChecker`](crate::HealthChecker) asks those; and the host spawns both futures.
//!
//! ```no_run
//! use tower_balancer::{BackendPool, HealthChecker, discover::EtcdConfig, fleet::Fleet, http::HttpProbe};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_balancer::pool::InvalidMember> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let fleet = Fleet::new(&pool, EtcdConfig::new(["http://10.0.0.9:2379"]), "/gateways/web/").probers(3);
//! tokio::spawn(HealthChecker::new(fleet.share(), HttpProbe::new()).run());
//! tokio::spawn(fleet.run());
//! # Ok(())
//! # }
//! ```
//!
//! # By hand
//!
//! An order is a key below the prefix; what it does not name stays as it is, and what is taken out is no longer wanted.
//! What cannot be read counts for nothing, and is the [`last_failure`](FleetStatus::last_failure):
//!
//! ```text
//! etcdctl put /gateways/web/orders/http://10.0.0.1:8080 '{"state": "draining", "weight": 2}'
//! ```
//!
//! # Limits
//!
//! Each change is looked at together with all backends: O(backends × gateways). What one gateway has found out is one value in
//! etcd, which has to be less than 1.5 MB: some 20 000 backends a gateway. All of them together, with the orders, are read at
//! once, and have to be less than 4 MB. Of what two operators say at the same time the clocks of their gateways decide. What is
//! taken out of etcd by hand while a gateway is cut off it puts back, unless another has seen it go.

// What the checks find goes to the others and back as ballots, what the host says as orders:
//
//   HealthChecker ─▶ share ─▶ conclave ─▶ ballot ─▶ wire ─▶ etcd ─▶ wire ─▶ council ─▶ sentence ─▶ pool
//            host ─▶ pool ─▶ told ─▶ order(s) ─▶ wire ─▶ etcd ─▶ wire ─▶ order(s) ─▶ told ─▶ pool
mod ballot;
mod conclave;
mod council;
mod fleets;
mod order;
mod orders;
mod run;
mod sentence;
#[cfg(test)]
mod tests;
mod told;
mod wire;

pub use self::fleets::{FLEET_TARGET, Fleet, FleetStatus};
