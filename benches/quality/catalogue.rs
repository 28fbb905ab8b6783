//! The scenarios that come along.

use super::scenario::Scenario;

macro_rules! scenarios {
    ($($id:literal)*) => { [$(($id, include_str!(concat!("scenarios/", $id, ".toml")))),*] };
}

/// By id, in the order of the report.
const SCENARIOS: [(&str, &str); 22] = scenarios! {
    "S1a" "S1b" "S2" "S3" "S4" "S5-0.75" "S5-1.03" "S5-1.27" "S5-1.57" "S5-1.74" "S5b-0.9" "S5b-0.7"
    "S6" "S7" "S8-1" "S8-10" "S8-100" "S9" "S10" "S11" "S13" "S14"
};

/// The scenarios whose ratios make up the composite.
pub const COMPOSITE: [&str; 14] =
    ["S1a", "S1b", "S2", "S3", "S4", "S5b-0.9", "S5b-0.7", "S6", "S7", "S8-1", "S8-10", "S8-100", "S9", "S11"];

/// The scenario of that id; or all whose id begins with it and goes on with `-`, so that `S8` is all three.
pub fn scenarios(id: Option<&str>) -> Vec<Scenario> {
    let family = |name: &str, id: &str| name == id || name.strip_prefix(id).is_some_and(|rest| rest.starts_with('-'));
    SCENARIOS
        .iter()
        .filter(|(name, _)| id.is_none_or(|id| family(name, id)))
        .map(|(name, text)| Scenario::parse(text).unwrap_or_else(|error| panic!("scenario {name}: {error}")))
        .collect()
}
