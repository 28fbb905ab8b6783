use super::Snapshot;
use crate::{
    backend::{Backend, BackendId, HealthState},
    strategy::{Hint, Index, Picker, Score},
};
use std::{fmt, time::Duration};

/// Why a request went where it went: every member, and what the strategy thought of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// What was picked; `None` where nothing could be.
    pub picked: Option<BackendId>,
    /// How many candidates cost the same as the one that was picked, itself included: then it was the lot.
    pub tied: usize,
    /// Those that could have been picked, the cheapest first where the strategy has costs.
    pub candidates: Vec<(BackendId, Option<Score>)>,
    /// Those that could not, and why.
    pub out: Vec<(BackendId, WhyOut)>,
    /// Too few were well, so others could be picked as well: see [`FailOpen`](super::FailOpen).
    pub is_open: bool,
    /// It was picked because the request is bound to it, as to that of its session, whatever others cost.
    pub is_bound: bool,
    /// The number of the set of eligible backends that was picked from: equal numbers are equal sets.
    pub version: u64,
}

/// Why a member could not be picked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyOut {
    /// The request was there already.
    Tried,
    /// It has as many requests in flight as it may.
    Full,
    /// It has stopped answering, and requests go elsewhere while there is an elsewhere.
    Silent,
    /// It has asked to be left alone, and requests go elsewhere while there is an elsewhere.
    Resting,
    /// It is out of rotation.
    Out {
        /// On whose word.
        state: HealthState,
        /// What that was concluded from, in words.
        cause: String,
        /// For how long it has been out; `None` where that was not said.
        since: Option<Duration>,
        /// The time until it is tried again; `None` where somebody has to say so.
        tried_in: Option<Duration>,
    },
}

impl Explanation {
    /// How things stand before a decision: what it costs to pick each, by the moment before anyone is.
    pub(super) fn before<T, P: Picker>(snapshot: &Snapshot<T, P>, hint: &Hint<'_>) -> Self {
        let all = snapshot.candidates();
        let (mut candidates, mut out) = (Vec::new(), Vec::new());
        for (place, backend) in all.backends().iter().enumerate() {
            let index = Index::new(place);
            match why_out(backend, all.is_eligible(index), hint) {
                Some(why) => out.push((backend.id().clone(), why)),
                None => candidates.push((backend.id().clone(), snapshot.picker.score(&all, index, hint))),
            }
        }
        candidates.sort_by(|(_, one), (_, other)| cost(one).total_cmp(&cost(other)));
        let (version, is_open) = (snapshot.version(), snapshot.is_open);
        Self { picked: None, is_bound: false, tied: 0, candidates, out, is_open, version }
    }

    /// The same with what was decided.
    pub(super) fn after<T, P: Picker>(
        mut self,
        snapshot: &Snapshot<T, P>,
        hint: &Hint<'_>,
        picked: &BackendId,
    ) -> Self {
        let place = snapshot.members.place(picked.as_str());
        self.is_bound = place.is_some_and(|index| snapshot.picker.binds(index, hint));
        // Where nothing else was left, or for a session, one that is out may do.
        self.out.retain(|(id, _)| id != picked);
        if !self.candidates.iter().any(|(id, _)| id == picked) {
            self.candidates.push((picked.clone(), None));
        }
        let of_picked = self.candidates.iter().find(|(id, _)| id == picked).map(|(_, score)| cost(score));
        let is_tied = |(_, score): &&(BackendId, Option<Score>)| score.is_some() && Some(cost(score)) == of_picked;
        self.tied = self.candidates.iter().filter(is_tied).count();
        self.picked = Some(picked.clone());
        self
    }
}

fn cost(score: &Option<Score>) -> f64 {
    score.as_ref().map_or(f64::INFINITY, |score| score.cost)
}

fn why_out(backend: &Backend, is_eligible: bool, hint: &Hint<'_>) -> Option<WhyOut> {
    if !is_eligible {
        let health = backend.health();
        return Some(WhyOut::Out {
            state: health.state(),
            cause: health.cause().unwrap_or("no observation").to_owned(),
            since: health.since().map(|since| hint.now.saturating_duration_since(since)),
            tried_in: health.until().map(|until| until.saturating_duration_since(hint.now)),
        });
    }
    if hint.excluded.contains(backend.id()) {
        return Some(WhyOut::Tried);
    }
    let full = backend.is_full().then_some(WhyOut::Full);
    let resting = || backend.is_resting(hint.now).then_some(WhyOut::Resting);
    full.or_else(resting).or_else(|| backend.is_silent(hint.now).then_some(WhyOut::Silent))
}

/// One line for the decision, and one for each member.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (candidates, out) = (self.candidates.len(), self.out.len());
        match &self.picked {
            Some(picked) => write!(f, "picked {picked} of {candidates} candidates, {out} out")?,
            None => write!(f, "picked none of {candidates} candidates, {out} out")?,
        }
        if self.is_bound {
            f.write_str(", to which it is bound")?;
        } else if self.tied > 1 {
            write!(f, ", by lot among {} that cost the same", self.tied)?;
        }
        if self.is_open {
            f.write_str(", too few of which are well")?;
        }
        for (id, score) in &self.candidates {
            write!(f, "\n  {id}")?;
            if let Some(Score { cost, parts }) = score {
                write!(f, ": cost {cost:.6}")?;
                parts.iter().try_for_each(|(name, value)| write!(f, ", {name} {value:.6}"))?;
            }
        }
        for (id, why) in &self.out {
            write!(f, "\n  {id} is out: {why}")?;
        }
        Ok(())
    }
}

impl fmt::Display for WhyOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tried => f.write_str("tried already"),
            Self::Full => f.write_str("full"),
            Self::Silent => f.write_str("silent"),
            Self::Resting => f.write_str("asks to be left alone"),
            Self::Out { state, cause, since, tried_in } => {
                write!(f, "{state}, {cause}")?;
                if let Some(since) = since {
                    write!(f, ", for {:.1} s", since.as_secs_f64())?;
                }
                if let Some(tried_in) = tried_in {
                    write!(f, ", tried again in {:.1} s", tried_in.as_secs_f64())?;
                }
                Ok(())
            }
        }
    }
}
