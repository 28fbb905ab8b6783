use crate::{backend::BackendId, hash::mix};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// What one gateway has found out about the backends that it asks, as it stands in etcd.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Ballot {
    /// A [digest] of all backends that it knows, asked by it or not.
    pub(super) digest: u64,
    pub(super) votes: BTreeMap<Arc<str>, Vote>,
}

/// What it says of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Vote {
    Well,
    /// Why not.
    Ill(Arc<str>),
    /// It is to be out until somebody has asked it, and nobody has here.
    Unasked,
}

impl Vote {
    pub(super) fn is_ill(&self) -> bool {
        matches!(self, Self::Ill(_))
    }
}

/// The same for whoever knows the same backends, in whatever order.
pub(super) fn digest<'a>(ids: impl Iterator<Item = &'a BackendId>) -> u64 {
    ids.fold(0, |sum, id| sum.wrapping_add(mix(id.hash64(), 1)))
}
