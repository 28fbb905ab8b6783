//! What is to be served, and how: from the file and the command line.
//!
//! ```text
//!  gateway.toml ── document.rs ──▶ text, variables replaced, each value with its place
//!                    file's tables ──▶ Config: server.rs, pool.rs (backend, strategy, health, …), route.rs
//!  flags ── options.rs ──▶ over it
//!                    rules.rs ──▶ what one value alone does not show; a fault has file, line, key and what was expected
//!                    check.rs, warnings.rs ──▶ `--check`
//! ```
//!
//! Each table of the file is a type that reads itself, has its defaults, and says how the library is to be called:
//! [`Health::http_probe`](health::Health::http_probe), [`Strategy::build`](strategy::Strategy::build) and so on. What
//! becomes of them is in `serving/`. Its values are [`Value`]s, which know where they stand; `scalars.rs` says what each may
//! be, `shapes.rs` what may be written in short.

pub mod backend;
pub mod check;
pub mod discover;
mod document;
pub mod etcd;
pub mod fleet;
pub mod health;
pub mod limits;
pub mod outlier;
pub mod pool;
pub mod retry;
pub mod route;
mod rules;
mod scalars;
pub mod server;
pub mod session;
mod shapes;
pub mod strategy;
pub mod token;
pub mod upstream;
pub mod upstream_tls;
mod value;
mod warnings;

pub use self::{
    document::{Document, Problem},
    value::{Fault, Place, Scalar, Value},
};

use crate::options::Options;
use fleet::Fleet;
use pool::Pool;
use route::Route;
use serde::Deserialize;
use server::Server;
use std::collections::BTreeMap;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    /// The gateways that share their health checks.
    pub fleet: Option<Fleet>,
    pub pools: BTreeMap<String, Pool>,
    pub routes: Vec<Route>,
}

/// Where it comes from.
#[derive(Clone, Debug)]
pub struct Source {
    pub options: Options,
    pub document: Option<Document>,
}

/// The name of the pool that the command line describes.
pub const DEFAULT_POOL: &str = "default";

impl Config {
    /// By the options, and the file that they name, as it is now.
    pub fn load(options: Options) -> Result<(Self, Source), Problem> {
        let document = options.config.as_deref().map(Document::read).transpose()?;
        let source = Source { options, document };
        Ok((Self::of(&source)?, source))
    }

    pub fn of(source: &Source) -> Result<Self, Problem> {
        let mut config = match &source.document {
            Some(document) => document.parse()?,
            None => Self { pools: [(DEFAULT_POOL.to_owned(), Pool::default())].into(), ..Self::default() },
        };
        let checked = source.options.lay_over(&mut config).and_then(|()| config.validate());
        checked.map_err(|fault| match &source.document {
            Some(document) => document.problem(fault),
            None => Problem::from(fault),
        })?;
        Ok(config)
    }

    /// The routes, the most specific first: the first that matches is the one. A single pool needs none.
    pub fn routes(&self) -> Vec<Route> {
        let mut routes = self.routes.clone();
        if let (true, Some(only)) = (routes.is_empty(), self.pools.keys().next()) {
            routes.push(Route::all(only));
        }
        routes.sort_by_key(Route::order);
        routes
    }
}
