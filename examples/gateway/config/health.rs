//! `health`: how a pool's backends are asked how they are.

use super::{
    scalars::{Share, UpTo, words},
    shapes::Short,
    value::{Fault, Scalar, Value, only_if},
};
use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};
use serde::{Deserialize, Deserializer};
use std::{collections::BTreeMap, fmt, num::NonZero, ops::RangeInclusive, time::Duration};
use tower_balancer::{
    HealthChecker,
    health::{DEFAULT_INTERVAL, DEFAULT_TIMEOUT},
    http::{GrpcProbe, HttpProbe},
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Health {
    pub kind: Value<Kind>,
    pub path: Option<Value<PathAndQuery>>,
    pub method: Option<Value<Method>>,
    pub host: Option<Value<HeaderValue>>,
    pub headers: BTreeMap<String, Value<HeaderValue>>,
    pub status: Vec<Value<Statuses>>,
    pub body_contains: Option<Value<String>>,
    pub service: Option<Value<String>>,
    pub port: Option<Value<NonZero<u16>>>,
    pub interval: Value<Duration>,
    pub fast_interval: Option<Value<Duration>>,
    pub down_interval: Option<Value<UpTo<Duration>>>,
    pub jitter: Option<Value<Share>>,
    pub timeout: Value<Duration>,
    pub healthy_threshold: Value<NonZero<u32>>,
    pub unhealthy_threshold: Value<NonZero<u32>>,
    pub concurrency: Option<Value<NonZero<u32>>>,
    pub out_until_checked: Value<bool>,
}

words! {
    /// What a check is.
    Kind {
        Http = "http",
        Tcp = "tcp",
        Grpc = "grpc",
        Off = "off",
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            kind: Kind::Http.into(),
            path: None,
            method: None,
            host: None,
            headers: BTreeMap::new(),
            status: Vec::new(),
            body_contains: None,
            service: None,
            port: None,
            interval: DEFAULT_INTERVAL.into(),
            fast_interval: None,
            down_interval: None,
            jitter: None,
            timeout: DEFAULT_TIMEOUT.into(),
            healthy_threshold: NonZero::<u32>::MIN.into(),
            unhealthy_threshold: NonZero::<u32>::MIN.into(),
            concurrency: None,
            out_until_checked: false.into(),
        }
    }
}

impl Health {
    pub fn validate(&self) -> Result<(), Fault> {
        let kind = *self.kind;
        let of = |kinds: &'static str| move || format!("this is of checks of kind {kinds}, and the kind is {kind}");
        let http = kind == Kind::Http;
        only_if(http, self.path.as_ref(), of("http"))?;
        only_if(http, self.method.as_ref(), of("http"))?;
        only_if(http, self.host.as_ref(), of("http"))?;
        only_if(http, self.headers.values().next(), of("http"))?;
        only_if(http, self.status.first(), of("http"))?;
        only_if(http, self.body_contains.as_ref(), of("http"))?;
        only_if(kind == Kind::Grpc, self.service.as_ref(), of("grpc"))?;
        only_if(http || kind == Kind::Grpc, self.port.as_ref(), of("http or grpc"))?;
        self.http_headers().map(drop)
    }

    fn http_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
        let header = |(name, value): (&String, &Value<HeaderValue>)| {
            let name = HeaderName::read(name).map_err(|words| value.fault(words))?;
            Ok((name, HeaderValue::clone(value)))
        };
        self.headers.iter().map(header).collect()
    }

    pub fn path(&self) -> PathAndQuery {
        self.path.as_deref().cloned().unwrap_or(PathAndQuery::from_static("/"))
    }

    pub fn http_probe(&self) -> HttpProbe {
        let mut probe = HttpProbe::new().path(self.path());
        if let Some(method) = self.method.as_deref() {
            probe = probe.method(method.clone());
        }
        // Their names have been validated.
        for (name, value) in self.http_headers().into_iter().flatten() {
            probe = probe.header(name, value);
        }
        if let Some(host) = self.host.as_deref() {
            probe = probe.host(host.clone());
        }
        if let Some(port) = self.port.as_deref() {
            probe = probe.port(port.get());
        }
        for statuses in &self.status {
            probe = probe.status(statuses.0.clone());
        }
        match self.body_contains.as_deref() {
            Some(text) => probe.body_contains(text.clone()),
            None => probe,
        }
    }

    pub fn grpc_probe(&self) -> GrpcProbe {
        let mut probe = GrpcProbe::new();
        if let Some(service) = self.service.as_deref() {
            probe = probe.service(service.as_str());
        }
        match self.port.as_deref() {
            Some(port) => probe.port(port.get()),
            None => probe,
        }
    }

    /// A checker with these settings.
    pub fn set_up<T, P>(&self, checker: HealthChecker<T, P>) -> HealthChecker<T, P> {
        let mut checker = checker
            .interval(*self.interval)
            .timeout(*self.timeout)
            .healthy_threshold(self.healthy_threshold.get())
            .unhealthy_threshold(self.unhealthy_threshold.get());
        if let Some(interval) = self.fast_interval.as_deref() {
            checker = checker.fast_interval(*interval);
        }
        if let Some(interval) = self.down_interval.as_deref() {
            checker = checker.down_interval(interval.unwrap_or_default());
        }
        if let Some(jitter) = self.jitter.as_deref() {
            checker = checker.jitter(jitter.0);
        }
        if let Some(checks) = self.concurrency.as_deref() {
            checker = checker.concurrency(checks.get() as usize);
        }
        if *self.out_until_checked { checker.out_until_checked() } else { checker }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (every, within) = (humantime::format_duration(*self.interval), humantime::format_duration(*self.timeout));
        match *self.kind {
            Kind::Off => return f.write_str("off: requests of clients find out who is back"),
            Kind::Http => {
                let method = self.method.as_deref().cloned().unwrap_or_default();
                write!(f, "{method} {} every {every}, ", self.path())?;
                let statuses: Vec<_> = self.status.iter().map(|statuses| statuses.to_string()).collect();
                f.write_str(&if statuses.is_empty() { "2xx".to_owned() } else { statuses.join(" or ") })?;
                write!(f, " within {within}")?;
            }
            Kind::Tcp => write!(f, "a connection every {every}, within {within}")?,
            Kind::Grpc => {
                let service = self.service.as_deref().map_or("the whole server", String::as_str);
                write!(f, "grpc.health.v1 of {service} every {every}, SERVING within {within}")?;
            }
        }
        match (self.unhealthy_threshold.get(), self.healthy_threshold.get()) {
            (1, 1) => Ok(()),
            (down, up) => write!(f, "; out after {down} failures, in after {up} passes"),
        }
    }
}

/// `200`, or `200-399`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(RangeInclusive<u16>);

impl Scalar for Statuses {
    fn read(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
        let statuses = status(first).zip(status(last)).filter(|(first, last)| first <= last);
        let statuses = statuses.map(|(first, last)| Self(first..=last));
        statuses.ok_or_else(|| format!("invalid status {text:?}: expected one such as 200, or a range such as 200-399"))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.start() == self.0.end() {
            return self.0.start().fmt(f);
        }
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl Short for Health {
    type Scalar = Kind;

    fn short(kind: Value<Kind>) -> Self {
        Self { kind, ..Self::default() }
    }

    fn full<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for Health {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Self as Short>::read(deserializer)
    }
}
