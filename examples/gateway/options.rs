//! The command line.

use clap::{Parser, ValueEnum};
use http::uri::{PathAndQuery, Scheme};
use std::{fmt::Write, net::SocketAddr, num::NonZeroUsize, str::FromStr, time::Duration};
use tower_balancer::{BackendPool, backend::Origin, strategy::AnyStrategy};

/// An HTTP load balancer.
#[derive(Debug, Parser)]
#[command(name = "gateway", version)]
pub struct Options {
    /// Where to accept requests.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,

    /// Where operators ask; loopback only.
    #[arg(long, value_name = "ADDR|off", default_value = "127.0.0.1:3100")]
    pub admin: Admin,

    /// A backend, as http://host:port; once for each. Without any: http://localhost:3001, :3002 and :3003.
    #[arg(long = "backend", value_name = "URL")]
    backends: Vec<String>,

    /// Which backend takes the next request: round_robin or random.
    #[arg(long, value_name = "NAME", default_value = "round_robin")]
    pub strategy: AnyStrategy,

    /// Time between two health checks of a backend.
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = duration)]
    pub health_interval: Duration,

    /// Time that a backend has to answer a health check.
    #[arg(long, value_name = "DUR", default_value = "3s", value_parser = duration)]
    pub health_timeout: Duration,

    /// What health checks ask for.
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = path)]
    pub health_path: PathAndQuery,

    /// How events are written to standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log: LogFormat,

    /// Worker threads; as many as there are cores unless said.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Start the three default backends in this process, to try things out.
    #[arg(long, conflicts_with = "backends")]
    pub demo: bool,

    /// Say what the options mean, and exit.
    #[arg(long)]
    pub check: bool,
}

/// How events are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// One line an event, for people.
    Text,
    /// One JSON object an event.
    Json,
    /// Not at all.
    Off,
}

/// Where the admin server listens, if at all.
#[derive(Clone, Copy, Debug)]
pub enum Admin {
    Off,
    At(SocketAddr),
}

impl Admin {
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address: SocketAddr = text.parse().map_err(|_| "expected an address such as 127.0.0.1:3100, or off")?;
        if address.ip().is_loopback() {
            Ok(Self::At(address))
        } else {
            Err("expected a loopback address, or off".into())
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("expected more than zero".to_owned()),
        Err(_) => Err("expected a duration such as 5s or 500ms".to_owned()),
    }
}

fn path(text: &str) -> Result<PathAndQuery, String> {
    match text.parse() {
        Ok(path) if text.starts_with('/') => Ok(path),
        _ => Err("expected a path that begins with /".to_owned()),
    }
}

const DEFAULT_BACKENDS: [&str; 3] = ["http://localhost:3001", "http://localhost:3002", "http://localhost:3003"];

impl Options {
    /// The URLs of the backends.
    pub fn backends(&self) -> Vec<&str> {
        if self.backends.is_empty() {
            DEFAULT_BACKENDS.into()
        } else {
            self.backends.iter().map(String::as_str).collect()
        }
    }

    /// What cannot be seen from one option alone.
    pub fn validate(&self, pool: &BackendPool<Origin>) -> Result<(), String> {
        match pool.members().iter().find(|(_, origin)| *origin.scheme() != Scheme::HTTP) {
            Some((_, origin)) => Err(format!("backend {origin}: TLS to backends is not supported, expected http://")),
            None => Ok(()),
        }
    }

    /// The effective meaning, a line each, with a warning where it is probably not what was meant.
    pub fn describe(&self, pool: &BackendPool<Origin>) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| _ = writeln!(text, "{key:<16} {value}");
        let every = humantime::format_duration(self.health_interval);
        let within = humantime::format_duration(self.health_timeout);
        line("listen", &self.listen);
        match self.admin {
            Admin::Off => line("admin", &"off"),
            Admin::At(address) => line("admin", &address),
        }
        for (_, origin) in pool.members().iter() {
            line("backend", origin);
        }
        line("strategy", &self.strategy.name());
        line("health", &format_args!("GET {} every {every}, 2xx within {within}", self.health_path));
        match self.workers {
            Some(workers) => line("workers", &workers),
            None => line("workers", &"one a core"),
        }
        if self.health_timeout > self.health_interval {
            line("warning", &"the health timeout is longer than the interval: a silent backend delays the next round");
        }
        if self.admin.address() == Some(self.listen) {
            line("warning", &"listen and admin are the same address: the gateway will not start");
        }
        text
    }
}
