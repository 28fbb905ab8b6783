use super::Snapshot;
use crate::{
    backend::{Backend, BackendId, HealthState},
    strategy::{Hint, Picker, Score},
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
}

/// Why a member could not be picked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyOut {
    /// The request was there already.
    Tried,
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
    /// Explains a decision that has been made.
    pub(super) fn new<T, P: Picker>(snapshot: &Snapshot<T, P>, hint: &Hint<'_>, picked: Option<&BackendId>) -> Self {
        let all = snapshot.candidates();
        let (mut candidates, mut out) = (Vec::new(), Vec::new());
        for (place, backend) in all.backends().iter().enumerate() {
            let index = crate::strategy::Index::new(place);
            match why_out(backend, all.is_eligible(index), hint) {
                // Where nothing else was left, it was tried again.
                Some(_) if picked == Some(backend.id()) => {}
                Some(why) => {
                    out.push((backend.id().clone(), why));
                    continue;
                }
                None => {}
            }
            candidates.push((backend.id().clone(), snapshot.picker.score(&all, index, hint)));
        }
        let cost = |score: &Option<Score>| score.as_ref().map_or(f64::INFINITY, |score| score.cost);
        candidates.sort_by(|(_, one), (_, other)| cost(one).total_cmp(&cost(other)));
        let of_picked = candidates.iter().find(|(id, _)| Some(id) == picked).and_then(|(_, score)| score.as_ref());
        let tied =
            of_picked.map_or(0, |picked| candidates.iter().filter(|(_, score)| cost(score) == picked.cost).count());
        Self { picked: picked.cloned(), tied, candidates, out, is_open: snapshot.is_open }
    }
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
    hint.excluded.contains(backend.id()).then_some(WhyOut::Tried)
}

/// One line for the decision, and one for each member.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (candidates, out) = (self.candidates.len(), self.out.len());
        match &self.picked {
            Some(picked) => write!(f, "picked {picked} of {candidates} candidates, {out} out")?,
            None => write!(f, "picked none of {candidates} candidates, {out} out")?,
        }
        if self.tied > 1 {
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
