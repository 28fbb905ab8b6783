//! `--check`: what a configuration means, a line each, and what is probably not meant.

use super::{
    Config,
    pool::{FailOpen, Pool},
    scalars::UpTo,
    server::Admin,
    strategy,
    upstream_tls::UpstreamTls,
};
use humantime::format_duration;
use std::{
    fmt::{self, Display},
    num::NonZero,
    time::Duration,
};

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines(f);
        let Self { server, pools, .. } = self;
        for listen in server.listen.iter() {
            lines.line("listen", &**listen)?;
        }
        match *server.admin {
            Admin::Off => lines.line("admin", &"off")?,
            Admin::At(address) => {
                let who = if server.token().is_some() { "with a token" } else { "without a token" };
                lines.line("admin", &format_args!("{address}, {who}"))?;
            }
        }
        for name in server.admin_host.iter().flat_map(|names| names.iter()) {
            lines.line("admin host", &name.0)?;
        }
        for network in &server.trusted_proxies {
            lines.line("trusted proxies", &**network)?;
        }
        match &server.workers {
            Some(workers) => lines.line("workers", &workers.0)?,
            None => lines.line("workers", &"one per core")?,
        }
        lines.line("log", &*server.log)?;
        if server.log_sample.0 < 1.0 {
            lines.line("log sample", &format_args!("{} of what goes well", server.log_sample.0))?;
        }
        if let Some(collector) = &server.otlp {
            let traces = format_args!("{} of those that begin here, to {}", server.trace_sample.0, collector.0);
            lines.line("traces", &traces)?;
        }
        lines.line("shutdown grace", &format_duration(*server.shutdown_grace))?;
        let reuse =
            if *server.reuse_port { "on: the next gateway may listen there before this one stops" } else { "off" };
        lines.line("reuse port", &reuse)?;
        if let Some(zone) = server.zone.as_deref() {
            lines.line("zone", zone)?;
        }
        if let Some(tls) = &server.tls {
            lines.line("tls", &format_args!("1.2 and 1.3, certificate {}, key {}", *tls.cert, *tls.key))?;
        }
        let limits = &server.limits;
        lines.line("connections", &number(&limits.max_connections, "any number"))?;
        let (bytes, streams) = (limits.max_header_bytes.0, *limits.max_streams);
        let read = format_duration(*limits.header_read_timeout);
        lines.line("requests", &format_args!("heads of {bytes} bytes within {read}, {streams} at once over HTTP/2"))?;
        lines.line("request timeout", &time(&limits.request_timeout))?;
        match *limits.min_rate {
            0 => lines.line("slow clients", &"at any rate, unless they stand still")?,
            rate => lines.line("slow clients", &format_args!("closed below {rate} bytes a second"))?,
        }
        lines.line("idle clients", &format_args!("closed after {}", format_duration(*limits.idle_timeout)))?;
        if let Some(fleet) = &self.fleet {
            lines.line("fleet", fleet)?;
        }
        for (name, pool) in pools {
            lines.line("pool", name)?;
            lines.pool(pool)?;
        }
        for route in self.routes() {
            let host = route.host.as_deref().map_or("any host".to_owned(), ToString::to_string);
            let path = if route.prefix().is_empty() { "/" } else { route.prefix() };
            lines.line("route", &format_args!("{host} {path} -> {}", *route.pool))?;
        }
        self.warnings().iter().try_for_each(|warning| lines.line("warning", warning))
    }
}

struct Lines<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Lines<'_, '_> {
    fn line(&mut self, key: &str, value: &dyn Display) -> fmt::Result {
        writeln!(self.0, "{key:<16} {value}")
    }

    fn pool(&mut self, pool: &Pool) -> fmt::Result {
        for backend in &pool.backends {
            let weight = backend.weight.as_deref().map_or(String::new(), |weight| format!(" weight {}", weight.get()));
            let zone = backend.zone.as_deref().map_or(String::new(), |zone| format!(" zone {zone}"));
            let tier = backend.priority.as_deref().map_or(String::new(), |tier| format!(" priority {tier}"));
            let key = if pool.discover.is_some() { "begins with" } else { "backend" };
            self.line(key, &format_args!("{}{weight}{zone}{tier}", *backend.url))?;
        }
        if let Some(discover) = &pool.discover {
            self.line("discover", discover)?;
        }
        self.line("strategy", &pool.strategy.known_as())?;
        if pool.strategy.goes_by_key() {
            let bound = match pool.strategy.bounded_load.as_deref().copied().unwrap_or(strategy::BOUND) {
                0.0 => "none".to_owned(),
                bound => format!("{bound} times a backend's share"),
            };
            match &pool.strategy.key {
                Some(key) => self.line("key", &**key)?,
                None => self.line("key", &"none")?,
            }
            self.line("bounded load", &bound)?;
        }
        if let Some(window) = pool.slow_start() {
            self.line("slow start", &format_duration(window))?;
        }
        if let Some(session) = &pool.session {
            self.line("session", &format_args!("cookie {}", *session.cookie))?;
        }
        self.line("health", &pool.health)?;
        self.line("outlier", &pool.outlier)?;
        let retry = &pool.retry;
        let (attempts, budget, beside) = (*retry.attempts, percent(retry.budget.0), *retry.min_per_second);
        self.line("retry", &format_args!("{attempts} attempts, for {budget} of requests and {beside}/s"))?;
        self.line("hedge", &pool.hedge.kind(retry))?;
        let limits = &pool.limits;
        let (all, each) =
            (number(&limits.max_in_flight, "no limit"), number(&limits.max_in_flight_per_backend, "no limit"));
        self.line("max in flight", &format_args!("{all} for the pool, {each} for each backend"))?;
        if let Some(adaptive) = &limits.adaptive {
            let (least, most) = (*adaptive.least, *adaptive.most);
            self.line("adaptive limit", &format_args!("{least} to {most} a backend"))?;
        }
        match limits.waiting() {
            Some((time, most)) => self.line("waiting", &format_args!("{most} for {}", format_duration(time)))?,
            None => self.line("waiting", &"off")?,
        }
        let fail_open = match pool.fail_open() {
            FailOpen::Reject => "off: 503 where nobody is well".to_owned(),
            other => other.to_string(),
        };
        self.line("fail open", &fail_open)?;
        let upstream = &pool.upstream;
        let [connect, head, idle] = [&upstream.connect_timeout, &upstream.response_timeout, &upstream.idle_timeout]
            .map(|time| format_duration(**time));
        let (protocol, body) = (*upstream.protocol, time(&upstream.body_timeout));
        let words = format_args!("{protocol}, timeouts: connect {connect}, response {head}, body {body}, idle {idle}");
        self.line("upstream", &words)?;
        let encrypted = pool.backends.iter().any(|backend| backend.is_encrypted());
        match &upstream.tls {
            Some(tls) => self.line("upstream tls", tls),
            None if encrypted => self.line("upstream tls", &UpstreamTls::default()),
            None => Ok(()),
        }
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{} %", (share * 10_000.0).round() / 100.0)
}

fn number(bound: &UpTo<NonZero<u32>>, none: &str) -> String {
    bound.map_or_else(|| none.to_owned(), |bound| bound.to_string())
}

fn time(bound: &UpTo<Duration>) -> String {
    bound.map_or_else(|| "none".to_owned(), |bound| format_duration(bound).to_string())
}
