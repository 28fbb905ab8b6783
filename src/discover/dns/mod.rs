mod addresses;
mod answer;
mod resolver;
mod services;
mod settings;

use super::{AddressTarget, Endpoint, Source, Update};
#[cfg(feature = "http")]
use crate::backend::Origin;
use crate::{backend::Weight, error::BoxError, hash::hash_key, pool::Member};
use addresses::Known;
use hickory_resolver::proto::rr::Name;
use resolver::Resolver;
use settings::{Lifetimes, Settings};
use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// The backends that a name stands for in the DNS: by its addresses (A, AAAA), or by its services (SRV, RFC 2782).
///
/// ```no_run
/// use tower_balancer::{BackendPool, Discoverer, discover::DnsSource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = BackendPool::empty();
/// let source = DnsSource::services("_http._tcp.web.internal")?.http();
/// // or: DnsSource::addresses("web.internal", 8080)?.http()
/// let discoverer = Discoverer::new(&pool, source);
/// tokio::spawn(discoverer.run());
/// # Ok(())
/// # }
/// ```
///
/// | the name servers say | that is |
/// |---|---|
/// | addresses, or services with addresses | who is there, for as long as the [time to live](Self::ttl) says |
/// | the name exists and has no such records; a service with the target `.` | that nobody is there: a [`Guard`](super::Guard) looks again |
/// | there is no such name | a failure, unless [`absent_is_empty`](Self::absent_is_empty) |
/// | SERVFAIL, REFUSED, nothing in time | a failure |
///
/// Where one of two families, or some of a service's targets, cannot be looked up, the addresses that were last known of them
/// stay. An answer is not believed blindly: records for another name than the one that was asked for, addresses that nobody
/// can have (`0.0.0.0`, multicast, broadcast, link-local ones without an interface) and what is beyond 1000 backends are left
/// out and named; where nothing else is left, that is a failure.
///
/// A service's priority becomes the tier, its weight the weight, shared out among the addresses of its target. Those of weight
/// 0 share a weight of 1: that is the chance that the algorithm of RFC 2782 gives them.
///
/// # Limits
///
/// A service name must not be an alias (CNAME). The connections to the name servers are tasks that the resolver runs on the
/// runtime, and which end with the source.
pub struct DnsSource<T> {
    question: Question,
    target: AddressTarget<T>,
    settings: Settings,
    resolver: Option<Resolver>,
    known: Known,
    /// When to ask next.
    due: Option<Instant>,
}

#[derive(Clone, Debug)]
enum Question {
    Addresses(Name, u16),
    Services(Name),
}

/// More than this is more than a pool is good for, or an answer that was made to do harm.
const MOST: usize = 1_000;

impl DnsSource<SocketAddr> {
    /// The addresses of `name`, each with `port`. A name that ends in a dot is looked for as it is, another with the search
    /// domains as well.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] where `name` is no name of the DNS.
    pub fn addresses(name: &str, port: u16) -> Result<Self, InvalidName> {
        Ok(Self::new(Question::Addresses(parsed(name)?, port)))
    }

    /// The services of `name`, such as `_http._tcp.web.internal`, with their ports.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] where `name` is no name of the DNS.
    pub fn services(name: &str) -> Result<Self, InvalidName> {
        Ok(Self::new(Question::Services(parsed(name)?)))
    }

    fn new(question: Question) -> Self {
        let target = Arc::new(|address: SocketAddr| Ok(Member::new(address.to_string(), address)));
        let (resolver, known, due) = Default::default();
        Self { question, target, settings: Settings::default(), resolver, known, due }
    }
}

fn parsed(name: &str) -> Result<Name, InvalidName> {
    let invalid = |problem: String| InvalidName { name: name.to_owned(), problem };
    if name.parse::<IpAddr>().is_ok() {
        return Err(invalid("it is an address, which needs no DNS".to_owned()));
    }
    let parsed = Name::from_str_relaxed(name).map_err(|error| invalid(error.to_string()))?;
    if parsed.num_labels() == 0 { Err(invalid("it is empty".to_owned())) } else { Ok(parsed) }
}

#[cfg(feature = "http")]
impl DnsSource<SocketAddr> {
    /// HTTP backends at these addresses.
    pub fn http(self) -> DnsSource<Origin> {
        self.with(|address| Ok(Member::url(&format!("http://{address}"))?))
    }
}

impl<T> DnsSource<T> {
    /// The same with members of another kind, made by `target` of each address. One for which it fails is left out; weight and
    /// priority of a service go before what it says.
    pub fn with<U>(
        self,
        target: impl Fn(SocketAddr) -> Result<Member<U>, BoxError> + Send + Sync + 'static,
    ) -> DnsSource<U> {
        let Self { question, settings, resolver, known, due, .. } = self;
        DnsSource { question, target: Arc::new(target), settings, resolver, known, due }
    }

    async fn look(&mut self) -> Result<(Update<T>, Duration), BoxError> {
        let resolver = match self.resolver.take() {
            Some(resolver) => resolver,
            None => Resolver::new(&self.settings)?,
        };
        let mut found = match &self.question {
            Question::Addresses(name, port) => {
                let found = addresses::look_up(&resolver, &self.settings, name, &mut self.known).await?;
                let backend = |address: &IpAddr| Backend { address: SocketAddr::new(*address, *port), service: None };
                let list = found.addresses.iter().map(backend).collect();
                Backends { list, lifetime: found.lifetime, skipped: found.skipped }
            }
            Question::Services(name) => services::look_up(&resolver, &self.settings, name, &mut self.known).await?,
        };
        // What was found is found again; after a failure the servers may be others.
        self.resolver = Some(resolver);

        found.list.sort_by_key(|backend| backend.address);
        if found.list.len() > MOST {
            found.skipped.push(format!("more than {MOST} backends: {} are left out", found.list.len() - MOST));
            found.list.truncate(MOST);
        }
        let mut endpoints = Vec::with_capacity(found.list.len());
        for backend in &found.list {
            match (self.target)(backend.address) {
                Ok(member) => endpoints.push(backend.endpoint(member)),
                Err(problem) => found.skipped.push(format!("{}: {problem}", backend.address)),
            }
        }
        if let (true, Some(first)) = (endpoints.is_empty(), found.skipped.first()) {
            return Err(format!("there is nothing usable in the answer: {first}").into());
        }
        let version = format!("{:016x}", hash_key(format!("{:?}", found.list)));
        Ok((Update::set(endpoints).skipped(found.skipped).version(version), found.lifetime))
    }
}

/// What the DNS says of one backend.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Backend {
    address: SocketAddr,
    service: Option<Service>,
}

/// What a service says of itself beside where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Service {
    weight: f64,
    priority: u16,
}

impl Backend {
    fn endpoint<T>(&self, member: Member<T>) -> Endpoint<T> {
        match self.service {
            Some(Service { weight, priority }) => {
                member.weight(Weight::new(weight).unwrap_or_default()).priority(priority.into()).into()
            }
            None => member.into(),
        }
    }
}

/// What was found, for how long it is good, and what was left out.
#[derive(Debug, PartialEq)]
struct Backends {
    list: Vec<Backend>,
    lifetime: Duration,
    skipped: Vec<String>,
}

impl<T: Send + 'static> Source<T> for DnsSource<T> {
    async fn next(&mut self) -> Option<Result<Update<T>, BoxError>> {
        if let Some(due) = self.due {
            sleep_until(due).await;
        }
        let answer = self.look().await;
        let Lifetimes { least, most } = self.settings.lifetimes;
        self.due = answer.as_ref().ok().map(|(_, lifetime)| Instant::now() + (*lifetime).clamp(least, most));
        Some(answer.map(|(update, _)| update))
    }

    fn look_again(&mut self) -> bool {
        self.due = None;
        true
    }

    fn name(&self) -> String {
        match &self.question {
            Question::Addresses(name, _) | Question::Services(name) => format!("dns {name}"),
        }
    }
}

impl<T> fmt::Debug for DnsSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsSource")
            .field("question", &self.question)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The error for a text that is no name of the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    name: String,
    problem: String,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid name {:?}: {}; expected a name such as web.internal", self.name, self.problem)
    }
}

impl Error for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_refused_by_name() {
        for (name, problem) in
            [("", "empty"), (".", "empty"), ("10.0.0.1", "an address"), ("::1", "an address"), ("a..b", "")]
        {
            let error = DnsSource::addresses(name, 80).expect_err(name).to_string();
            assert!(error.contains(&format!("{name:?}")) && error.contains(problem), "{error}");
        }
    }
}
