//! One value of the configuration: what it says, and where.

use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};
use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData, net::SocketAddr, num::NonZero, ops::Deref, ops::Range, time::Duration};
use toml::Spanned;
use tower_balancer::{
    backend::{Origin, Weight},
    http::RequestKey,
    strategy::SessionSecret,
};

/// What can be read from a few letters, as they stand in the file or on the command line.
pub trait Scalar: Sized {
    /// Reads it, or says what was expected.
    fn read(text: &str) -> Result<Self, String>;
}

/// A value with its place in the file; without one where it is a default or from the command line. Two are equal if they say
/// the same, wherever.
#[derive(Clone, Debug)]
pub struct Value<T> {
    value: T,
    pub place: Option<Range<usize>>,
}

impl<T> Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> From<T> for Value<T> {
    fn from(value: T) -> Self {
        Self { value, place: None }
    }
}

impl<T: PartialEq> PartialEq for Value<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> Value<T> {
    /// What is wrong with it.
    pub fn fault(&self, words: impl Into<String>) -> Fault {
        Fault { place: self.place.clone().map_or(Place::CommandLine, Place::At), words: words.into() }
    }
}

/// What is wrong, and where.
#[derive(Debug)]
pub struct Fault {
    pub place: Place,
    pub words: String,
}

/// Where something is said.
#[derive(Debug)]
pub enum Place {
    /// In these bytes of the file.
    At(Range<usize>),
    /// By the file as a whole.
    File,
    CommandLine,
}

impl<'de, T: Scalar> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Letters<T>>::deserialize(deserializer)?;
        Ok(Self { place: Some(spanned.span()), value: spanned.into_inner().0 })
    }
}

/// Reads any scalar by its letters, so that a number may also come out of a variable.
struct Letters<T>(T);

impl<'de, T: Scalar> Deserialize<'de> for Letters<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfLetters(PhantomData))
    }
}

struct OfLetters<T>(PhantomData<T>);

impl<T: Scalar> de::Visitor<'_> for OfLetters<T> {
    type Value = Letters<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Letters<T>, E> {
        T::read(text).map(Letters).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Letters<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Letters<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, so: bool) -> Result<Letters<T>, E> {
        self.visit_str(if so { "true" } else { "false" })
    }
}

/// A table that may be written as one value, where the rest is as usual: `"http://a:1"` for `{ url = "http://a:1" }`.
pub trait Short: Sized {
    type Scalar: Scalar;

    fn short(value: Value<Self::Scalar>) -> Self;

    /// From the table in full.
    fn full<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error>;

    /// From either.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Either<Self>>::deserialize(deserializer)?;
        let place = spanned.span();
        Ok(match spanned.into_inner() {
            Either::Short(value) => Self::short(Value { value, place: Some(place) }),
            Either::Full(full) => full,
        })
    }
}

enum Either<T: Short> {
    Short(T::Scalar),
    Full(T),
}

impl<'de, T: Short> Deserialize<'de> for Either<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfEither(PhantomData))
    }
}

struct OfEither<T>(PhantomData<T>);

impl<'de, T: Short> de::Visitor<'de> for OfEither<T> {
    type Value = Either<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a table")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Either<T>, E> {
        T::Scalar::read(text).map(Either::Short).map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, table: A) -> Result<Either<T>, A::Error> {
        T::full(MapAccessDeserializer::new(table)).map(Either::Full)
    }
}

/// One value, or a list of them, of one at least.
#[derive(Clone, Debug, PartialEq)]
pub struct Many<T>(pub Vec<Value<T>>);

impl<T> Deref for Many<T> {
    type Target = [Value<T>];

    fn deref(&self) -> &[Value<T>] {
        &self.0
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<OneOrMore<T>>::deserialize(deserializer)?;
        let place = spanned.span();
        Ok(Self(match spanned.into_inner() {
            OneOrMore::One(value) => vec![Value { value, place: Some(place) }],
            OneOrMore::More(values) => values,
        }))
    }
}

enum OneOrMore<T> {
    One(T),
    More(Vec<Value<T>>),
}

impl<'de, T: Scalar> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfMany(PhantomData))
    }
}

struct OfMany<T>(PhantomData<T>);

impl<'de, T: Scalar> de::Visitor<'de> for OfMany<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
        T::read(text).map(OneOrMore::One).map_err(E::custom)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        if values.is_empty() {
            return Err(de::Error::custom("the list is empty: expected one or more"));
        }
        Ok(OneOrMore::More(values))
    }
}

/// A bound that may be missing: 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpTo<T>(pub Option<T>);

impl<T> Deref for UpTo<T> {
    type Target = Option<T>;

    fn deref(&self) -> &Option<T> {
        &self.0
    }
}

impl Scalar for UpTo<NonZero<u32>> {
    fn read(text: &str) -> Result<Self, String> {
        u32::read(text).map(|number| Self(NonZero::new(number)))
    }
}

impl Scalar for UpTo<Duration> {
    fn read(text: &str) -> Result<Self, String> {
        duration(text).map(|time| Self(Some(time).filter(|time| !time.is_zero())))
    }
}

/// A share: `0.2`, or `20%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Scalar for Share {
    fn read(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse().map(|percent: f64| percent / 100.0),
            None => text.parse(),
        };
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        let expected = || format!("invalid share {text:?}: expected a number from 0 to 1, or a percentage such as 50%");
        share.ok().filter(is_share).map(Self).ok_or_else(expected)
    }
}

impl Scalar for u32 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid number {text:?}: expected a whole number from 0"))
    }
}

impl Scalar for NonZero<u32> {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid number {text:?}: expected a whole number from 1"))
    }
}

impl Scalar for NonZero<u16> {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid port {text:?}: expected a number from 1 to 65535"))
    }
}

impl Scalar for f64 {
    fn read(text: &str) -> Result<Self, String> {
        let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| format!("invalid number {text:?}: expected a number that is not negative"))
    }
}

impl Scalar for bool {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid value {text:?}: expected true or false"))
    }
}

impl Scalar for String {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("expected something, not nothing".to_owned()) } else { Ok(text.to_owned()) }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("invalid duration {text:?}: expected a duration such as 5s or 500ms"))
}

impl Scalar for Duration {
    fn read(text: &str) -> Result<Self, String> {
        match duration(text)? {
            Self::ZERO => Err(format!("invalid duration {text:?}: expected more than zero")),
            time => Ok(time),
        }
    }
}

impl Scalar for SocketAddr {
    fn read(text: &str) -> Result<Self, String> {
        let expected = "expected an IP address and a port such as 127.0.0.1:3000";
        text.parse().map_err(|_| format!("invalid address {text:?}: {expected}"))
    }
}

impl Scalar for PathAndQuery {
    fn read(text: &str) -> Result<Self, String> {
        let path = text.parse().ok().filter(|_| text.starts_with('/'));
        path.ok_or_else(|| format!("invalid path {text:?}: expected a path such as /healthz"))
    }
}

impl Scalar for Origin {
    fn read(text: &str) -> Result<Self, String> {
        let origin: Self = text.parse().map_err(|error: tower_balancer::backend::InvalidOrigin| error.to_string())?;
        if *origin.scheme() != http::uri::Scheme::HTTP {
            return Err(format!("backend {origin}: TLS to backends is not supported in this build, expected http://"));
        }
        Ok(origin)
    }
}

impl Scalar for Weight {
    fn read(text: &str) -> Result<Self, String> {
        let expected = || format!("invalid weight {text:?}: expected a finite number that is not negative");
        text.parse().ok().and_then(|weight| Self::new(weight).ok()).ok_or_else(expected)
    }
}

impl Scalar for RequestKey {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: tower_balancer::http::InvalidKey| error.to_string())
    }
}

impl Scalar for SessionSecret {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: tower_balancer::strategy::InvalidSecret| error.to_string())
    }
}

impl Scalar for Method {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid method {text:?}: expected one such as GET"))
    }
}

impl Scalar for HeaderName {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid header name {text:?}"))
    }
}

impl Scalar for HeaderValue {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("invalid header value {text:?}: expected visible letters"))
    }
}

/// An enumeration that is written as one of a few words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $crate::config::Scalar for $name {
            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("invalid value {text:?}: expected {}", [$($word),+].join(", "))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}
pub(crate) use words;
