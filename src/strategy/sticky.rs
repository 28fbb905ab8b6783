use super::{Admission, Candidates, Hint, Index, Picker, Score, Strategy};
use crate::backend::{Backend, BackendId};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::{collections::HashMap, error::Error, fmt, hash::Hasher, str::FromStr, sync::Arc, time::Duration};

/// A stage before any strategy: a request that carries a session's token goes to the backend that the token names, as long
/// as that one may be picked. All others go where the strategy inside sends them.
///
/// For HTTP, [`SessionCookie`](crate::http::SessionCookie) reads the token and sets it. A token that names no member, one
/// that was tampered with, or one of another secret, is as good as none.
///
/// ```
/// use std::{sync::Arc, time::Instant};
/// use tower_balancer::{
///     backend::Backend,
///     strategy::{Candidates, Eligible, Hint, Picker, RoundRobin, SessionSecret, Sticky, Strategy},
/// };
///
/// let secret: SessionSecret = "000102030405060708090a0b0c0d0e0f".parse()?;
/// let backends = ["a", "b", "c"].map(|id| Arc::new(Backend::new(id)));
/// let picker = Sticky::new(secret, RoundRobin::new()).build(&backends);
/// let all = Eligible::new([true; 3]);
///
/// let hint = Hint::new(Instant::now(), 0).session(secret.token(backends[1].id()));
/// for _ in 0..5 {
///     let picked = picker.pick(&Candidates::new(&backends, &all), &hint).unwrap();
///     assert_eq!(picked.get(), 1);
/// }
/// # Ok::<_, tower_balancer::strategy::InvalidSecret>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sticky<G> {
    secret: SessionSecret,
    grace: Duration,
    inner: G,
}

/// Long enough for most to log out, short enough for a roll-out.
const GRACE: Duration = Duration::from_secs(300);

impl<G> Sticky<G> {
    /// Tokens are of this `secret`; requests without one go where `inner` sends them.
    pub fn new(secret: SessionSecret, inner: G) -> Self {
        Self { secret, grace: GRACE, inner }
    }

    /// How long a backend that is [drained](crate::BackendPool::drain) keeps its sessions: five minutes unless set. Then they
    /// go elsewhere.
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }
}

impl<G: Strategy> Strategy for Sticky<G> {
    type Picker = StickyPicker<G::Picker>;

    fn build(&self, members: &[Arc<Backend>]) -> Self::Picker {
        let token = |(place, backend): (usize, &Arc<Backend>)| (self.secret.token(backend.id()), Index::new(place));
        let places = members.iter().enumerate().map(token).collect();
        StickyPicker { places, grace: self.grace, inner: self.inner.build(members) }
    }
}

/// The picker of a [`Sticky`].
#[derive(Debug)]
pub struct StickyPicker<P> {
    places: HashMap<SessionToken, Index>,
    grace: Duration,
    inner: P,
}

impl<P: Picker> Picker for StickyPicker<P> {
    fn admit(&self, candidates: &Candidates<'_>) -> Admission {
        self.inner.admit(candidates)
    }

    fn pick(&self, candidates: &Candidates<'_>, hint: &Hint<'_>) -> Option<Index> {
        let named = hint.session.and_then(|token| self.places.get(&token).copied());
        let keeps = |&index: &Index| {
            let drains = || candidates.get(index).is_some_and(|backend| backend.is_draining(hint.now, self.grace));
            candidates.is_eligible(index) || drains()
        };
        named.filter(keeps).or_else(|| self.inner.pick(candidates, hint))
    }

    fn score(&self, candidates: &Candidates<'_>, index: Index, hint: &Hint<'_>) -> Option<Score> {
        self.inner.score(candidates, index, hint)
    }
}

/// What makes the tokens of sessions: 16 bytes that only the balancers know, all of one fleet the same.
#[derive(Clone, Copy)]
pub struct SessionSecret([u8; 16]);

impl SessionSecret {
    /// The secret of these bytes. Draw them once, from the system's source of randomness.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The token for sessions on the backend `id`: SipHash-2-4 with 128 bits of its name, under the secret. Who does not
    /// know the secret can neither make one nor learn the name from it.
    pub fn token(&self, id: &BackendId) -> SessionToken {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(id.as_str().as_bytes());
        SessionToken(hasher.finish128().as_u128())
    }
}

/// Reads 32 hexadecimal digits, as `openssl rand -hex 16` writes them.
impl FromStr for SessionSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        hexadecimal(text.as_bytes()).map(|number| Self(number.to_be_bytes())).ok_or(InvalidSecret(()))
    }
}

/// Does not show it.
impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// The error for a text that is no [`SessionSecret`]. Does not show the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSecret(());

impl fmt::Display for InvalidSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid session secret: expected 32 hexadecimal digits")
    }
}

impl Error for InvalidSecret {}

/// Names a backend to whoever knows the secret. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionToken(u128);

impl SessionToken {
    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    pub fn read(digits: &[u8]) -> Option<Self> {
        hexadecimal(digits).map(Self)
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u128> {
    if digits.len() != 32 {
        return None;
    }
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | u128::from(char::from(digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::{Eligible, LeastLatency, RoundRobin, conformance};
    use std::time::Instant;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as an origin")]
    fn now() -> Instant {
        Instant::now()
    }

    const SECRET: SessionSecret = SessionSecret([7; 16]);

    #[test]
    fn it_conforms_around_others() {
        conformance::check(|| Sticky::new(SECRET, RoundRobin::new()), now());
        conformance::check(|| Sticky::new(SECRET, LeastLatency::new()), now());
    }

    #[test]
    fn the_token_is_siphash() {
        // The first vector of the reference implementation with 128 bits: the key 00 to 0f, and no input.
        let secret: SessionSecret = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
        let token = secret.token(&BackendId::from("")).0;
        assert_eq!(token.to_le_bytes()[..4], [0xa3, 0x81, 0x7f, 0x04]);
    }

    #[test]
    fn a_session_stays_until_its_backend_is_out() {
        let backends = ["a", "b", "c"].map(|id| Arc::new(Backend::new(id)));
        let picker = Sticky::new(SECRET, RoundRobin::new()).build(&backends);
        let all = Eligible::new([true; 3]);
        let hint = Hint::new(now(), 0).session(SECRET.token(backends[2].id()));
        let picks = |eligible: &Eligible| -> Vec<usize> {
            (0..4).map(|_| picker.pick(&Candidates::new(&backends, eligible), &hint).unwrap().get()).collect()
        };
        assert_eq!(picks(&all), [2, 2, 2, 2]);
        assert_eq!(picks(&all.with(Index::new(2), false)), [0, 1, 0, 1]);
        assert_eq!(picks(&all), [2, 2, 2, 2]);
    }

    #[test]
    fn a_token_that_was_tampered_with_is_none() {
        let backends = ["a", "b"].map(|id| Arc::new(Backend::new(id)));
        let picker = Sticky::new(SECRET, RoundRobin::new()).build(&backends);
        let token = SECRET.token(backends[0].id());
        assert_eq!(SessionToken::read(token.to_string().as_bytes()), Some(token));
        for at in 0..32 {
            let mut digits = token.to_string().into_bytes();
            digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
            let tampered = SessionToken::read(&digits).unwrap();
            assert!(!picker.places.contains_key(&tampered), "{at}");
        }
        assert!(!picker.places.contains_key(&SessionSecret([8; 16]).token(backends[0].id())));
        for garbage in ["", "0", "g0000000000000000000000000000000", "000000000000000000000000000000000", "\u{e9}"] {
            assert_eq!(SessionToken::read(garbage.as_bytes()), None, "{garbage}");
        }
    }

    #[test]
    fn a_secret_is_read_from_digits_and_never_shown() {
        let told = "00".parse::<SessionSecret>().unwrap_err().to_string();
        assert_eq!(told, "invalid session secret: expected 32 hexadecimal digits");
        assert_eq!(format!("{SECRET:?}"), "SessionSecret(..)");
    }
}
