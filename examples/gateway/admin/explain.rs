//! `GET /pools/{pool}/explain`: who would be picked, why, and who could not be.
//!
//! It asks what the proxies of the pool share: their tables, and whose turn it is, which moves on by one.

use super::{
    Admin, Answer,
    clock::now,
    input::{Asked, Named},
};
use crate::serving::Pool;
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tower_balancer::{
    pool::{Explanation, WhyOut},
    strategy::{Hint, hash_key},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    key: Option<String>,
}

#[derive(Serialize)]
pub struct Explained {
    pool: String,
    strategy: String,
    key: Option<String>,
    /// What of a request is the key; `null` where the strategy goes by none.
    key_source: Option<String>,
    picked: Option<String>,
    /// It is bound to what was picked, whatever others cost.
    bound: bool,
    /// How many cost the same as what was picked: then it was the lot.
    tied: usize,
    /// Too few are well, and others could be picked as well.
    fail_open: bool,
    candidates: Vec<Candidate>,
    out: Vec<Out>,
    text: String,
}

#[derive(Serialize)]
struct Candidate {
    id: String,
    cost: Option<f64>,
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    name: String,
    value: f64,
}

#[derive(Serialize)]
struct Out {
    id: String,
    why: &'static str,
    text: String,
}

pub async fn explain(
    State(admin): State<Admin>,
    Named(name): Named<String>,
    Asked(Question { key }): Asked<Question>,
) -> Answer<Explained> {
    let pool = admin.pool(&name)?;
    let source = pool.config.strategy.key.as_deref().filter(|_| pool.config.strategy.goes_by_key());
    let source = source.map(ToString::to_string);
    let mut hint = Hint::new(now(), fastrand::u64(..));
    if let (Some(key), Some(source)) = (&key, &source) {
        hint = hint.key(hash(key, source));
    }
    let explanation = pool.backends.view(pool.picks.clone()).load().explain(&hint);
    Ok(Json(Explained::of(&pool, key, source, &explanation)))
}

/// As the proxy makes it of a request: an address is its octets, anything else its letters.
fn hash(key: &str, source: &str) -> u64 {
    let is_by_address = source.split(", ").any(|source| source == "address");
    match key.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) if is_by_address => hash_key(ip.octets()),
        Ok(IpAddr::V6(ip)) if is_by_address => hash_key(ip.octets()),
        _ => hash_key(key),
    }
}

impl Explained {
    fn of(pool: &Pool, key: Option<String>, key_source: Option<String>, explanation: &Explanation) -> Self {
        let candidates = explanation.candidates.iter().map(|(id, score)| Candidate {
            id: id.to_string(),
            cost: score.as_ref().map(|score| score.cost),
            parts: score.iter().flat_map(|score| &score.parts).map(|(name, value)| part(name, *value)).collect(),
        });
        let out =
            explanation.out.iter().map(|(id, why)| Out { id: id.to_string(), why: word(why), text: why.to_string() });
        Self {
            pool: pool.name.to_string(),
            strategy: pool.strategy.to_string(),
            key,
            key_source,
            picked: explanation.picked.as_ref().map(ToString::to_string),
            bound: explanation.is_bound,
            tied: explanation.tied,
            fail_open: explanation.is_open,
            candidates: candidates.collect(),
            out: out.collect(),
            text: explanation.to_string(),
        }
    }
}

fn part(name: &str, value: f64) -> Part {
    Part { name: name.to_owned(), value }
}

fn word(why: &WhyOut) -> &'static str {
    match why {
        WhyOut::Tried => "tried",
        WhyOut::Full => "full",
        WhyOut::Silent => "silent",
        WhyOut::Resting => "resting",
        WhyOut::Out { state, .. } => state.as_str(),
        _ => "out",
    }
}
