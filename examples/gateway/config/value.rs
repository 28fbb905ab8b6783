//! One value of the configuration: what it says, and where.

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, Range},
};
use toml::Spanned;

/// What can be read from a few letters, as they stand in the file or on the command line.
pub trait Scalar: Sized {
    /// Reads it, or says what was expected.
    fn read(text: &str) -> Result<Self, String>;
}

/// A value with its place in the file; without one where it is a default or from the command line. Two are equal if they say
/// the same, wherever.
#[derive(Clone, Debug)]
pub struct Value<T> {
    pub(super) value: T,
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

/// A setting that only some things have: where `is_so` is not, and it is set all the same, it is a fault.
pub fn only_if<T>(is_so: bool, value: Option<&Value<T>>, words: impl Fn() -> String) -> Result<(), Fault> {
    match value {
        Some(value) if !is_so => Err(value.fault(words())),
        _ => Ok(()),
    }
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

impl<T: Scalar> Visitor<'_> for OfLetters<T> {
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
