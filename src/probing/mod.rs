//! Asking backends how loaded they are, a moment before it matters.
//!
//! The strategy [`Prequal`](crate::strategy::Prequal) goes by what backends tell about themselves. It wants probes and does
//! not wait for them; a [`Prober`] is the future beside it that asks. The host spawns it, and dropping it stops it:
//! without it requests are served all the same, by what this process knows itself.
//!
//! ```no_run
//! use tower_balancer::{
//!     BackendPool, ReverseProxy, http::HttpLoadProbe, probing::Prober, strategy::Prequal,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
//! let strategy = Prequal::new();
//! // The backends answer this path by a `ReportLoadLayer`.
//! tokio::spawn(Prober::new(&pool, &strategy, HttpLoadProbe::new("/load".parse()?)).run());
//! let proxy = ReverseProxy::builder(&pool).strategy(strategy);
//! # let _: ReverseProxy<_, String> = proxy.build();
//! # Ok(())
//! # }
//! ```

mod probe;
mod prober;

pub use self::{probe::LoadProbe, prober::Prober};
