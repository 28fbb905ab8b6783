use crate::{backend::BackendId, pool::Member};
use std::sync::Arc;

/// A backend that a source lists. Most are just a [`Member`], and made from one.
#[derive(Clone, Debug)]
pub struct Endpoint<T> {
    pub(super) member: Member<T>,
    pub(super) is_draining: bool,
}

impl<T> Endpoint<T> {
    /// The same, drained: it stays in the pool and gets no new requests but those of its sessions.
    pub fn draining(self) -> Self {
        Self { is_draining: true, ..self }
    }

    pub(super) fn id(&self) -> &BackendId {
        self.member.id()
    }
}

impl<T> From<Member<T>> for Endpoint<T> {
    fn from(member: Member<T>) -> Self {
        Self { member, is_draining: false }
    }
}

/// One change among those that a source lists.
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// It is there now, or is otherwise than it was.
    Insert(Endpoint<T>),
    /// It is gone.
    Remove(BackendId),
}

/// What a source has to say: all who are there, or what has changed since it last spoke.
#[derive(Clone, Debug)]
pub struct Update<T> {
    pub(super) news: News<T>,
    pub(super) version: Option<Arc<str>>,
    pub(super) skipped: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) enum News<T> {
    Set(Vec<Endpoint<T>>),
    Changes(Vec<Change<T>>),
    Unchanged,
}

impl<T> Update<T> {
    /// All who are there. Of those with the same id the first counts.
    pub fn set<E: Into<Endpoint<T>>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self::of(News::Set(endpoints.into_iter().map(Into::into).collect()))
    }

    /// What has changed, in this order.
    pub fn changes(changes: impl IntoIterator<Item = Change<T>>) -> Self {
        Self::of(News::Changes(changes.into_iter().collect()))
    }

    /// Nothing: it was asked, and all is as it was when the source last spoke.
    pub fn unchanged() -> Self {
        Self::of(News::Unchanged)
    }

    fn of(news: News<T>) -> Self {
        Self { news, version: None, skipped: Vec::new() }
    }

    /// The same, with the source's own word for this state of things: a revision, a digest.
    pub fn version(self, version: impl Into<Arc<str>>) -> Self {
        Self { version: Some(version.into()), ..self }
    }

    /// The same, with what was there and is no backend, in words that name each. They go into the log once, and into the
    /// [`Status`](super::Status) for as long as they are said.
    pub fn skipped(self, skipped: impl IntoIterator<Item = String>) -> Self {
        Self { skipped: skipped.into_iter().collect(), ..self }
    }
}
