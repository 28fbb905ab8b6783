use super::Endpoint;
use crate::{backend::Weight, error::BoxError, pool::Member};
use serde::{
    Deserialize, Serialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// One backend as files and registries spell it: a URL, or a table with more.
///
/// ```
/// use tower_balancer::discover::Entry;
///
/// let entry: Entry = serde_json::from_str(
///     r#"{"url": "http://10.0.0.1:8080", "weight": 2, "zone": "eu-1a", "priority": 0, "state": "draining"}"#,
/// )?;
/// assert_eq!(entry.url(), "http://10.0.0.1:8080");
/// assert!(entry.is_draining());
/// let entry: Entry = serde_json::from_str(r#""http://10.0.0.1:8080""#)?;
/// assert_eq!(serde_json::to_string(&entry)?, r#"{"url":"http://10.0.0.1:8080"}"#);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "State::is_active")]
    state: State,
    /// What it has that nobody knows here.
    #[serde(skip)]
    unknown: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Active,
    Draining,
}

impl State {
    fn is_active(&self) -> bool {
        *self == Self::Active
    }
}

impl Entry {
    /// The backend at `url`, with nothing else said.
    pub fn new(url: impl Into<String>) -> Self {
        let (weight, zone, priority, state, unknown) = Default::default();
        Self { url: url.into(), weight, zone, priority, state, unknown }
    }

    /// The same with a share of the traffic; 1 unless it is said.
    pub fn weight(self, weight: Weight) -> Self {
        Self { weight: Some(weight.get()), ..self }
    }

    /// The same in a zone.
    pub fn zone(self, zone: impl Into<String>) -> Self {
        Self { zone: Some(zone.into()), ..self }
    }

    /// The same in a priority tier; 0, which comes first, unless it is said.
    pub fn priority(self, priority: u32) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// The same, drained or no longer drained.
    pub fn draining(self, is_draining: bool) -> Self {
        Self { state: if is_draining { State::Draining } else { State::Active }, ..self }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is drained.
    pub fn is_draining(&self) -> bool {
        self.state == State::Draining
    }

    /// What it has beside what is known here: a slip of the pen in a file, a newer word in a registry.
    #[cfg(feature = "file")]
    pub(super) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The endpoint that it stands for.
    pub(super) fn endpoint<T>(&self, target: &Target<T>) -> Result<Endpoint<T>, BoxError> {
        let mut member = target(&self.url)?;
        if let Some(priority) = self.priority {
            member = member.priority(priority);
        }
        if let Some(weight) = self.weight {
            member = member.weight(Weight::new(weight)?);
        }
        if let Some(zone) = &self.zone {
            member = member.zone(zone.as_str());
        }
        let endpoint = Endpoint::from(member);
        Ok(if self.is_draining() { endpoint.draining() } else { endpoint })
    }
}

/// Makes the member of a URL.
pub(super) type Target<T> = Arc<dyn Fn(&str) -> Result<Member<T>, BoxError> + Send + Sync>;

/// A text, or a table.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Table {
            url: String,
            weight: Option<f64>,
            zone: Option<String>,
            priority: Option<u32>,
            #[serde(default)]
            state: State,
            #[serde(flatten)]
            unknown: BTreeMap<String, IgnoredAny>,
        }

        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a table with url, weight, zone, priority, state")
            }

            fn visit_str<E>(self, url: &str) -> Result<Entry, E> {
                Ok(Entry::new(url))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                let Table { url, weight, zone, priority, state, unknown } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Entry { url, weight, zone, priority, state, unknown: unknown.into_keys().collect() })
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_entry_does_not_say_is_left_to_whoever_makes_the_member() {
        let target: Target<()> =
            Arc::new(|url| Ok(Member::new(url, ()).priority(3).zone("here").weight(Weight::new(2.0)?)));
        let made = |json: &str| serde_json::from_str::<Entry>(json).unwrap().endpoint(&target).unwrap();
        let seen = |endpoint: Endpoint<()>| {
            let pool = crate::BackendPool::from_members([endpoint.member]).unwrap();
            let backend = &pool.backends()[0];
            (backend.weight(), backend.locality().priority, backend.locality().zone.clone())
        };
        assert_eq!(seen(made(r#""a""#)), (2.0, 3, Some("here".into())));
        let all = r#"{"url": "a", "weight": 0.5, "zone": "there", "priority": 0}"#;
        assert_eq!(seen(made(all)), (0.5, 0, Some("there".into())));
        assert!(!made(all).is_draining && made(r#"{"url": "a", "state": "draining"}"#).is_draining);
        // It is written as it is read.
        let entry: Entry = serde_json::from_str(all).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&serde_json::to_string(&entry).unwrap()).unwrap(), entry);
        assert!(serde_json::from_str::<Entry>(r#"{"url": "a", "state": "asleep"}"#).is_err());
    }
}
