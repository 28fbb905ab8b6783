//! Values that may be written in more than one way: a table in short, a list of one.

use super::value::{Scalar, Value};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData, ops::Deref};
use toml::Spanned;

/// A table that may be written as one value, where the rest is as usual: `"http://a:1"` for `{ url = "http://a:1" }`.
pub trait Short: Sized {
    type Scalar: Scalar;

    fn short(value: Value<Self::Scalar>) -> Self;

    /// From a list of such values, where it may be that as well.
    fn list(_values: Many<Self::Scalar>) -> Option<Self> {
        None
    }

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
    /// A table, or a list.
    Full(T),
}

impl<'de, T: Short> Deserialize<'de> for Either<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OfEither(PhantomData))
    }
}

struct OfEither<T>(PhantomData<T>);

impl<'de, T: Short> Visitor<'de> for OfEither<T> {
    type Value = Either<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a table")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Either<T>, E> {
        T::Scalar::read(text).map(Either::Short).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Either<T>, A::Error> {
        let is_no_list = || de::Error::invalid_type(Unexpected::Seq, &"a string or a table");
        T::list(Many(values(list)?)).map(Either::Full).ok_or_else(is_no_list)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Either<T>, A::Error> {
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

impl<'de, T: Scalar> Visitor<'de> for OfMany<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
        T::read(text).map(OneOrMore::One).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMore<T>, A::Error> {
        values(list).map(OneOrMore::More)
    }
}

/// All of a list that is not empty.
fn values<'de, T: Scalar, A: SeqAccess<'de>>(mut list: A) -> Result<Vec<Value<T>>, A::Error> {
    let mut values = Vec::new();
    while let Some(value) = list.next_element()? {
        values.push(value);
    }
    if values.is_empty() { Err(de::Error::custom("the list is empty: expected one or more")) } else { Ok(values) }
}
