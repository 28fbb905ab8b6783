//! The command line.

use crate::config::{
    Config, Fault, Place, Scalar, Value,
    backend::Backend,
    health::Kind,
    server::{Admin, LogFormat, Workers},
    strategy::Strategy,
};
use clap::Parser;
use http::uri::PathAndQuery;
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tower_balancer::{backend::Origin, http::RequestKey};

/// An HTTP load balancer.
///
/// Without a file it balances one pool, which these options describe. With a file they override what it says; options of a
/// pool do so for every pool of the file.
#[derive(Clone, Debug, Parser)]
#[command(name = "gateway", version)]
pub struct Options {
    /// Configuration, in TOML; read again at SIGHUP and when it changes.
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    pub config: Option<PathBuf>,

    /// Address to accept requests on; may be repeated [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR", value_parser = SocketAddr::read)]
    listen: Vec<SocketAddr>,

    /// Address of the admin server, or off; on loopback unless the file has a token [default: 127.0.0.1:3100]
    #[arg(long, value_name = "ADDR|off", value_parser = Admin::read)]
    admin: Option<Admin>,

    /// URL of a backend, http://host:port; may be repeated [default: http://localhost:3001, :3002 and :3003]
    #[arg(long = "backend", value_name = "URL", value_parser = Origin::read)]
    backends: Vec<Origin>,

    /// How to choose the backend of a request: round_robin, weighted_round_robin, random, least_request, peak_ewma,
    /// least_latency; by what backends report: client_weighted, prequal; by --key: ring, maglev, rendezvous, memento
    /// [default: round_robin]
    #[arg(long, value_name = "NAME", value_parser = strategy)]
    strategy: Option<String>,

    /// What keeps a request on its backend, for the strategies that go by key: header:NAME, cookie:NAME, query:NAME, path,
    /// address; several with commas: the first that a request has [default: address]
    #[arg(long, value_name = "SOURCES", value_parser = RequestKey::read)]
    key: Option<RequestKey>,

    /// Time between two health checks of a backend [default: 5s]
    #[arg(long, value_name = "DUR", value_parser = Duration::read)]
    health_interval: Option<Duration>,

    /// Time for a backend to answer a health check [default: 3s]
    #[arg(long, value_name = "DUR", value_parser = Duration::read)]
    health_timeout: Option<Duration>,

    /// Path that health checks request [default: /]
    #[arg(long, value_name = "PATH", value_parser = PathAndQuery::read)]
    health_path: Option<PathAndQuery>,

    /// Format of the log on standard output: text, json, off [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = LogFormat::read)]
    log: Option<LogFormat>,

    /// Worker threads, 1..=1024 [default: number of cores]
    #[arg(long, value_name = "N", value_parser = Workers::read)]
    workers: Option<Workers>,

    /// Start the three default backends in this process, to try things out.
    #[arg(long, conflicts_with = "backends")]
    pub demo: bool,

    /// Print the effective configuration and exit.
    #[arg(long)]
    pub check: bool,
}

/// The name of a strategy; what the file may say as well.
fn strategy(name: &str) -> Result<String, String> {
    let known = Strategy::named(name.to_owned().into());
    let unknown = known.validate().err();
    unknown.map_or(Ok(name.to_owned()), |Fault { words, .. }| Err(words))
}

const DEFAULT_BACKENDS: [&str; 3] = ["http://localhost:3001", "http://localhost:3002", "http://localhost:3003"];

impl Options {
    /// Puts what was said on the command line over `config`.
    pub fn lay_over(&self, config: &mut Config) -> Result<(), Fault> {
        let server = &mut config.server;
        if !self.listen.is_empty() {
            server.listen.0 = self.listen.iter().map(|address| Value::from(*address)).collect();
        }
        set(&mut server.admin, self.admin);
        set(&mut server.log, self.log);
        if let Some(workers) = self.workers {
            server.workers = Some(workers.into());
        }
        self.lay_backends_over(config)?;
        for pool in config.pools.values_mut() {
            if let Some(name) = &self.strategy {
                pool.strategy = Strategy::named(name.clone().into());
            }
            // Without a file there is a key unless another is named.
            let usual = self.config.is_none().then(RequestKey::client_address);
            if let Some(key) = self.key.clone().or(usual).filter(|_| pool.strategy.goes_by_key()) {
                pool.strategy.key = Some(key.into());
            }
            set(&mut pool.health.interval, self.health_interval);
            set(&mut pool.health.timeout, self.health_timeout);
            if let Some(path) = self.health_path.clone().filter(|_| *pool.health.kind == Kind::Http) {
                pool.health.path = Some(path.into());
            }
        }
        Ok(())
    }

    fn lay_backends_over(&self, config: &mut Config) -> Result<(), Fault> {
        let pools = config.pools.len();
        let backends = match &self.config {
            Some(_) if self.backends.is_empty() => return Ok(()),
            None if self.backends.is_empty() => DEFAULT_BACKENDS.iter().filter_map(|url| url.parse().ok()).collect(),
            _ => self.backends.clone(),
        };
        match config.pools.values_mut().next() {
            Some(pool) if pools == 1 => {
                pool.backends = backends.into_iter().map(|origin| Backend::new(origin.into())).collect();
                Ok(())
            }
            _ => {
                let words = format!("--backend: the file has {pools} pools, expected one that it is for");
                Err(Fault { place: Place::CommandLine, words })
            }
        }
    }
}

fn set<T: Clone>(value: &mut Value<T>, said: Option<T>) {
    if let Some(said) = said {
        *value = said.into();
    }
}
