use super::DnsSource;
use crate::discover::Families;
use std::{net::SocketAddr, time::Duration};

/// How a name is looked up.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Those of the system where there are none.
    pub(super) servers: Vec<SocketAddr>,
    /// Those of the system where nothing is said.
    pub(super) search: Option<Vec<String>>,
    pub(super) families: Families,
    pub(super) lifetimes: Lifetimes,
    pub(super) timeout: Duration,
    pub(super) attempts: usize,
    pub(super) absent_is_empty: bool,
}

/// Within which times an answer is asked for again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    pub(super) least: Duration,
    pub(super) most: Duration,
}

/// A time to live of 0 must not mean to ask all the time, and one of a day not to be a day late.
const LEAST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(5 * 60);

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: None,
            families: Families::Both,
            lifetimes: Lifetimes { least: LEAST, most: MOST },
            timeout: Duration::from_secs(5),
            attempts: 2,
            absent_is_empty: false,
        }
    }
}

impl<T> DnsSource<T> {
    /// The name servers to ask, over UDP and, where an answer is too long for that, TCP. Unless it is set, those of the system
    /// (`/etc/resolv.conf`, `/etc/hosts`), which are read when the first question is asked and again after a failure.
    pub fn servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.settings.servers = servers.into_iter().collect();
        self
    }

    /// The domains in which a name without a dot at its end is looked for as well, in this order: before the name itself where
    /// that has no dot at all (or fewer than the `ndots` of the system, where its servers are asked), after it otherwise.
    /// Unless it is set, those of the system where its servers are asked.
    pub fn search<D: Into<String>>(mut self, domains: impl IntoIterator<Item = D>) -> Self {
        self.settings.search = Some(domains.into_iter().map(Into::into).collect());
        self
    }

    /// Which addresses count, by default both families: by A records, and by AAAA ones. A server with an address of each is two
    /// backends.
    pub fn families(mut self, families: Families) -> Self {
        self.settings.families = families;
        self
    }

    /// Within which times the name is asked for again, by default 5 s and 5 minutes: its time to live where that is between
    /// them. A year at most; `most` below `least` counts as that.
    pub fn ttl(mut self, least: Duration, most: Duration) -> Self {
        let year = Duration::from_secs(365 * 86_400);
        let least = least.clamp(Duration::from_millis(10), year);
        self.settings.lifetimes = Lifetimes { least, most: most.clamp(least, year) };
        self
    }

    /// How long a name server has to answer, by default 5 s, and how often it is asked again before that is a failure, by
    /// default twice.
    pub fn timeout(mut self, timeout: Duration, attempts: usize) -> Self {
        (self.settings.timeout, self.settings.attempts) = (timeout, attempts);
        self
    }

    /// A name that does not exist stands for nobody, instead of being a failure: where the servers of a service that has none
    /// just now say so.
    pub fn absent_is_empty(mut self) -> Self {
        self.settings.absent_is_empty = true;
        self
    }
}
