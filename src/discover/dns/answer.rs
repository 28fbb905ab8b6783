//! What an answer says, and what it says that it cannot know. Pure.

use super::settings::Settings;
use crate::error::BoxError;
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType, rdata::SRV};
use std::{collections::HashSet, fmt, net::IpAddr, time::Duration};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    A,
    Aaaa,
    Srv,
}

impl Kind {
    pub(super) fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Srv => RecordType::SRV,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record_type().fmt(f)
    }
}

/// What the name servers say of a name.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Records(Records),
    NoSuchName,
}

/// The records of a name, for how long they are good, and what was in the answer beside them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Records {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) services: Vec<SRV>,
    pub(super) lifetime: Duration,
    pub(super) skipped: Vec<String>,
}

/// How soon it is asked again for what is not there now or could not be looked up, where nobody says for how long that is so.
pub(super) const SOON: Duration = Duration::from_secs(30);

impl Answer {
    /// The name exists, and has no such records.
    pub(super) fn nothing(seconds: Option<u32>) -> Self {
        let lifetime = seconds.map_or(SOON, |seconds| Duration::from_secs(seconds.into()));
        Self::Records(Records { lifetime, ..Records::default() })
    }

    /// The records for `name`, and for those for which it is an alias.
    pub(super) fn read(name: &Name, kind: Kind, answers: &[Record]) -> Self {
        let owners = owners(name, answers);
        let mut records = Records::default();
        let mut lifetime = u32::MAX;
        for record in answers.iter().filter(|record| record.dns_class == DNSClass::IN) {
            if record.record_type() == RecordType::CNAME && owners.contains(&record.name) {
                lifetime = lifetime.min(record.ttl);
            }
            if record.record_type() != kind.record_type() {
                continue;
            }
            if !owners.contains(&record.name) {
                records.skipped.push(format!("{} {}: a record for another name", record.name, record.data));
                continue;
            }
            let problem = match &record.data {
                RData::A(address) => records.add(address.0.into()),
                RData::AAAA(address) => records.add(address.0.into()),
                RData::SRV(service) => {
                    records.services.push(service.clone());
                    None
                }
                _ => None,
            };
            match problem {
                Some(problem) => records.skipped.push(format!("{} {}: {problem}", record.name, record.data)),
                None => lifetime = lifetime.min(record.ttl),
            }
        }
        records.lifetime = if lifetime == u32::MAX { SOON } else { Duration::from_secs(lifetime.into()) };
        Self::Records(records)
    }
}

impl Records {
    /// Whether the name exists, and nothing else.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.services.is_empty() && self.skipped.is_empty()
    }

    /// Those of both. Of a family of which there is none nobody needs to know for how long.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.lifetime = match (self.addresses.is_empty(), other.addresses.is_empty()) {
            (true, false) => other.lifetime,
            (false, true) => self.lifetime,
            _ => self.lifetime.min(other.lifetime),
        };
        self.addresses.extend(other.addresses);
        self.skipped.extend(other.skipped);
        self
    }

    /// Adds an address, or says what is wrong with it.
    fn add(&mut self, address: IpAddr) -> Option<&'static str> {
        let problem = unusable(address);
        if problem.is_none() {
            self.addresses.push(address);
        }
        problem
    }
}

/// Of the names for which one may stand, the first that has such records.
#[derive(Debug, Default)]
pub(super) struct First {
    /// Of one that exists and has none.
    empty: Option<Records>,
}

impl First {
    /// The records, if it is this one.
    pub(super) fn of(&mut self, answer: Answer) -> Option<Records> {
        match answer {
            Answer::Records(records) if !records.is_empty() => return Some(records),
            Answer::Records(records) => self.empty = self.empty.take().or(Some(records)),
            Answer::NoSuchName => {}
        }
        None
    }

    /// What `name` stands for where it was none of them.
    ///
    /// # Errors
    ///
    /// Where none of them exists, unless that is to mean that there is nobody.
    pub(super) fn otherwise(self, settings: &Settings, name: &Name) -> Result<Records, BoxError> {
        match self.empty {
            Some(empty) => Ok(empty),
            None if settings.absent_is_empty => Ok(Records { lifetime: SOON, ..Records::default() }),
            None => Err(format!("{name} does not exist").into()),
        }
    }
}

/// Names for which `name` may be an alias, and so on: RFC 1034 has aliases of aliases, and somebody may make a ring of them.
const LONGEST_CHAIN: usize = 16;

/// The names whose records are records of `name`.
fn owners(name: &Name, answers: &[Record]) -> HashSet<Name> {
    let mut owners = HashSet::from([name.clone()]);
    for _ in 0..LONGEST_CHAIN {
        let aliases = answers.iter().filter_map(|record| match &record.data {
            RData::CNAME(alias) if owners.contains(&record.name) => Some(alias.0.clone()),
            _ => None,
        });
        let aliases: Vec<_> = aliases.filter(|alias| !owners.contains(alias)).collect();
        if aliases.is_empty() {
            break;
        }
        owners.extend(aliases);
    }
    owners
}

/// Why no backend can be there, if none can.
fn unusable(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("nobody's address"),
        IpAddr::V6(address) if address.is_unspecified() => Some("nobody's address"),
        IpAddr::V4(address) if address.is_broadcast() => Some("everybody's address"),
        address if address.is_multicast() => Some("the address of a group"),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some("a link-local address without an interface"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::rdata::CNAME;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(std::net::Ipv4Addr::from(address).into()))
    }

    fn cname(owner: &str, ttl: u32, alias: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(alias))))
    }

    fn read(kind: Kind, answers: &[Record]) -> Records {
        match Answer::read(&name("web.test."), kind, answers) {
            Answer::Records(records) => records,
            Answer::NoSuchName => panic!("there is an answer"),
        }
    }

    #[test]
    fn aliases_are_followed_in_whatever_order_and_the_shortest_life_counts() {
        let answers = [
            a("c.test.", 300, [10, 0, 0, 1]),
            cname("B.test.", 20, "c.test."),
            cname("web.test.", 60, "b.test."),
            // A ring of aliases has no end and adds nothing.
            cname("c.test.", 60, "web.test."),
        ];
        let records = read(Kind::A, &answers);
        assert_eq!(records.addresses, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!((records.lifetime, records.skipped), (Duration::from_secs(20), vec![]));
    }

    #[test]
    fn what_an_answer_cannot_know_or_nobody_can_have_is_named() {
        let records = read(
            Kind::A,
            &[
                a("web.test.", 60, [10, 0, 0, 1]),
                a("bank.test.", 1, [10, 6, 6, 6]),
                a("web.test.", 1, [0, 0, 0, 0]),
                a("web.test.", 1, [224, 0, 0, 1]),
                a("web.test.", 1, [255, 255, 255, 255]),
            ],
        );
        assert_eq!((records.addresses.len(), records.lifetime), (1, Duration::from_secs(60)));
        let expected = [
            "bank.test. 10.6.6.6: a record for another name",
            "web.test. 0.0.0.0: nobody's address",
            "web.test. 224.0.0.1: the address of a group",
            "web.test. 255.255.255.255: everybody's address",
        ];
        assert_eq!(records.skipped, expected);
    }

    #[test]
    fn which_addresses_nobody_can_have() {
        for bad in ["0.1.2.3", "239.1.1.1", "::", "ff02::1", "fe80::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
            assert!(unusable(bad.parse().unwrap()).is_some(), "{bad}");
        }
        for good in ["10.0.0.1", "127.0.0.1", "192.0.2.1", "::1", "fd00::1", "2001:db8::1"] {
            assert_eq!(unusable(good.parse().unwrap()), None, "{good}");
        }
    }
}
