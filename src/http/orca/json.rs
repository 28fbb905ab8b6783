use super::Metrics;

/// How deep values may be nested.
const DEPTH: usize = 8;

/// Reads an object of metrics; `None` where the text is none.
///
/// A reader of what is looked for, no judge of the rest: it finds every value that a stricter one finds.
pub(super) fn read(text: &str) -> Option<Metrics> {
    let mut metrics = Metrics::default();
    let mut json = Json(text);
    json.object(|json, name| {
        if matches!(name, "named_metrics" | "namedMetrics") && json.next() == Some('{') {
            return json.object(|json, name| {
                json.value(DEPTH)?.into_iter().for_each(|value| metrics.set_named(name, value));
                Some(())
            });
        }
        json.value(DEPTH)?.into_iter().for_each(|value| metrics.set(name, value));
        Some(())
    })?;
    json.next().is_none().then_some(metrics)
}

/// What is left to read.
struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// The letter that comes next, after any space.
    fn next(&mut self) -> Option<char> {
        self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
        self.0.chars().next()
    }

    fn eat(&mut self, letter: char) -> Option<()> {
        let is_next = self.next() == Some(letter);
        self.0 = self.0.get(letter.len_utf8()..).filter(|_| is_next)?;
        Some(())
    }

    /// Asks `member` to read the value of each name.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.list('{', '}', |json| {
            let name = json.string()?;
            json.eat(':')?;
            member(json, name)
        })
    }

    fn list(&mut self, open: char, close: char, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.eat(open)?;
        if self.next()? == close {
            return self.eat(close);
        }
        loop {
            item(self)?;
            match self.next()? {
                ',' => self.eat(',')?,
                _ => return self.eat(close),
            }
        }
    }

    /// What is between the quotes, as it is written: no name that is looked for has need of an escape.
    fn string(&mut self) -> Option<&'a str> {
        self.eat('"')?;
        let mut escaped = false;
        let is_end = |letter: char| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        };
        let (string, rest) = self.0.split_at_checked(self.0.find(is_end)?)?;
        self.0 = rest.strip_prefix('"')?;
        Some(string)
    }

    /// Any value, and the number that it is, or that it spells.
    fn value(&mut self, depth: usize) -> Option<Option<f64>> {
        let deeper = depth.checked_sub(1)?;
        match self.next()? {
            '{' => self.object(|json, _| json.value(deeper).map(drop)).map(|()| None),
            '[' => self.list('[', ']', |json| json.value(deeper).map(drop)).map(|()| None),
            '"' => self.string().map(|string| string.parse().ok()),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Option<Option<f64>> {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        let (literal, rest) = self.0.split_at_checked(self.0.find(|letter| !is_part(letter))?)?;
        self.0 = rest;
        match literal {
            "true" | "false" | "null" => Some(None),
            _ if literal.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                literal.parse().ok().map(Some)
            }
            _ => None,
        }
    }
}
