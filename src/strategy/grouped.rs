use super::{Candidates, Eligible, Hint, Index, Picker, Score, Strategy};
use crate::{backend::Backend, hash::mix};
use arc_swap::ArcSwapOption;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// How members are sorted into groups, and what part of the traffic each group gets.
pub trait Grouping: Send + Sync + 'static {
    /// The number of each member's group, in the order of the members. Asked when the membership changes.
    fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32>;

    /// What each group gets, in any unit, given how it stands; the groups come by number. Asked when the health of a
    /// member changes.
    fn shares(&self, groups: &[Standing]) -> Vec<f64>;
}

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Standing {
    /// Its number.
    pub group: u32,
    /// How many backends it has.
    pub members: usize,
    /// How many of them may be picked.
    pub eligible: usize,
    /// What those weigh together.
    pub weight: f64,
}

/// A stage before a strategy: each request goes to one of several groups of members, by lot in proportion to what the
/// groups get, and there to the pick of a strategy that knows this group alone.
///
/// The groups are [`Tiers`](super::Tiers), [`Zones`](super::Zones), a [`Subset`](super::Subset), an [`Aperture`](super::Aperture), or a
/// [`Grouping`] of your own. Requests with equal keys go to the same group. A group that has nobody to give passes the
/// request on to the first that has, in the order of their numbers.
///
/// The strategies are made once for each group and kept, so their cursors survive. Who is eligible in which group, and the
/// shares that follow from it, are worked out by the first pick after each change.
///
/// ```
/// use tower_balancer::{
///     BackendPool, BalancerLayer,
///     pool::Member,
///     strategy::{Grouped, LeastLatency, Tiers, Zones},
/// };
///
/// let pool = BackendPool::from_members([
///     Member::url("http://10.0.0.1:8080")?.zone("a"),
///     Member::url("http://10.0.0.2:8080")?.zone("b"),
///     Member::url("http://standby:8080")?.priority(1),
/// ])?;
/// // Within a tier the zones, within a zone the fastest.
/// let strategy = Grouped::new(Tiers, || Grouped::new(Zones::new("a"), LeastLatency::new));
/// # let _ = BalancerLayer::new(&pool, strategy);
/// # Ok::<_, tower_balancer::pool::InvalidMember>(())
/// ```
pub struct Grouped<R, G, M> {
    rule: Arc<R>,
    make: M,
    strategies: Mutex<HashMap<u32, G>>,
}

impl<R: Grouping, G: Strategy, M: Fn() -> G> Grouped<R, G, M> {
    /// Groups by `rule`; `make` makes the strategy of each.
    pub fn new(rule: R, make: M) -> Self {
        Self { rule: Arc::new(rule), make, strategies: Mutex::default() }
    }
}

impl<R, G, M> Strategy for Grouped<R, G, M>
where
    R: Grouping,
    G: Strategy,
    M: Fn() -> G + Send + Sync + 'static,
{
    type Picker = GroupedPicker<R, G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        let mut numbers = self.rule.groups(members);
        // A rule of somebody else's that says too little is no reason to lose a backend.
        numbers.resize(members.len(), u32::MAX);
        let mut listed = numbers.clone();
        listed.sort_unstable();
        listed.dedup();
        // A strategy that panicked while it built has changed nothing here.
        let mut strategies = self.strategies.lock().unwrap_or_else(PoisonError::into_inner);
        let group = |number: u32| {
            let places: Vec<usize> = (0..members.len()).filter(|&place| numbers[place] == number).collect();
            let backends: Vec<_> = places.iter().map(|&place| Arc::clone(&members[place])).collect();
            let picker = strategies.entry(number).or_insert_with(&self.make).build(&backends);
            Group { number, backends, places: places.into_iter().map(Index::new).collect(), picker }
        };
        let groups = listed.into_iter().map(group).collect();
        GroupedPicker { rule: Arc::clone(&self.rule), groups, latest: ArcSwapOption::empty() }
    }
}

impl<R: fmt::Debug, G, M> fmt::Debug for Grouped<R, G, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grouped").field(&self.rule).finish()
    }
}

/// The picker of a [`Grouped`].
pub struct GroupedPicker<R, P> {
    rule: Arc<R>,
    groups: Vec<Group<P>>,
    latest: ArcSwapOption<Division>,
}

struct Group<P> {
    number: u32,
    /// In the order of their places among all members.
    backends: Vec<Arc<Backend>>,
    places: Vec<Index>,
    picker: P,
}

/// The eligible members by group, and what part of the traffic the groups up to each get together.
struct Division {
    version: Option<u64>,
    eligible: Vec<Eligible>,
    up_to: Vec<f64>,
}

impl<R: Grouping, P: Picker> Picker for GroupedPicker<R, P> {
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let latest = self.latest.load();
        if let Some(division) = latest.as_ref().filter(|division| candidates.version() == division.version) {
            return self.pick_in(division, hint);
        }
        let division = Arc::new(self.divide(candidates));
        // A list of which nobody knows the version, or that one retry made for itself, will not come again.
        if candidates.version().is_some() && hint.excluded.is_empty() {
            self.latest.store(Some(Arc::clone(&division)));
        }
        self.pick_in(&division, hint)
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let group = self.groups.iter().position(|group| group.places.binary_search(&index).is_ok())?;
        let place = self.groups[group].places.binary_search(&index).ok()?;
        let division = self.divide(candidates);
        let among = Candidates::new(&self.groups[group].backends, &division.eligible[group]);
        let mut score = self.groups[group].picker.score(&among, Index::new(place), hint)?;
        let before = if group == 0 { 0.0 } else { division.up_to[group - 1] };
        score.parts.push(("the group's share", division.up_to[group] - before));
        Some(score)
    }
}

impl<R: Grouping, P: Picker> GroupedPicker<R, P> {
    /// From the group that the lot falls on; where that has none to give, from the first that has.
    fn pick_in(&self, division: &Division, hint: &Hint<'_>) -> Option<Index> {
        // Equal keys draw equal lots: what is bound to a backend is bound to its group.
        let lot = mix(hint.key.unwrap_or(hint.seed), 0x67_726f_7570);
        let lot = (lot >> 11) as f64 / (1_u64 << 53) as f64;
        let drawn = division.up_to.iter().position(|&up_to| lot < up_to);
        let all = 0..self.groups.len();
        drawn.into_iter().chain(all).find_map(|group| {
            let (group, eligible) = (&self.groups[group], &division.eligible[group]);
            let picked = group.picker.pick(&Candidates::new(&group.backends, eligible), hint)?;
            group.places.get(picked.get()).copied()
        })
    }

    fn divide(&self, candidates: &Candidates<'_>) -> Division {
        let is_in = |group: &Group<P>| Eligible::new(group.places.iter().map(|&place| candidates.is_eligible(place)));
        let eligible: Vec<Eligible> = self.groups.iter().map(is_in).collect();
        let standing = |(group, eligible): (&Group<P>, &Eligible)| Standing {
            group: group.number,
            members: group.places.len(),
            eligible: eligible.as_slice().len(),
            weight: Candidates::new(&group.backends, eligible).iter().map(|(_, backend)| backend.weight()).sum(),
        };
        let standings: Vec<_> = self.groups.iter().zip(&eligible).map(standing).collect();
        let shares = self.rule.shares(&standings);
        let share = |(standing, share): (&Standing, &f64)| if standing.eligible > 0 { share.max(0.0) } else { 0.0 };
        let shares: Vec<f64> = standings.iter().zip(&shares).map(share).collect();
        let total: f64 = shares.iter().sum();
        let up_to = shares.iter().scan(0.0, |sum, share| {
            *sum += share / total;
            Some(*sum)
        });
        Division { version: candidates.version(), up_to: up_to.collect(), eligible }
    }
}

impl<R, P> fmt::Debug for GroupedPicker<R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.groups.iter().map(|group| (group.number, group.places.len()));
        f.debug_map().entries(sizes).finish()
    }
}
