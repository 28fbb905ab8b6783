use std::sync::Arc;

/// Where a backend stands among the others: its priority tier and its zone. Like the weight, it is no part of the
/// identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Its tier: 0 comes first, the next where that is not healthy enough.
    pub priority: u32,
    /// The zone, rack or data centre that it is in, where that is known.
    pub zone: Option<Arc<str>>,
}
