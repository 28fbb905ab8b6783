//! The command line.

use clap::{Parser, ValueEnum};
use http::uri::{PathAndQuery, Scheme};
use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};
use tower_balancer::{BackendPool, backend::Origin, http::RequestKey, strategy::AnyStrategy};

/// An HTTP load balancer.
#[derive(Debug, Parser)]
#[command(name = "gateway", version)]
pub struct Options {
    /// Address to accept requests on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000", value_parser = address)]
    pub listen: SocketAddr,

    /// Address of the admin server, on loopback, or off.
    #[arg(long, value_name = "ADDR|off", default_value = "127.0.0.1:3100")]
    pub admin: Admin,

    /// URL of a backend, http://host:port; may be repeated [default: http://localhost:3001, :3002 and :3003]
    #[arg(long = "backend", value_name = "URL")]
    backends: Vec<String>,

    /// Certificate chain in PEM: clients are served over TLS. Read again at SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// How to choose the backend of a request: round_robin, weighted_round_robin, random, least_request, peak_ewma,
    /// least_latency; by what backends report: client_weighted, prequal; by --key: ring, maglev, rendezvous, memento.
    #[arg(long, value_name = "NAME", default_value = "round_robin")]
    pub strategy: AnyStrategy,

    /// What keeps a request on its backend, for the strategies that go by key: header:NAME, cookie:NAME, query:NAME, path,
    /// address; several with commas: the first that a request has
    #[arg(long, value_name = "SOURCES", default_value = "address")]
    pub key: RequestKey,

    /// Time between two health checks of a backend.
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = duration)]
    pub health_interval: Duration,

    /// Time for a backend to answer a health check.
    #[arg(long, value_name = "DUR", default_value = "3s", value_parser = duration)]
    pub health_timeout: Duration,

    /// Path that health checks request.
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = path)]
    pub health_path: PathAndQuery,

    /// Format of the log on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log: LogFormat,

    /// Worker threads [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Start the three default backends in this process, to try things out.
    #[arg(long, conflicts_with = "backends")]
    pub demo: bool,

    /// Print the effective configuration and exit.
    #[arg(long)]
    pub check: bool,
}

/// How events are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// One line per event, for people.
    Text,
    /// One JSON object per event.
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

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port such as 127.0.0.1:3000")
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
        _ => Err("expected a path such as /healthz".to_owned()),
    }
}

/// Whether both cannot be listened on at once.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Whether a backend is at this address of ours, as far as its name says.
fn is_same(origin: &Origin, own: SocketAddr) -> bool {
    let here = match origin.host().parse::<IpAddr>() {
        Ok(ip) => ip == own.ip() || (own.ip().is_unspecified() && ip.is_loopback()),
        Err(_) => origin.host() == "localhost" && (own.ip().is_loopback() || own.ip().is_unspecified()),
    };
    here && origin.port() == own.port()
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
        for (_, origin) in pool.members().iter() {
            if *origin.scheme() != Scheme::HTTP {
                return Err(format!("backend {origin}: TLS to backends is not supported, expected http://"));
            }
            if [Some(self.listen), self.admin.address()].into_iter().flatten().any(|own| is_same(origin, own)) {
                return Err(format!("backend {origin} is the gateway itself: expected another address"));
            }
        }
        if self.admin.address().is_some_and(|admin| collide(admin, self.listen)) {
            return Err(format!("--listen {} and --admin collide: expected different ports", self.listen));
        }
        Ok(())
    }

    /// The effective meaning, a line each, with a warning where it is probably not what was meant.
    pub fn describe(&self, pool: &BackendPool<Origin>) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| _ = writeln!(text, "{key:<16} {value}");
        let every = humantime::format_duration(self.health_interval);
        let within = humantime::format_duration(self.health_timeout);
        line("listen", &self.listen);
        if let Some(certificate) = &self.tls_certificate {
            line("tls", &format_args!("1.2 and 1.3, certificate {}", certificate.display()));
        }
        match self.admin {
            Admin::Off => line("admin", &"off"),
            Admin::At(address) => line("admin", &address),
        }
        for (_, origin) in pool.members().iter() {
            line("backend", origin);
        }
        line("strategy", &self.strategy.name());
        line("key", &self.key);
        line("health", &format_args!("GET {} every {every}, 2xx within {within}", self.health_path));
        match self.workers {
            Some(workers) => line("workers", &workers),
            None => line("workers", &"one per core"),
        }
        line("log", &format_args!("{:?}", self.log).to_string().to_lowercase());
        line("demo", &if self.demo { "starts the backends" } else { "off" });
        if self.health_timeout > self.health_interval {
            line("warning", &"the health timeout is longer than the interval: a silent backend delays the next round");
        }
        text
    }
}
