//! `discover`: who tells which backends a pool has. One of `dns`, `file`, `etcd` and `kubernetes`.

use super::{
    etcd::Etcd,
    scalars::{Share, UpTo},
    value::{Fault, Scalar, Value, only_if},
};
use humantime::format_duration;
use serde::{Deserialize, Deserializer, de};
use std::{fmt, net::SocketAddr, num::NonZero, time::Duration};
use tower_balancer::discover::{DEFAULT_DRAIN, Guard};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Discover {
    /// A name: of a service, or with `port` of addresses.
    pub dns: Option<Value<String>>,
    /// With `kubernetes` a name, too.
    pub port: Option<Value<String>>,
    pub servers: Vec<Value<SocketAddr>>,
    /// A Service and its namespace.
    pub kubernetes: Option<Value<String>>,
    pub kubeconfig: Option<Value<String>>,
    pub context: Option<Value<String>>,
    pub file: Option<Value<String>>,
    pub etcd: Option<Etcd>,
    pub prefix: Option<Value<String>>,
    pub refresh: Option<Value<Duration>>,
    pub drain: Option<Value<UpTo<Duration>>>,
    pub at_once: Option<Value<Share>>,
    pub confirm_after: Option<Value<UpTo<Duration>>>,
}

/// Where it asks.
#[derive(Clone, Copy, Debug)]
pub enum Where<'a> {
    Dns(&'a Value<String>),
    File(&'a Value<String>),
    Etcd { etcd: &'a Etcd, prefix: &'a str },
    Kubernetes(&'a Value<String>),
}

impl Where<'_> {
    /// The feature of the library that it takes, and whether it is there.
    fn feature(&self) -> (&'static str, bool) {
        match self {
            Self::Dns(_) => ("dns", cfg!(feature = "dns")),
            Self::File(_) => ("file", cfg!(feature = "file")),
            Self::Etcd { .. } => ("etcd", cfg!(feature = "etcd")),
            Self::Kubernetes(_) => ("kubernetes", cfg!(feature = "kubernetes")),
        }
    }

    /// Where it is said.
    fn fault(&self, words: String) -> Fault {
        match self {
            Self::Dns(value) | Self::File(value) | Self::Kubernetes(value) => value.fault(words),
            Self::Etcd { etcd, .. } => etcd.endpoints[0].fault(words),
        }
    }
}

impl Discover {
    pub fn place(&self) -> Where<'_> {
        match (&self.dns, &self.file, &self.kubernetes, &self.etcd) {
            (Some(name), ..) => Where::Dns(name),
            (_, Some(path), ..) => Where::File(path),
            (_, _, Some(service), _) => Where::Kubernetes(service),
            (.., Some(etcd)) => Where::Etcd { etcd, prefix: self.prefix.as_deref().map_or("/", String::as_str) },
            (None, None, None, None) => unreachable!("one of them was read"),
        }
    }

    /// Whether the backends that it tells of may be in tiers.
    pub fn brings_tiers(&self) -> bool {
        match self.place() {
            Where::Dns(_) => self.port.is_none(),
            Where::Kubernetes(_) => false,
            Where::File(_) | Where::Etcd { .. } => true,
        }
    }

    /// And in zones.
    pub fn brings_zones(&self) -> bool {
        !matches!(self.place(), Where::Dns(_))
    }

    pub fn guard(&self) -> Guard {
        let mut guard = Guard::default();
        if let Some(share) = self.at_once.as_deref() {
            guard = guard.at_once(share.0);
        }
        match self.confirm_after.as_deref() {
            Some(time) => guard.confirm_after(time.unwrap_or_default()),
            None => guard,
        }
    }

    pub fn drain(&self) -> Duration {
        self.drain.as_deref().map_or(DEFAULT_DRAIN, |drain| drain.unwrap_or_default())
    }

    pub fn validate(&self) -> Result<(), Fault> {
        let place = self.place();
        let of = |kinds: &'static str| move || format!("this is of a source by {kinds}, and there is another");
        let (dns, etcd, kubernetes) = (self.dns.is_some(), self.etcd.is_some(), self.kubernetes.is_some());
        only_if(dns || kubernetes, self.port.as_ref(), of("dns or kubernetes"))?;
        self.number()?;
        only_if(kubernetes, self.kubeconfig.as_ref(), of("kubernetes"))?;
        only_if(kubernetes, self.context.as_ref(), of("kubernetes"))?;
        if let (Some(context), None) = (&self.context, &self.kubeconfig) {
            return Err(context.fault("expected kubeconfig as well"));
        }
        only_if(dns, self.servers.first(), of("dns"))?;
        only_if(etcd, self.prefix.as_ref(), of("etcd"))?;
        let (feature, is_built) = place.feature();
        let told = || format!("{feature} tells of changes as they happen: expected no refresh");
        only_if(!etcd && !kubernetes, self.refresh.as_ref(), told)?;
        // What is wrong with it is of more use than what it takes to build it.
        if let Where::Etcd { etcd, .. } = place {
            let Some(_) = &self.prefix else {
                return Err(etcd.endpoints[0].fault("expected prefix as well, such as prefix = \"/web/\""));
            };
            etcd.validate()?;
        }
        #[cfg(feature = "dns")]
        if let Where::Dns(name) = place {
            self.names(name).map_err(|error| name.fault(error.to_string()))?;
        }
        #[cfg(feature = "kubernetes")]
        if let Where::Kubernetes(service) = place {
            self.pods(service).map_err(|error| service.fault(error.to_string()))?;
        }
        if is_built {
            return Ok(());
        }
        let command = format!("cargo build --release --features {feature} --example gateway");
        let protoc = if feature == "etcd" { ", which needs protoc" } else { "" };
        Err(place.fault(format!("a source by {feature} is not in this build: build it with `{command}`{protoc}")))
    }

    /// The port, where it has to be a number.
    fn number(&self) -> Result<Option<NonZero<u16>>, Fault> {
        let Some(port) = self.port.as_ref().filter(|_| self.dns.is_some()) else { return Ok(None) };
        <NonZero<u16>>::read(port).map(Some).map_err(|words| port.fault(words))
    }

    /// The source of the backends at `name`.
    #[cfg(feature = "dns")]
    pub fn names(
        &self,
        name: &str,
    ) -> Result<tower_balancer::discover::DnsSource<SocketAddr>, tower_balancer::discover::InvalidName> {
        use tower_balancer::discover::DnsSource;
        let mut source = match self.number().ok().flatten() {
            Some(port) => DnsSource::addresses(name, port.get())?,
            None => DnsSource::services(name)?,
        };
        if !self.servers.is_empty() {
            source = source.servers(self.servers.iter().map(|server| **server));
        }
        Ok(match self.refresh.as_deref() {
            // Not more often than the name servers ask for, unless that is what is asked for here.
            Some(refresh) => source.ttl((*refresh).min(LEAST), *refresh),
            None => source,
        })
    }

    /// The source of the pods behind `service`.
    #[cfg(feature = "kubernetes")]
    pub fn pods(
        &self,
        service: &str,
    ) -> Result<tower_balancer::discover::KubernetesSource<SocketAddr>, tower_balancer::discover::InvalidService> {
        use tower_balancer::discover::{KubernetesConfig, KubernetesSource};
        let mut config = match self.kubeconfig.as_deref() {
            Some(path) => KubernetesConfig::kubeconfig(path.as_str()),
            None => KubernetesConfig::in_cluster(),
        };
        if let Some(context) = self.context.as_deref() {
            config = config.context(context.as_str());
        }
        // As every pod is told; its own names it may not be able to look up.
        let told = |key: &str| std::env::var(format!("KUBERNETES_SERVICE_{key}"));
        if let (None, Ok(host), Ok(port)) = (&self.kubeconfig, told("HOST"), told("PORT")) {
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            config = config.server(format!("https://{host}:{port}"));
        }
        let source = KubernetesSource::new(config, service)?;
        Ok(match self.port.as_deref() {
            Some(port) => source.port(port.as_str()),
            None => source,
        })
    }

    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.place() {
            Where::Dns(name) if self.port.is_none() && !name.starts_with('_') => {
                let words = "without discover.port services are looked up (SRV): for the addresses of a host set it";
                warnings.push(format!("{words} (dns {:?})", **name));
            }
            Where::Etcd { etcd, prefix } => {
                warnings.extend(etcd.warning());
                if !prefix.ends_with('/') {
                    warnings
                        .push(format!("discover.prefix {prefix:?} does not end in a slash: longer names begin so too"));
                }
            }
            _ => {}
        }
        if self.guard() == Guard::off() || self.confirm_after.as_deref().is_some_and(|time| time.is_none()) {
            warnings
                .push("discover.confirm_after is 0: a source that lists nobody empties the pool at once".to_owned());
        }
        warnings
    }
}

/// A time to live of nothing is so much.
#[cfg(feature = "dns")]
const LEAST: Duration = Duration::from_secs(5);

impl fmt::Display for Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Where::Dns(name) => {
                match &self.port {
                    Some(port) => write!(f, "dns {}, addresses with port {}", **name, **port)?,
                    None => write!(f, "dns {}, services", **name)?,
                }
                for server in &self.servers {
                    write!(f, ", asked of {}", **server)?;
                }
                if let Some(refresh) = self.refresh.as_deref() {
                    write!(f, ", again after {} at the latest", format_duration(*refresh))?;
                }
            }
            Where::File(path) => {
                let every = self.refresh.as_deref().copied().unwrap_or(Duration::from_secs(1));
                write!(f, "file {}, read every {}", **path, format_duration(every))?;
            }
            Where::Etcd { etcd, prefix } => write!(f, "{etcd}, keys that begin with {prefix}")?,
            Where::Kubernetes(service) => {
                write!(f, "kubernetes {}", **service)?;
                match &self.port {
                    Some(port) => write!(f, ", port {}", **port)?,
                    None => f.write_str(", its only port")?,
                }
                match &self.kubeconfig {
                    Some(path) => write!(f, ", by the kubeconfig {}", **path)?,
                    None => f.write_str(", as the service account of this pod")?,
                }
                if let Some(context) = &self.context {
                    write!(f, " in the context {}", **context)?;
                }
            }
        }
        write!(f, "; who leaves has {} for its requests", format_duration(self.drain()))
    }
}

impl<'de> Deserialize<'de> for Discover {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Self::deserialize(deserializer)?;
        let sources = [read.dns.is_some(), read.file.is_some(), read.etcd.is_some(), read.kubernetes.is_some()];
        match sources.into_iter().filter(|is_there| *is_there).count() {
            1 => Ok(read),
            0 => Err(de::Error::custom("no source: expected one of dns, file, etcd, kubernetes")),
            _ => Err(de::Error::custom("more than one source: expected one of dns, file, etcd, kubernetes")),
        }
    }
}
