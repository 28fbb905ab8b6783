use super::{
    Endpoint, Guard,
    update::{Change, News},
};
use crate::backend::BackendId;
use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    time::Instant,
};

/// Who is there by the word of a source, and who stays although it names them no more. Pure: `now` is an argument.
#[derive(Debug)]
pub(super) struct Ledger<T> {
    listed: BTreeMap<BackendId, Endpoint<T>>,
    /// Whether a source has said so, or it is only assumed.
    is_told: bool,
    /// Who is missing and not believed to have left, since when.
    doubted: BTreeMap<BackendId, Instant>,
    /// When those left, lately, for whom one answer was enough.
    gone: VecDeque<Instant>,
}

/// What came of an answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Settled {
    /// Who has left.
    pub(super) left: Vec<BackendId>,
    /// Who is missing for the first time, and stays for now.
    pub(super) doubted: Vec<BackendId>,
    /// Who was listed more than once.
    pub(super) twice: Vec<BackendId>,
}

impl<T> Ledger<T> {
    pub(super) fn new() -> Self {
        Self { listed: BTreeMap::new(), is_told: false, doubted: BTreeMap::new(), gone: VecDeque::new() }
    }

    /// Who is there, by id.
    pub(super) fn listed(&self) -> impl ExactSizeIterator<Item = &Endpoint<T>> {
        self.listed.values()
    }

    /// How many stay although they are missing.
    pub(super) fn doubted(&self) -> usize {
        self.doubted.len()
    }

    /// When those that are missing have to be looked for again.
    pub(super) fn due(&self, guard: &Guard) -> Option<Instant> {
        self.doubted.values().min().map(|since| guard.confirmed(*since))
    }

    /// Takes `endpoints` to be there, as long as no source has said who is. Who was taken to be there before, and is not any
    /// more; `None` where a source has spoken.
    pub(super) fn assume(&mut self, endpoints: Vec<Endpoint<T>>) -> Option<Vec<BackendId>> {
        if self.is_told {
            return None;
        }
        let listed = endpoints.into_iter().map(|endpoint| (endpoint.id().clone(), endpoint)).collect();
        let before = std::mem::replace(&mut self.listed, listed);
        Some(before.into_keys().filter(|id| !self.listed.contains_key(id)).collect())
    }

    /// Takes in what the source says.
    pub(super) fn hear(&mut self, news: News<T>, guard: &Guard, now: Instant) -> Settled {
        let held = self.held();
        self.is_told |= !matches!(news, News::Unchanged);
        let (before, twice) = match news {
            News::Set(endpoints) => {
                let mut twice = Vec::new();
                let before = std::mem::take(&mut self.listed);
                for endpoint in endpoints {
                    match self.listed.entry(endpoint.id().clone()) {
                        Entry::Vacant(place) => _ = place.insert(endpoint),
                        Entry::Occupied(first) => twice.push(first.key().clone()),
                    }
                }
                (before, twice)
            }
            News::Changes(changes) => {
                // What stood there before the first change: who comes and goes within them has never been there.
                let mut before = BTreeMap::new();
                for change in changes {
                    let (id, endpoint) = match change {
                        Change::Insert(endpoint) => (endpoint.id().clone(), Some(endpoint)),
                        Change::Remove(id) => (id, None),
                    };
                    let old = self.listed.remove(&id);
                    self.listed.extend(endpoint.map(|endpoint| (id.clone(), endpoint)));
                    before.entry(id).or_insert(old);
                }
                (before.into_iter().filter_map(|(id, old)| Some((id, old?))).collect(), Vec::new())
            }
            News::Unchanged => Default::default(),
        };
        let mut settled = Settled { twice, ..Settled::default() };
        for (id, endpoint) in before {
            if self.listed.contains_key(&id) {
                continue;
            }
            if endpoint.is_draining {
                // It was on its way, and nobody counted on it.
                settled.left.push(id);
            } else {
                self.doubted.insert(id.clone(), now);
                settled.doubted.push(id);
            }
        }
        self.doubted.retain(|id, _| !self.listed.contains_key(id));
        self.settle(settled, held, guard, now)
    }

    /// Takes in that the source says what it said last.
    pub(super) fn review(&mut self, guard: &Guard, now: Instant) -> Settled {
        self.hear(News::Unchanged, guard, now)
    }

    /// Of those that are missing, lets go who was missing before, and the rest where they are few enough.
    fn settle(&mut self, mut settled: Settled, held: usize, guard: &Guard, now: Instant) -> Settled {
        self.gone.retain(|when| !guard.is_past(*when, now));
        let doubted = self.doubted.len();
        self.doubted.retain(|id, since| {
            let is_confirmed = guard.is_past(*since, now);
            if is_confirmed {
                settled.left.push(id.clone());
            }
            !is_confirmed
        });
        let confirmed = doubted - self.doubted.len();
        let missing = self.doubted.len();
        if guard.allows(missing, held.saturating_sub(confirmed), self.gone.len(), self.active()) {
            self.gone.extend(std::iter::repeat_n(now, missing));
            settled.left.extend(std::mem::take(&mut self.doubted).into_keys());
        }
        settled.doubted.retain(|id| self.doubted.contains_key(id));
        settled
    }

    /// How many the source lists that take requests.
    fn active(&self) -> usize {
        self.listed.values().filter(|endpoint| !endpoint.is_draining).count()
    }

    fn held(&self) -> usize {
        self.active() + self.doubted.len()
    }
}

#[cfg(test)]
mod tests;
