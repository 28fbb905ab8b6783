use crate::backend::BackendId;

/// The backend that answered: a response extension, for access logs and whoever else wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedBy(BackendId);

impl ServedBy {
    pub(in crate::http) fn new(backend: BackendId) -> Self {
        Self(backend)
    }

    /// Its id.
    pub fn backend(&self) -> &BackendId {
        &self.0
    }
}
