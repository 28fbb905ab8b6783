//! Chaos over real sockets: backends that are processes of their own, a proxy before them, a steady load, and a script of
//! what goes wrong. The test and the bench run the same.
//!
//! | file | what it is |
//! |---|---|
//! | `server.rs` | what a backend does, in its own process |
//! | `backend.rs` | that process, from outside |
//! | `front.rs` | the proxy before the backends, as a process |
//! | `load.rs` | requests on a schedule |
//! | `scenario.rs` | what goes wrong, and when |
//! | `trial.rs` | all of it together |
//! | `report.rs` | what became of it, as a line of a table |

#![allow(dead_code, unreachable_pub, reason = "each program uses its part")]

mod backend;
mod front;
mod load;
#[path = "../port.rs"]
mod port;
mod report;
mod scenario;
mod server;
mod trial;

pub use backend::Backend;
pub use front::{Front, gateway};
pub use port::free_port;
pub use report::Report;
pub use scenario::Scenario;
pub use server::be_a_backend_if_told;
pub use trial::Trial;
