//! The text of a configuration file: variables, lines and keys.

use super::value::{Fault, Place};
use std::{env, fmt, fs, io, ops::Range, path::Path};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A file that was read, to say where in it something stands.
#[derive(Clone, Debug)]
pub struct Document {
    name: String,
    text: String,
}

/// What is wrong with a configuration: `gateway.toml:7: pools.web.strategy: unknown strategy …`.
#[derive(Debug)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self(fault.words)
    }
}

impl Document {
    /// The problem of a file that cannot be read.
    pub fn unreadable(path: &Path, error: &io::Error) -> Problem {
        let text = error.to_string();
        let words = text.split(" (os error").next().unwrap_or(&text);
        Problem(format!("{}: cannot be read: {words}", path.display()))
    }

    pub fn read(path: &Path) -> Result<Self, Problem> {
        let text = fs::read_to_string(path).map_err(|error| Self::unreadable(path, &error))?;
        Ok(Self::new(path, text))
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn new(path: &Path, text: String) -> Self {
        Self { name: path.display().to_string(), text }
    }

    /// What the text says, its variables replaced.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Problem> {
        let mut table = DeTable::parse(&self.text).map_err(|error| self.of_toml(&error))?;
        expand_table(table.get_mut(), &|name| env::var(name).ok()).map_err(|fault| self.problem(fault))?;
        T::deserialize(toml::de::Deserializer::from(table)).map_err(|error| self.of_toml(&error))
    }

    /// A fault with file, line and key.
    pub fn problem(&self, Fault { place, words }: Fault) -> Problem {
        let place = match place {
            Place::At(place) => place,
            Place::File => return Problem(format!("{}: {words}", self.name)),
            Place::CommandLine => return Problem(words),
        };
        let line = self.text.bytes().take(place.start).filter(|byte| *byte == b'\n').count() + 1;
        let key = DeTable::parse(&self.text).ok().and_then(|table| key_at(table.get_ref(), place));
        let key = key.map_or_else(String::new, |key| format!("{key}: "));
        Problem(format!("{}:{line}: {key}{words}", self.name))
    }

    fn of_toml(&self, error: &toml::de::Error) -> Problem {
        let words = error.message().replace('\n', ", ");
        self.problem(Fault { place: error.span().map_or(Place::File, Place::At), words })
    }
}

/// The key whose value, or whose name, is the smallest to have all of `place`.
fn key_at(table: &DeTable<'_>, place: Range<usize>) -> Option<String> {
    let mut found: Option<(usize, String)> = None;
    visit(table, "", &mut |path, span| {
        let holds = span.start <= place.start && place.end <= span.end;
        if holds && found.as_ref().is_none_or(|(length, _)| span.len() <= *length) {
            found = Some((span.len(), path.to_owned()));
        }
    });
    found.map(|(_, path)| path)
}

/// Tells of each key and value below `table`.
fn visit(table: &DeTable<'_>, path: &str, tell: &mut impl FnMut(&str, Range<usize>)) {
    for (key, value) in table {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{}", key.get_ref());
        tell(&path, key.span());
        visit_value(value, &path, tell);
    }
}

fn visit_value(value: &Spanned<DeValue<'_>>, path: &str, tell: &mut impl FnMut(&str, Range<usize>)) {
    tell(path, value.span());
    match value.get_ref() {
        DeValue::Table(table) => visit(table, path, tell),
        DeValue::Array(values) => {
            for (place, value) in values.iter().enumerate() {
                visit_value(value, &format!("{path}[{place}]"), tell);
            }
        }
        _ => {}
    }
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables in every string below `table`. Keys and comments are left alone.
fn expand_table(table: &mut DeTable<'_>, lookup: Lookup<'_>) -> Result<(), Fault> {
    table.iter_mut().try_for_each(|(_, value)| expand_value(value, lookup))
}

fn expand_value(value: &mut Spanned<DeValue<'_>>, lookup: Lookup<'_>) -> Result<(), Fault> {
    let place = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains('$') => {
            let expanded = expand(text, lookup).map_err(|words| Fault { place: Place::At(place), words })?;
            *text = expanded.into();
            Ok(())
        }
        DeValue::Table(table) => expand_table(table, lookup),
        DeValue::Array(values) => values.iter_mut().try_for_each(|value| expand_value(value, lookup)),
        _ => Ok(()),
    }
}

/// `${NAME}` is the variable, `${NAME:-default}` the default where it is not set or empty, `$$` a dollar.
fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    const EXPECTED: &str = "expected ${NAME}, ${NAME:-default}, or $$ for a dollar";
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded += before;
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let inside = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let Some((inside, after)) = inside else { return Err(format!("a $ that begins nothing: {EXPECTED}")) };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("{name:?} is no variable's name: {EXPECTED}"));
        }
        let set = lookup(name).filter(|value| default.is_none() || !value.is_empty());
        let missing = || format!("the environment variable {name} is not set: set it, or write ${{{name}:-default}}");
        expanded += &set.or_else(|| default.map(str::to_owned)).ok_or_else(missing)?;
        rest = after;
    }
    expanded += rest;
    Ok(expanded)
}
