//! The two formats, read so that each entry knows its line.

use crate::{discover::Entry, error::BoxError};
use serde::Deserialize;
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

/// What stands in one place of the list.
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    pub(super) entry: Result<Entry, BoxError>,
}

impl Line {
    fn new(text: &str, offset: usize, entry: Result<Entry, BoxError>) -> Self {
        let number = text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
        let entry = entry.and_then(|entry| match entry.unknown().first() {
            Some(key) => Err(format!("unknown key {key:?}: expected url, weight, zone, priority, state").into()),
            None => Ok(entry),
        });
        Self { number, entry }
    }
}

/// The entries of a list.
///
/// # Errors
///
/// What cannot be parsed at all, or is no list.
pub(super) fn parse(text: &str, is_json: bool) -> Result<Vec<Line>, BoxError> {
    if is_json { json(text) } else { toml(text) }
}

fn json(text: &str) -> Result<Vec<Line>, BoxError> {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        backends: Vec<&'a RawValue>,
    }
    let entries: Vec<&RawValue> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text)?,
        false => serde_json::from_str::<Document<'_>>(text)?.backends,
    };
    // Each borrows from the text: where it begins is how far it is from there.
    let offset = |entry: &RawValue| (entry.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let line = |entry: &RawValue| Line::new(text, offset(entry), serde_json::from_str(entry.get()).map_err(in_words));
    Ok(entries.into_iter().map(line).collect())
}

/// The error without its place in an entry, which means nothing in the file.
fn in_words(error: serde_json::Error) -> BoxError {
    let words = error.to_string();
    words.split(" at line ").next().unwrap_or_default().to_owned().into()
}

fn toml(text: &str) -> Result<Vec<Line>, BoxError> {
    let in_words = |error: toml::de::Error| {
        let number =
            text.as_bytes()[..error.span().map_or(0, |span| span.start)].iter().filter(|b| **b == b'\n').count();
        format!("line {}: {}", number + 1, error.message())
    };
    let document = DeTable::parse(text).map_err(in_words)?;
    let Some(backends) = document.get_ref().get("backends") else {
        return Err("there is no list of backends: expected backends = […] or [[backends]]".into());
    };
    let DeValue::Array(entries) = backends.get_ref() else {
        return Err("backends is not a list".into());
    };
    let line = |entry: &toml::Spanned<DeValue<'_>>| {
        let read = Entry::deserialize(toml::de::ValueDeserializer::from(entry.clone()));
        Line::new(text, entry.span().start, read.map_err(|error| error.message().to_owned().into()))
    };
    Ok(entries.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, is_json: bool) -> Vec<(usize, Result<String, String>)> {
        let said =
            |line: Line| (line.number, line.entry.map(|entry| entry.url().into()).map_err(|error| error.to_string()));
        parse(text, is_json).unwrap().into_iter().map(said).collect()
    }

    #[test]
    fn each_entry_knows_its_line_and_what_is_wrong_with_it() {
        let toml = "# ours\nbackends = [\n  \"http://a\",\n  { url = \"http://b\", weight = 2 },\n  7,\n  { weight = 1 },\n  \
                    { url = \"http://c\", wieght = 3 }, { url = \"http://d\", weight = \"much\" },\n]\nother = 1\n";
        let json = "\n{\"other\": 1, \"backends\": [\n  \"http://a\",\n  {\"url\": \"http://b\", \"weight\": 2},\n  7,\n  \
                    {\"weight\": 1},\n  {\"url\": \"http://c\", \"wieght\": 3}, {\"url\": \"http://d\", \"weight\": \"much\"}\n]}";
        for (text, is_json) in [(toml, false), (json, true)] {
            let lines = lines(text, is_json);
            assert_eq!(lines[0], (3, Ok("http://a".to_owned())));
            assert_eq!(lines[1], (4, Ok("http://b".to_owned())));
            for (line, number, problem) in [
                (2, 5, "expected a URL, or a table"),
                (3, 6, "missing field `url`"),
                (4, 7, "unknown key \"wieght\""),
                (5, 7, "much"),
            ] {
                let (found, said) = &lines[line];
                let said = said.as_ref().unwrap_err();
                assert!(*found == number && said.contains(problem) && !said.contains("line"), "{line}: {found} {said}");
            }
        }
    }

    #[test]
    fn tables_of_their_own_have_lines_too() {
        let lines = lines("[[backends]]\nurl = \"http://a\"\n\n[[backends]]\nurl = 3\n", false);
        assert_eq!(lines[0], (1, Ok("http://a".to_owned())));
        assert_eq!(lines[1].0, 4);
        assert!(lines[1].1.is_err());
    }

    #[test]
    fn a_list_by_itself_is_json_too() {
        assert_eq!(lines(" [\n\"http://a\"]", true), [(2, Ok("http://a".to_owned()))]);
        assert_eq!(lines("[]", true), []);
        assert_eq!(lines("backends = []", false), []);
    }

    #[test]
    fn what_is_no_list_is_broken() {
        for (text, is_json, problem) in [
            ("", false, "no list of backends"),
            ("backend = []", false, "no list of backends"),
            ("backends = \"http://a\"", false, "not a list"),
            ("a = 1\nbackends = [\"http://a\",", false, "line 2"),
            ("", true, "EOF"),
            ("{}", true, "missing field `backends`"),
            ("{\"backends\": [\"http://a\"", true, "EOF"),
        ] {
            let error = parse(text, is_json).err().expect(text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
