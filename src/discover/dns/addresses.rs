use super::{
    answer::{Answer, First, Kind, Records, SOON},
    resolver::Resolver,
    settings::Settings,
};
use crate::{discover::Families, error::BoxError};
use futures_util::future::join_all;
use hickory_resolver::proto::rr::Name;
use std::{collections::HashMap, net::IpAddr};

/// The addresses that were last known of each name, by family: where one cannot be looked up, they stay.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(HashMap<(Name, Kind), Vec<IpAddr>>);

/// What was answered for one name, by family.
pub(super) type Answers = Vec<(Kind, Result<Answer, BoxError>)>;

/// What the answers of all families come to.
pub(super) struct Merged {
    pub(super) answer: Answer,
    /// Why the answer is only what was known before, if it is.
    pub(super) failure: Option<BoxError>,
}

/// The addresses of `name`, be it in one of the search domains.
///
/// # Errors
///
/// Where there is no such name, or nobody can say.
pub(super) async fn look_up(
    resolver: &Resolver,
    settings: &Settings,
    name: &Name,
    known: &mut Known,
) -> Result<Records, BoxError> {
    let mut first = First::default();
    for name in resolver.names(name) {
        let Merged { answer, failure } = known.merge(&name, ask(resolver, settings.families, &name).await);
        // It may be this one: another is not to be taken for it.
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(records) = first.of(answer) {
            return Ok(records);
        }
    }
    first.otherwise(settings, name)
}

/// Asks for the addresses of `name`, which is a full one.
pub(super) async fn ask(resolver: &Resolver, families: Families, name: &Name) -> Answers {
    let kinds = match families {
        Families::Both => &[Kind::A, Kind::Aaaa][..],
        Families::Ipv4 => &[Kind::A],
        Families::Ipv6 => &[Kind::Aaaa],
    };
    join_all(kinds.iter().map(async |kind| (*kind, resolver.ask(name, *kind).await))).await
}

impl Known {
    /// What the answers for `name` come to, with what is known where there is none.
    pub(super) fn merge(&mut self, name: &Name, answers: Answers) -> Merged {
        let (mut told, mut failed, asked) = (None, Vec::new(), answers.len());
        for (kind, answer) in answers {
            match answer {
                Ok(Answer::Records(records)) => {
                    // An answer of lies alone says nothing of what was known.
                    if !records.addresses.is_empty() || records.skipped.is_empty() {
                        self.0.insert((name.clone(), kind), records.addresses.clone());
                    }
                    told = Some(match told.take() {
                        Some(other) => records.and(other),
                        None => records,
                    });
                }
                Ok(Answer::NoSuchName) => _ = self.0.remove(&(name.clone(), kind)),
                Err(error) => failed.push((kind, error)),
            }
        }
        if failed.is_empty() {
            return Merged { answer: told.map_or(Answer::NoSuchName, Answer::Records), failure: None };
        }
        let is_silent = failed.len() == asked;
        let mut records = Records { lifetime: SOON, ..told.unwrap_or_default() };
        for (kind, error) in &failed {
            let known = self.0.get(&(name.clone(), *kind)).map_or(&[][..], Vec::as_slice);
            records.skipped.push(format!("{error}: {} known addresses stay", known.len()));
            records.addresses.extend(known);
        }
        // That one family has nothing means nothing where the other could not be asked.
        let failure = failed.into_iter().next().filter(|_| is_silent || records.addresses.is_empty());
        Merged { answer: Answer::Records(records), failure: failure.map(|(_, error)| error) }
    }

    /// Forgets all names but those.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&Name) -> bool) {
        self.0.retain(|(name, _), _| is_wanted(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn name() -> Name {
        Name::from_ascii("web.test.").unwrap()
    }

    fn found(address: &str, seconds: u64) -> Result<Answer, BoxError> {
        let addresses = vec![address.parse().unwrap()];
        Ok(Answer::Records(Records { addresses, lifetime: Duration::from_secs(seconds), ..Records::default() }))
    }

    fn failed() -> Result<Answer, BoxError> {
        Err("web.test. A: Server Failure".into())
    }

    /// The addresses, for how long, how many remarks, and whether it failed.
    fn come_to(
        known: &mut Known,
        v4: Result<Answer, BoxError>,
        v6: Result<Answer, BoxError>,
    ) -> (Vec<String>, u64, usize, bool) {
        let Merged { answer, failure } = known.merge(&name(), vec![(Kind::A, v4), (Kind::Aaaa, v6)]);
        let Answer::Records(records) = answer else { return (vec![], 0, 0, failure.is_some()) };
        let mut addresses: Vec<_> = records.addresses.iter().map(ToString::to_string).collect();
        addresses.sort();
        (addresses, records.lifetime.as_secs(), records.skipped.len(), failure.is_some())
    }

    #[test]
    fn a_family_that_cannot_be_looked_up_keeps_its_addresses() {
        let (mut known, both) = (Known::default(), vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()]);
        assert_eq!(come_to(&mut known, found("10.0.0.1", 9), found("fd00::1", 7)), (both.clone(), 7, 0, false));
        assert_eq!(come_to(&mut known, failed(), found("fd00::1", 7)), (both.clone(), 30, 1, false));
        // Where nobody answers, that is a failure, whatever is known.
        assert_eq!(come_to(&mut known, failed(), failed()), (both, 30, 2, true));
        // What is said to be gone is no longer known.
        let six = vec!["fd00::1".to_owned()];
        assert_eq!(come_to(&mut known, Ok(Answer::nothing(Some(3))), found("fd00::1", 7)), (six.clone(), 7, 0, false));
        assert_eq!(come_to(&mut known, failed(), found("fd00::1", 7)), (six, 30, 1, false));
        assert_eq!(come_to(&mut known, Ok(Answer::NoSuchName), Ok(Answer::NoSuchName)), (vec![], 0, 0, false));
    }

    #[test]
    fn a_family_without_addresses_says_nothing_where_the_other_cannot_be_looked_up() {
        let mut known = Known::default();
        assert!(come_to(&mut known, failed(), Ok(Answer::nothing(None))).3);
        assert!(come_to(&mut known, failed(), Ok(Answer::NoSuchName)).3);
        assert!(!come_to(&mut known, Ok(Answer::nothing(None)), Ok(Answer::nothing(None))).3);
    }
}
