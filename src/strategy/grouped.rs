use super::{Admission, Candidates, Eligible, Hint, Index, Picker, Score, Strategy};
use crate::{backend::Backend, sync::locked};
use arc_swap::ArcSwapOption;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex},
};

/// How members are sorted into groups, and what part of the traffic each group gets.
pub trait Grouping: Send + Sync + 'static {
    /// The number of each member's group, in the order of the members. Asked when the membership changes.
    fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32>;

    /// What each group gets, in any unit, given how it stands; the groups come by number. Asked when the health of a
    /// member changes. What is negative, no finite number, or not there, is nothing.
    fn shares(&self, groups: &[GroupState]) -> Vec<f64>;
}

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GroupState {
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
/// The strategies are made once for each group and kept as long as it has members, so their cursors survive. Who is
/// eligible in which group, and the shares that follow from it, are worked out by the first pick after each change.
///
/// [`Sticky`](super::Sticky) goes around all stages, never inside of one: the lot knows nothing of sessions, and would send
/// a request to another group than the one where its session is.
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
    strategies: Strategies<G, M>,
}

/// The strategies of the groups that there are, by number.
pub(super) struct Strategies<G, M> {
    make: M,
    made: Mutex<HashMap<u32, G>>,
}

impl<R: Grouping, G: Strategy, M: Fn() -> G> Grouped<R, G, M> {
    /// Groups by `rule`; `make` makes the strategy of each.
    pub fn new(rule: R, make: M) -> Self {
        Self { rule: Arc::new(rule), strategies: Strategies::new(make) }
    }
}

impl<G, M> Strategies<G, M> {
    pub(super) fn new(make: M) -> Self {
        Self { make, made: Mutex::default() }
    }
}

impl<G: Strategy, M: Fn() -> G> Strategies<G, M> {
    /// Builds a picker over `groups` of members that get their `shares`: the number of each, in order, and the places of its
    /// members, in order. Groups may overlap.
    pub(super) fn build(
        &self,
        members: &[Arc<Backend>],
        groups: Vec<(u32, Vec<usize>)>,
        shares: impl Fn(&[GroupState]) -> Vec<f64> + Send + Sync + 'static,
    ) -> GroupedPicker<G::Picker> {
        // A strategy that panicked while it built has changed nothing here.
        let mut made = locked(&self.made);
        made.retain(|made, _| groups.binary_search_by_key(made, |(number, _)| *number).is_ok());
        let group = |(number, places): (u32, Vec<usize>)| {
            let backends: Vec<_> = places.iter().map(|&place| Arc::clone(&members[place])).collect();
            let picker = made.entry(number).or_insert_with(&self.make).build(&backends);
            Group { number, backends, places: places.into_iter().map(Index::new).collect(), picker }
        };
        let groups = groups.into_iter().map(group).collect();
        GroupedPicker { shares: Box::new(shares), groups, latest: ArcSwapOption::empty() }
    }
}

impl<R, G, M> Strategy for Grouped<R, G, M>
where
    R: Grouping,
    G: Strategy,
    M: Fn() -> G + Send + Sync + 'static,
{
    type Picker = GroupedPicker<G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        let mut numbers = self.rule.groups(members);
        // A rule of somebody else's that says too little is no reason to lose a backend.
        numbers.resize(members.len(), u32::MAX);
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (place, number) in numbers.into_iter().enumerate() {
            groups.entry(number).or_default().push(place);
        }
        let rule = Arc::clone(&self.rule);
        self.strategies.build(members, groups.into_iter().collect(), move |groups| rule.shares(groups))
    }
}

impl<R: fmt::Debug, G, M> fmt::Debug for Grouped<R, G, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grouped").field(&self.rule).finish()
    }
}

/// The picker of a [`Grouped`].
pub struct GroupedPicker<P> {
    shares: Box<Shares>,
    groups: Vec<Group<P>>,
    latest: ArcSwapOption<Division>,
}

type Shares = dyn Fn(&[GroupState]) -> Vec<f64> + Send + Sync;

struct Group<P> {
    number: u32,
    /// In the order of their places among all members.
    backends: Vec<Arc<Backend>>,
    places: Vec<Index>,
    picker: P,
}

/// The eligible members by group, and what part of the traffic the groups up to each get together.
struct Division {
    version: u64,
    eligible: Vec<Eligible>,
    up_to: Vec<f64>,
}

impl<P: Picker> Picker for GroupedPicker<P> {
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        if candidates.is_empty() {
            return Admission::Refuse(candidates.unavailable());
        }
        let admissions = |division: &Division| {
            let mut refused = None;
            for (group, eligible) in self.groups.iter().zip(&division.eligible) {
                let candidates = Candidates::new(&group.backends, eligible);
                if candidates.is_empty() {
                    continue;
                }
                match group.picker.admit(&candidates) {
                    Admission::Refuse(why) => refused = refused.or(Some(why)),
                    Admission::Admit => return Admission::Admit,
                }
            }
            refused.map_or(Admission::Admit, Admission::Refuse)
        };
        self.divided(candidates, false, admissions)
    }

    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        self.divided(candidates, !hint.excluded.is_empty(), |division| self.pick_in(division, hint))
    }

    fn binds(&self, index: Index, hint: &Hint<'_>) -> bool {
        let binds = |group: &Group<P>| {
            group.places.binary_search(&index).is_ok_and(|place| group.picker.binds(Index::new(place), hint))
        };
        self.groups.iter().any(binds)
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

impl<P: Picker> GroupedPicker<P> {
    /// From the group that the lot falls on; where that has none to give, from the first that has.
    fn pick_in(&self, division: &Division, hint: &Hint<'_>) -> Option<Index> {
        // Equal keys draw equal lots: what is bound to a backend is bound to its group.
        let (lot, hint) = &hint.draw();
        let drawn = division.up_to.iter().position(|up_to| lot < up_to);
        let all = 0..self.groups.len();
        drawn.into_iter().chain(all).find_map(|group| {
            let (group, eligible) = (&self.groups[group], &division.eligible[group]);
            let picked = group.picker.pick(&Candidates::new(&group.backends, eligible), hint)?;
            group.places.get(picked.get()).copied()
        })
    }

    /// What `then` makes of the division of `candidates`, which is kept where they may come again.
    fn divided<R>(&self, candidates: &Candidates<'_>, is_one_off: bool, then: impl FnOnce(&Division) -> R) -> R {
        let version = candidates.version();
        let latest = self.latest.load();
        if let Some(division) = latest.as_ref().filter(|division| version == Some(division.version)) {
            return then(division);
        }
        let division = self.divide(candidates);
        // A list of which nobody knows the version, or that one retry made for itself, will not come again.
        if version.is_none() || is_one_off {
            return then(&division);
        }
        let division = Arc::new(division);
        self.latest.store(Some(Arc::clone(&division)));
        then(&division)
    }

    fn divide(&self, candidates: &Candidates<'_>) -> Division {
        let version = candidates.version();
        let is_in = |group: &Group<P>| {
            let eligible = group.places.iter().map(|&place| candidates.is_eligible(place));
            // What comes but once is so within as well.
            if version.is_some() { Eligible::new(eligible) } else { Eligible::for_once(eligible) }
        };
        let eligible: Vec<Eligible> = self.groups.iter().map(is_in).collect();
        let standing = |(group, eligible): (&Group<P>, &Eligible)| GroupState {
            group: group.number,
            members: group.places.len(),
            eligible: eligible.as_slice().len(),
            weight: Candidates::new(&group.backends, eligible).iter().map(|(_, backend)| backend.weight()).sum(),
        };
        let standings: Vec<_> = self.groups.iter().zip(&eligible).map(standing).collect();
        let mut shares = (self.shares)(&standings);
        // Nor does a rule of somebody else's get to say what makes no sense.
        shares.resize(standings.len(), 0.0);
        for (share, standing) in shares.iter_mut().zip(&standings) {
            *share = if standing.eligible > 0 && share.is_finite() { share.max(0.0) } else { 0.0 };
        }
        // In parts of the greatest, so that no sum overflows.
        let greatest = shares.iter().copied().fold(0.0, f64::max);
        let part = |share: &f64| if greatest > 0.0 { share / greatest } else { 0.0 };
        let total: f64 = shares.iter().map(part).sum();
        let up_to = shares.iter().scan(0.0, |sum, share| {
            *sum += part(share);
            Some(if total > 0.0 { *sum / total } else { 0.0 })
        });
        Division { version: version.unwrap_or(Eligible::ONE_OFF), up_to: up_to.collect(), eligible }
    }
}

impl<P> fmt::Debug for GroupedPicker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.groups.iter().map(|group| (group.number, group.places.len()));
        f.debug_map().entries(sizes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{Reason, Unavailable},
        strategy::RoundRobin,
    };
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Instant,
    };

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn now() -> Instant {
        Instant::now()
    }

    fn members(ids: impl IntoIterator<Item = u32>) -> Vec<Arc<Backend>> {
        ids.into_iter().map(|id| Arc::new(Backend::new(id.to_string()))).collect()
    }

    /// A group for each, by its id, with what the rule says.
    struct Each<F>(F);

    impl<F: Fn(&[GroupState]) -> Vec<f64> + Send + Sync + 'static> Grouping for Each<F> {
        fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32> {
            members.iter().map(|backend| backend.id().as_str().parse().unwrap()).collect()
        }

        fn shares(&self, groups: &[GroupState]) -> Vec<f64> {
            (self.0)(groups)
        }
    }

    /// Takes all or nobody, and says so beforehand.
    struct Takes(bool);

    impl Strategy for Takes {
        type Picker = Self;
        fn build(&self, _: &[Arc<Backend>]) -> Self {
            Self(self.0)
        }
    }

    impl Picker for Takes {
        fn admit(&self, _: &Candidates<'_>) -> Admission {
            if self.0 { Admission::Admit } else { Admission::Refuse(Unavailable::new(Reason::AllAtLimit)) }
        }
        fn pick(&self, candidates: &Candidates<'_>, _: &Hint<'_>) -> Option<Index> {
            candidates.iter().next().map(|(index, _)| index).filter(|_| self.0)
        }
    }

    #[test]
    fn a_request_is_admitted_where_one_group_admits_it_and_the_reason_is_that_of_one_that_has_somebody() {
        let members = members(0..2);
        let admission = |takes: [bool; 2], eligible: [bool; 2]| {
            let made = AtomicU32::new(0);
            let make = move || Takes(takes[made.fetch_add(1, Ordering::Relaxed) as usize]);
            let picker = Grouped::new(Each(|_: &[GroupState]| vec![1.0; 2]), make).build(&members);
            match picker.admit(&Candidates::new(&members, &Eligible::new(eligible))) {
                Admission::Admit => None,
                Admission::Refuse(why) => Some(why.reason()),
            }
        };
        assert_eq!(admission([false, true], [true; 2]), None);
        assert_eq!(admission([false, true], [true, false]), Some(Reason::AllAtLimit));
        assert_eq!(admission([false, false], [true; 2]), Some(Reason::AllAtLimit));
        assert_eq!(admission([true, true], [false; 2]), Some(Reason::AllUnhealthy));
    }

    #[test]
    fn a_rule_that_says_what_makes_no_sense_is_as_good_as_defined() {
        const MAX: f64 = f64::MAX;
        let said: [(&[f64], [u32; 3]); 8] = [
            (&[1.0], [300, 0, 0]),
            (&[0.0, 1.0, 0.0, 7.0, 7.0], [0, 300, 0]),
            (&[f64::INFINITY, 1.0, f64::NEG_INFINITY], [0, 300, 0]),
            (&[f64::NAN, -1.0, 1.0], [0, 0, 300]),
            (&[1.0, 0.0, 1.0], [150, 0, 150]),
            (&[MAX, MAX, MAX], [100, 100, 100]),
            // Nobody gets anything: then the first that has somebody to give.
            (&[0.0, f64::NAN], [300, 0, 0]),
            (&[], [300, 0, 0]),
        ];
        let (members, all) = (members(0..3), Eligible::new([true; 3]));
        for (shares, expected) in said {
            let picker = Grouped::new(Each(|_: &[GroupState]| shares.to_vec()), RoundRobin::new).build(&members);
            let candidates = Candidates::new(&members, &all);
            let mut counts = [0_u32; 3];
            for seed in 0..300 {
                counts[picker.pick(&candidates, &Hint::new(now(), seed)).unwrap().get()] += 1;
            }
            let near = counts.iter().zip(expected).all(|(&count, expected)| {
                if expected == 0 || expected == 300 { count == expected } else { count.abs_diff(expected) < 40 }
            });
            assert!(near, "{shares:?}: {counts:?}");
            // To explain a pick is no reason to panic either.
            (0..3).for_each(|place| _ = picker.score(&candidates, Index::new(place), &Hint::new(now(), 0)));
        }
    }

    #[test]
    fn groups_that_come_and_go_leave_nothing_behind() {
        let strategy = Grouped::new(Each(|groups: &[GroupState]| vec![1.0; groups.len()]), RoundRobin::new);
        for first in 0..1_000 {
            drop(strategy.build(&members(first..first + 2)));
        }
        assert_eq!(strategy.strategies.made.lock().unwrap().len(), 2);
    }

    #[test]
    fn what_comes_but_once_is_not_remembered() {
        let divided = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&divided);
        let count = move || {
            let divided = Arc::clone(&counter);
            Each(move |groups: &[GroupState]| {
                divided.fetch_add(1, Ordering::Relaxed);
                vec![1.0; groups.len()]
            })
        };
        /// All in one group, so that the one within sees all.
        struct One;
        impl Grouping for One {
            fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32> {
                vec![0; members.len()]
            }

            fn shares(&self, groups: &[GroupState]) -> Vec<f64> {
                vec![1.0; groups.len()]
            }
        }
        let (members, all) = (members(0..4), Eligible::new([true; 4]));
        let within = move || Grouped::new(count(), RoundRobin::new);
        let picker = Grouped::new(One, within).build(&members);
        let pick =
            |eligible: &Eligible| picker.pick(&Candidates::new(&members, eligible), &Hint::new(now(), 1)).unwrap();
        for _ in 0..10 {
            pick(&all);
        }
        assert_eq!(divided.load(Ordering::Relaxed), 1);
        let mut rest = all.clone().one_off();
        rest.set(Index::new(2), false);
        for _ in 0..10 {
            assert_ne!(pick(&rest), Index::new(2));
            pick(&all);
        }
        // Each time for what comes but once, and never again for the other.
        assert_eq!(divided.load(Ordering::Relaxed), 11);
    }

    /// Even and odd halves: of all, and then of each half.
    struct Bit(u32);

    impl Grouping for Bit {
        fn groups(&self, members: &[Arc<Backend>]) -> Vec<u32> {
            let number = |backend: &Arc<Backend>| backend.id().as_str().parse::<u32>().unwrap();
            members.iter().map(|backend| number(backend) >> self.0 & 1).collect()
        }

        fn shares(&self, groups: &[GroupState]) -> Vec<f64> {
            vec![1.0; groups.len()]
        }
    }

    #[test]
    fn each_stage_draws_a_lot_of_its_own() {
        let (members, all) = (members(0..4), Eligible::new([true; 4]));
        let strategy = Grouped::new(Bit(0), || Grouped::new(Bit(1), RoundRobin::new));
        let picker = strategy.build(&members);
        let mut counts = [0_u32; 4];
        for seed in 0..4_000 {
            let hint = Hint::new(now(), seed);
            counts[picker.pick(&Candidates::new(&members, &all), &hint).unwrap().get()] += 1;
            // Equal keys meet the same group of each stage, whatever the seed.
            let of = |seed| picker.pick(&Candidates::new(&members, &all), &Hint::new(now(), seed).key(7)).unwrap();
            assert_eq!(of(seed), of(seed + 1));
        }
        assert!(counts.iter().all(|count| count.abs_diff(1_000) < 120), "{counts:?}");
    }
}
