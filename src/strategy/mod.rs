//! Which backend takes the next request.
//!
//! A decision has two stages. When the membership or a weight changes, which is rare, [`Strategy::build`] makes a
//! [`Picker`]: tables are computed there. For each request [`Picker::pick`] chooses among the [`Candidates`]: it reads,
//! and may count in an atomic, but takes no lock, allocates nothing, reads no clock and draws no randomness of its own.
//! All that comes in with the [`Hint`]. So a strategy is a function that a test, a bench or a simulation drives with a
//! `Vec` of backends, without a pool and without a runtime.
//!
//! What must survive a rebuild (a cursor, say) lives in the strategy. Health changes do not rebuild anything: they come
//! in as another list of eligible candidates. Backends that a request has tried already are not among the candidates,
//! so no strategy deals with exclusion.
//!
//! # Which strategy?
//!
//! | strategy | a pick costs | use it when |
//! |---|---|---|
//! | [`LeastLatency`] | O(n) to 128 backends, O(1) beyond | you do not know better: slow, silent, pausing, restarting and failing backends lose their traffic by themselves |
//! | [`LeastRequest`] | O(1) | latency says nothing, because requests differ far more than backends do |
//! | [`PeakEwma`] | O(1) | you come from Finagle or linkerd and want what you know |
//! | [`RoundRobin`] | O(1) | backends are alike, requests are alike, and you want to predict who is next |
//! | [`WeightedRoundRobin`] | O(1) | as above, with weights |
//! | [`Random`] | O(1) | weights matter, and you want no state at all |
//! | [`ConsistentHash`] | O(1); with a bound O(n) to 512 backends, O(1) beyond | the same key has to meet the same backend: caches, shards; bound its load |
//! | [`Sticky`] around any | O(1) more | a client has to stay where its session is, and comes back with a cookie |
//! | [`ClientWeighted`] | O(1); one pick a second O(n) | backends differ in strength and say how loaded they are, and change slowly |
//! | [`Prequal`] | O(1) | hundreds of balancers know little each, and backends can be asked how loaded they are |
//!
//! Those that look up a table ([`Random`], [`WeightedRoundRobin`], [`ClientWeighted`], [`ConsistentHash`]) try again where it
//! names one that is out, and count the others out, O(n), where nearly all are. And [`Rendezvous`] ranks all for each key, O(n).
//!
//! Stages stand before any of them, one in another: [`Grouped`] by [`Tiers`], [`Zones`] or a [`Subset`]; [`Aperture`];
//! [`ShuffleShard`]; [`SlowStart`]; [`Sticky`]. A stage takes the strategy inside as a value or as what makes it, so a
//! composition is a type: `Grouped::new(Tiers, || SlowStart::new(LeastLatency::new()))`.
//!
//! Requests that differ in size can say so: strategies that count requests in flight weigh them by [`Hint::cost`].
//!
//! How much they lose to an oracle that knows everything at once, p99 over its p99 (1.00 is perfect), in some of the worlds
//! of the bench `quality`:
//!
//! | world | least latency | prequal | least request | peak EWMA | round robin |
//! |---|--:|--:|--:|--:|--:|
//! | all alike, load .9 | 1.06 | 1.14 | 1.20 | 1.21 | 1.69 |
//! | half of them half as fast | 1.00 | 1.12 | 1.61 | 1.24 | 101.40 |
//! | noisy neighbours, load .9 | 1.02 | 1.07 | 3.80 | 1.24 | 22.46 |
//! | pauses of 200 ms | 1.10 | 1.07 | 3.04 | 3.43 | 4.02 |
//! | 100 balancers | 1.13 | 1.21 | 1.46 | 1.51 | 1.41 |
//! | cold restarts | 1.02 | 1.09 | 1.74 | 1.13 | 41.74 |
//!
//! The README has the whole table. Why a request went where it went, [`Snapshot::explain`](crate::pool::Snapshot::explain)
//! says, and for each request the `tracing` target [`PICK_TARGET`](crate::balance::PICK_TARGET).
//!
//! A strategy is chosen in code, at no cost, or by name at run time with [`AnyStrategy`].
//!
//! # Your own
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use tower_balancer::{
//!     backend::{Backend, Moment},
//!     strategy::{Candidates, Eligible, Hint, Index, Picker, Strategy, conformance},
//! };
//!
//! /// The backend with the fewest requests in flight, by lot where several have as few.
//! #[derive(Clone, Copy, Debug)]
//! struct LeastLoaded;
//!
//! impl Strategy for LeastLoaded {
//!     type Picker = Self;
//!     fn build(&self, _members: &[Arc<Backend>]) -> Self {
//!         *self
//!     }
//! }
//!
//! impl Picker for LeastLoaded {
//!     fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
//!         let (mut rng, now) = (hint.rng(), Moment::of(hint.now));
//!         // One that fails at once has little in flight, and would draw the requests that it fails.
//!         let fails = |backend: &Backend| {
//!             backend.load().latency().faults(now).is_some_and(|faults| faults.value > 0.5 && faults.idle < 10.0)
//!         };
//!         let cost = |backend: &Backend| (fails(backend), backend.load().in_flight());
//!         let least = candidates.iter().min_by_key(|(_, backend)| (cost(backend), rng.next_u64()));
//!         least.map(|(index, _)| index)
//!     }
//! }
//!
//! let backends = [Arc::new(Backend::new("a")), Arc::new(Backend::new("b"))];
//! let only_b = Eligible::new([false, true]);
//! let picker = LeastLoaded.build(&backends);
//! let picked = picker.pick(&Candidates::new(&backends, &only_b), &Hint::new(Instant::now(), 0));
//! assert_eq!(picked, Some(Index::new(1)));
//!
//! conformance::check(|| LeastLoaded, Instant::now());
//! ```
//!
//! [`conformance`] is a test of what every strategy must do; run it on yours.

mod aperture;
mod candidates;
mod client_weighted;
pub mod conformance;
mod consistent_hash;
mod eligible;
mod grouped;
mod hint;
mod least_latency;
mod least_request;
mod named;
mod peak_ewma;
mod prequal;
mod random;
mod round_robin;
mod sample;
mod score;
mod shuffle_shard;
mod slow_start;
mod sticky;
mod subset;
#[cfg(test)]
mod tests;
mod tiers;
mod weighted_round_robin;
mod zones;

pub use self::{
    aperture::{Aperture, AperturePicker},
    candidates::{Candidates, Index},
    client_weighted::{ClientWeighted, ClientWeightedPicker},
    consistent_hash::{
        ConsistentHash, ConsistentHashPicker, Hashing, Maglev, MaglevTable, Memento, MementoTable, Rendezvous,
        RendezvousTable, Ring, RingPoints, Table,
    },
    eligible::Eligible,
    grouped::{GroupState, Grouped, GroupedPicker, Grouping},
    hint::Hint,
    least_latency::{LeastLatency, LeastLatencyPicker},
    least_request::LeastRequest,
    named::{AnyStrategy, UnknownStrategy},
    peak_ewma::PeakEwma,
    prequal::{Prequal, PrequalPicker},
    random::{Random, RandomPicker},
    round_robin::RoundRobin,
    score::Score,
    shuffle_shard::ShuffleShard,
    slow_start::{SlowStart, SlowStartPicker},
    sticky::{InvalidSecret, SessionSecret, SessionToken, Sticky, StickyPicker},
    subset::Subset,
    tiers::Tiers,
    weighted_round_robin::{WeightedRoundRobin, WeightedRoundRobinPicker},
    zones::Zones,
};

pub use crate::hash::hash_key;
use crate::{backend::Backend, error::Unavailable};
use std::sync::Arc;

/// The rare half of a decision: builds a [`Picker`] over the members of a pool.
pub trait Strategy: Send + Sync + 'static {
    /// What picks.
    type Picker: Picker;

    /// Builds the picker over `members`, all of them, eligible or not. Called when the membership or a weight changes,
    /// with the pool locked against other changes: it must not change the pool.
    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker;
}

/// The frequent half of a decision. See the [module](self) for what it may do.
pub trait Picker: Send + Sync + 'static {
    /// Asked before a request is accepted: could some backend take one more?
    ///
    /// The answer is advice: the candidates may have changed by the time of the pick.
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        if candidates.is_empty() { Admission::Refuse(candidates.unavailable()) } else { Admission::Admit }
    }

    /// Chooses among the eligible candidates for the request that `hint` describes; `None` where none can take it.
    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index>;

    /// Whether the request that `hint` describes is bound to the backend at `index`, as to that of its session: it waits for
    /// that one rather than go elsewhere, and goes there even while it is drained.
    fn binds(&self, index: Index, hint: &Hint<'_>) -> bool {
        let _ = (index, hint);
        false
    }

    /// What it thinks of the candidate at `index`, to explain a pick by; `None` where it does not compare. Not asked on the
    /// way of a request: it may allocate.
    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        let _ = (candidates, index, hint);
        None
    }
}

/// Whether one more request can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// Some backend could take it.
    Admit,
    /// None could, and why.
    Refuse(Unavailable),
}
