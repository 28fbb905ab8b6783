//! `session`: a cookie that keeps a client on its backend.

use super::value::{Fault, Value};
use serde::Deserialize;
use std::time::Duration;
use tower_balancer::{
    http::SessionCookie,
    strategy::{AnyStrategy, SessionSecret, Sticky},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    pub cookie: Value<String>,
    pub secret: Value<SessionSecret>,
    #[serde(default)]
    pub secure: Option<Value<bool>>,
    #[serde(default)]
    pub max_age: Option<Value<Duration>>,
    /// How long a backend that is drained keeps its sessions.
    #[serde(default)]
    pub grace: Option<Value<Duration>>,
}

/// Secrets are compared by what they make of a name.
impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        let token = |session: &Self| session.secret.token(&"".into());
        let rest = |session: &Self| {
            (session.cookie.clone(), session.secure.clone(), session.max_age.clone(), session.grace.clone())
        };
        token(self) == token(other) && rest(self) == rest(other)
    }
}

impl Session {
    pub fn validate(&self) -> Result<(), Fault> {
        self.cookie().map(drop)
    }

    pub fn cookie(&self) -> Result<SessionCookie, Fault> {
        let cookie =
            SessionCookie::new(&self.cookie, *self.secret).map_err(|error| self.cookie.fault(error.to_string()))?;
        let cookie = if self.secure.as_deref() == Some(&true) { cookie.secure() } else { cookie };
        Ok(match self.max_age.as_deref() {
            Some(age) => cookie.max_age(*age),
            None => cookie,
        })
    }

    /// The strategy for those who have the cookie, around the one for the others.
    pub fn around(&self, inner: AnyStrategy) -> Sticky<AnyStrategy> {
        let sticky = Sticky::new(*self.secret, inner);
        match self.grace.as_deref() {
            Some(grace) => sticky.grace(*grace),
            None => sticky,
        }
    }
}
