//! What an operator does to backends. Each change happens at once or not at all, and is told.

use super::{
    Admin, Answer,
    audit::{Change, summary},
    clock::now,
    describe,
    drains::Removal,
    input::{Asked, Input, Named},
    problem::Problem,
};
use crate::{config::Scalar, serving::Pool};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tower_balancer::{
    backend::{self, HealthState, Origin, Weight},
    discover::DEFAULT_DRAIN,
    health::CannotDrain,
    http::Peer,
    pool::Member,
};

/// How a backend is to go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Going {
    /// How long its requests are waited for: `30s`.
    deadline: Option<String>,
    /// Be it the last one that is available.
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forced {
    #[serde(default)]
    force: bool,
}

/// Nothing may be said beside the path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plainly {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWeight {
    weight: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackend {
    url: String,
    weight: Option<f64>,
    zone: Option<String>,
    priority: Option<u32>,
}

/// A pool and a backend of it, by their names.
type OfPool = Named<(String, String)>;

pub async fn drain(
    State(admin): State<Admin>,
    Extension(peer): Extension<Peer>,
    Named((pool, id)): OfPool,
    Asked(going): Asked<Going>,
) -> Answer<describe::Backend> {
    let chosen = admin.choose(&pool, &id)?;
    let deadline = going.deadline()?;
    chosen.changed("drain", &peer, &admin, || chosen.drain(going.force, deadline, None, &admin))?;
    Ok(Json(chosen.described(&admin)))
}

/// It leaves when its requests have ended, or have had their time.
pub async fn remove(
    State(admin): State<Admin>,
    Extension(peer): Extension<Peer>,
    Named((pool, id)): OfPool,
    Asked(going): Asked<Going>,
) -> Result<(StatusCode, Json<describe::Backend>), Problem> {
    let chosen = admin.choose(&pool, &id)?;
    listed_here(&chosen.pool)?;
    let deadline = going.deadline()?.unwrap_or(DEFAULT_DRAIN);
    let removal = chosen.removal(&admin);
    chosen.changed("remove", &peer, &admin, || chosen.drain(going.force, Some(deadline), Some(removal), &admin))?;
    Ok((StatusCode::ACCEPTED, Json(chosen.described(&admin))))
}

pub async fn disable(
    State(admin): State<Admin>,
    Extension(peer): Extension<Peer>,
    Named((pool, id)): OfPool,
    Asked(Forced { force }): Asked<Forced>,
) -> Answer<describe::Backend> {
    let chosen = admin.choose(&pool, &id)?;
    let is_other = |other: &Arc<backend::Backend>| !Arc::ptr_eq(other, &chosen.backend);
    let is_last = chosen.backend.is_eligible() && !chosen.pool.backends.healthy().iter().any(is_other);
    if is_last && !force {
        return Err(chosen.is_last());
    }
    chosen.changed("disable", &peer, &admin, || {
        admin.drains.cancel(&chosen.pool.name, chosen.backend.id());
        chosen.pool.backends.disable(chosen.id());
        Ok(())
    })?;
    Ok(Json(chosen.described(&admin)))
}

pub async fn enable(
    State(admin): State<Admin>,
    Extension(peer): Extension<Peer>,
    Named((pool, id)): OfPool,
    Asked(Plainly {}): Asked<Plainly>,
) -> Answer<describe::Backend> {
    let chosen = admin.choose(&pool, &id)?;
    chosen.changed("enable", &peer, &admin, || {
        admin.drains.cancel(&chosen.pool.name, chosen.backend.id());
        chosen.pool.backends.enable(chosen.id());
        Ok(())
    })?;
    Ok(Json(chosen.described(&admin)))
}

pub async fn weigh(
    State(admin): State<Admin>,
    Extension(peer): Extension<Peer>,
    Named((pool, id)): OfPool,
    Input(NewWeight { weight }): Input<NewWeight>,
) -> Answer<describe::Backend> {
    let chosen = admin.choose(&pool, &id)?;
    let weight = weight_in(&chosen.pool, weight)?;
    chosen.changed("weigh", &peer, &admin, || {
        chosen.pool.set_weight(chosen.id(), weight);
        Ok(())
    })?;
    Ok(Json(chosen.described(&admin)))
}

pub async fn add(
    State(admin): State<Admin>,
    Extension(peer): Extension<Peer>,
    Named(pool): Named<String>,
    Input(new): Input<NewBackend>,
) -> Result<Response, Problem> {
    let pool = admin.pool(&pool)?;
    listed_here(&pool)?;
    let origin = Origin::read(&new.url).map_err(Problem::unprocessable)?;
    if admin.plan().config.server.is_at(&origin) {
        let words = format!("backend {origin} is the gateway itself: expected another address");
        return Err(Problem::unprocessable(words));
    }
    let id = origin.id().clone();
    if admin.drains.removes(&pool.name, &id) && pool.backends.get(id.as_str()).is_some() {
        return Err(Problem::conflict(format!("backend {id} is being removed: enable it to keep it")));
    }
    let member = new.member(origin, &pool)?;
    pool.add(member).map_err(|error| Problem::conflict(error.to_string()))?;
    let chosen = admin.choose(&pool.name, id.as_str())?;
    let (plan, change) = (admin.plan(), chosen.change("add", &peer));
    change.tell("not there".to_owned(), summary(&chosen.backend), &plan.journal);
    let mut response = (StatusCode::CREATED, Json(chosen.described(&admin))).into_response();
    let place = format!("/pools/{}/backends/{}", encoded(&pool.name), encoded(id.as_str()));
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

impl Going {
    fn deadline(&self) -> Result<Option<Duration>, Problem> {
        let read =
            |text: &String| Duration::read(text).map_err(|words| Problem::unprocessable(format!("deadline: {words}")));
        self.deadline.as_ref().map(read).transpose()
    }
}

impl NewBackend {
    fn member(self, origin: Origin, pool: &Pool) -> Result<Member<Origin>, Problem> {
        let mut member = Member::from(origin);
        if let Some(weight) = self.weight {
            member = member.weight(weight_in(pool, weight)?);
        }
        // A word that would do nothing is better not taken.
        match self.zone {
            Some(zone) if pool.stack.has_zones() => member = member.zone(zone),
            Some(_) => {
                let words = "zone would do nothing: the pool's file has no zones, or server.zone is not set";
                return Err(Problem::unprocessable(words));
            }
            None => {}
        }
        match self.priority {
            Some(priority) if pool.stack.has_tiers() || priority == 0 => member = member.priority(priority),
            Some(_) => {
                let words = "priority would do nothing: all backends of the pool's file are in one tier";
                return Err(Problem::unprocessable(words));
            }
            None => {}
        }
        Ok(member)
    }
}

/// Where a source says who is there, its next word would undo what is said here; in a fleet it would not reach the others.
fn listed_here(pool: &Pool) -> Result<(), Problem> {
    let (says_who, change) = match &pool.discovery {
        Some(_) => (format!("the source of pool {}", pool.name), "at the source"),
        None if pool.is_in_fleet() => {
            (format!("the file of each gateway of the fleet of pool {}", pool.name), "in all of them")
        }
        None => return Ok(()),
    };
    let words = format!("{says_who} says who is there: expected a change {change}, or to drain or disable here");
    Err(Problem::conflict(words))
}

/// A weight, where weights count.
fn weight_in(pool: &Pool, weight: f64) -> Result<Weight, Problem> {
    let strategy = &pool.config.strategy;
    let weight = Weight::new(weight).map_err(|error| Problem::unprocessable(error.to_string()))?;
    if strategy.minds_weights() {
        Ok(weight)
    } else {
        let words = format!("weights do nothing under {}: expected another strategy", strategy.known_as());
        Err(Problem::conflict(words))
    }
}

/// A backend that something is to be done to.
struct Chosen {
    pool: Arc<Pool>,
    backend: Arc<backend::Backend>,
}

/// Names that an error has room for.
const NAMED: usize = 20;

impl Admin {
    fn choose(&self, pool: &str, id: &str) -> Result<Chosen, Problem> {
        let pool = self.pool(pool)?;
        // In any spelling.
        let canonical = id.parse::<Origin>().ok();
        let found = pool.backends.get(canonical.as_ref().map_or(id, |origin| origin.id().as_str()));
        let Some(backend) = found else {
            let all = pool.backends.backends();
            let names: Vec<_> = all.iter().take(NAMED).map(|backend| backend.id().as_str()).collect();
            let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
            let words = format!("pool {} has no backend {id:?}: expected one of {}{more}", pool.name, names.join(", "));
            return Err(Problem::not_found(words));
        };
        Ok(Chosen { pool, backend })
    }
}

impl Chosen {
    fn id(&self) -> &str {
        self.backend.id().as_str()
    }

    fn drain(
        &self,
        force: bool,
        deadline: Option<Duration>,
        removal: Option<Removal>,
        admin: &Admin,
    ) -> Result<(), Problem> {
        let (pool, id) = (&self.pool.backends, self.id());
        let draining = if force { pool.drain_anyway(id) } else { pool.drain(id) };
        let draining = draining.map_err(|error| match error {
            CannotDrain::Last(_) => self.is_last(),
            error => Problem::not_found(error.to_string()),
        })?;
        admin.drains.begin(&self.pool.name, Arc::clone(&self.backend), draining, deadline, removal);
        Ok(())
    }

    /// For as long as the file says nothing else of it.
    fn removal(&self, admin: &Admin) -> Removal {
        let (admin, name, id) = (admin.clone(), Arc::clone(&self.pool.name), self.backend.id().clone());
        let entry = move || {
            let pool = admin.pool(&name).ok()?;
            pool.config.backends.iter().find(|listed| *listed.url.id() == id).cloned()
        };
        let before = entry();
        let was_draining = self.backend.health().state() == HealthState::Draining;
        Removal { pool: self.pool.backends.clone(), holds: Box::new(move || entry() == before), was_draining }
    }

    fn is_last(&self) -> Problem {
        let words = format!(
            "backend {} is the last one of {} that is available: expected force=true to take it out all the same",
            self.id(),
            self.pool.name
        );
        Problem::conflict(words)
    }

    fn change<'a>(&'a self, what: &'a str, peer: &Peer) -> Change<'a> {
        Change { who: peer.address(), what, pool: &self.pool.name, backend: self.id() }
    }

    /// Does it, and tells so.
    fn changed(
        &self,
        what: &str,
        peer: &Peer,
        admin: &Admin,
        action: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let before = summary(&self.backend);
        action()?;
        self.change(what, peer).tell(before, summary(&self.backend), &admin.plan().journal);
        Ok(())
    }

    fn described(&self, admin: &Admin) -> describe::Backend {
        describe::Backend::of(&self.pool.name, &self.backend, &admin.drains, &admin.clock, now())
    }
}

/// As one segment of a path (RFC 3986 §2.1).
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
