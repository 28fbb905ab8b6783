use super::{
    answer::{Answer, Kind},
    settings::Settings,
};
use crate::error::BoxError;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{op::ResponseCode, rr::Name},
    system_conf::read_system_conf,
};
use std::{collections::HashSet, net::SocketAddr};

/// Asks name servers one question at a time. It keeps nothing: how long an answer is good is the source's to say.
pub(super) struct Resolver {
    inner: TokioResolver,
    search: Vec<Name>,
    /// A name with so many dots is tried as it is first.
    dots: usize,
}

impl Resolver {
    pub(super) fn new(settings: &Settings) -> Result<Self, BoxError> {
        let (config, mut options) = match &*settings.servers {
            [] => read_system_conf()?,
            servers => {
                let servers = servers.iter().copied().map(server).collect();
                let mut options = ResolverOpts::default();
                options.use_hosts_file = ResolveHosts::Never;
                (ResolverConfig::from_parts(None, Vec::new(), servers), options)
            }
        };
        (options.timeout, options.attempts) = (settings.timeout, settings.attempts);
        options.cache_size = 0;
        options.preserve_intermediates = true;
        let search = match &settings.search {
            Some(search) => search.iter().map(Name::from_str_relaxed).collect::<Result<_, _>>()?,
            None => config.domain().into_iter().chain(config.search()).cloned().collect(),
        };
        let dots = options.ndots;
        let inner = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        Ok(Self { inner, search, dots })
    }

    /// The full names for which `name` may stand, the likeliest first.
    pub(super) fn names(&self, name: &Name) -> Vec<Name> {
        let mut itself = name.clone();
        itself.set_fqdn(true);
        if name.is_fqdn() {
            return vec![itself];
        }
        let searched = self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names: Vec<_> = searched
            .map(|mut name| {
                name.set_fqdn(true);
                name
            })
            .collect();
        let at = if usize::from(name.num_labels()) > self.dots { 0 } else { names.len() };
        names.insert(at, itself);
        // A domain may be told twice; what is asked for once needs no second question.
        let mut asked = HashSet::new();
        names.retain(|name| asked.insert(name.clone()));
        names
    }

    /// What the name servers say of `name`, which is a full one.
    ///
    /// # Errors
    ///
    /// Where they cannot say, or say nothing.
    pub(super) async fn ask(&self, name: &Name, kind: Kind) -> Result<Answer, BoxError> {
        match self.inner.lookup(name.clone(), kind.record_type()).await {
            Ok(lookup) => Ok(Answer::read(name, kind, lookup.answers())),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                ResponseCode::NXDomain => Ok(Answer::NoSuchName),
                _ => Ok(Answer::nothing(none.negative_ttl)),
            },
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(format!("{name} {kind}: {code}").into()),
            Err(NetError::Timeout) => Err(format!("{name} {kind}: no answer in time").into()),
            Err(error) => Err(format!("{name} {kind}: {error}").into()),
        }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    // A server that says that there is no such name is believed, and the next one not asked.
    NameServerConfig::new(address.ip(), true, vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())])
}
