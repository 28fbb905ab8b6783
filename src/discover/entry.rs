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
    #[serde(skip_serializing_if = "is_zero")]
    priority: u32,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(priority: &u32) -> bool {
    *priority == 0
}

impl Entry {
    /// The backend at `url`, with nothing else said.
    pub fn new(url: impl Into<String>) -> Self {
        let (zone, state, unknown) = Default::default();
        Self { url: url.into(), weight: None, zone, priority: 0, state, unknown }
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
        Self { priority, ..self }
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
    pub(super) fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The endpoint that it stands for.
    pub(super) fn endpoint<T>(&self, target: &Target<T>) -> Result<Endpoint<T>, BoxError> {
        let mut member = target(&self.url)?.priority(self.priority);
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
            #[serde(default)]
            priority: u32,
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
