//! The text format of Prometheus, version 0.0.4.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Write as _},
};
use tower_balancer::{
    backend::ResponseTimes,
    metrics::{Family, Sink},
};

/// Samples, by the metric that they belong to: those of one must stand together.
#[derive(Default)]
pub struct Text(BTreeMap<&'static str, (Family, String)>);

impl Text {
    pub fn sample(&mut self, family: Family, labels: &[&str], value: impl Display) {
        self.line(family, "", labels, None, value);
    }

    /// `bound` is that of a bucket of a histogram.
    fn line(&mut self, family: Family, suffix: &str, labels: &[&str], bound: Option<&str>, value: impl Display) {
        let (_, text) = self.0.entry(family.name()).or_insert_with(|| (family, String::new()));
        _ = write!(text, "{}{suffix}", family.name());
        let bound = bound.map(|bound| ("le", bound));
        let labels = family.labels().iter().copied().zip(labels.iter().copied()).chain(bound);
        let mut separator = '{';
        for (name, value) in labels {
            _ = write!(text, "{separator}{name}=\"{}\"", Escaped(value));
            separator = ',';
        }
        let end = if separator == '{' { "" } else { "}" };
        _ = writeln!(text, "{end} {value}");
    }
}

impl Sink for Text {
    fn counter(&mut self, family: Family, labels: &[&str], value: u64) {
        self.sample(family, labels, value);
    }

    fn gauge(&mut self, family: Family, labels: &[&str], value: f64) {
        self.sample(family, labels, value);
    }

    fn histogram(&mut self, family: Family, labels: &[&str], times: &ResponseTimes) {
        let mut all = 0;
        for (bound, below) in times.cumulative() {
            let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
            self.line(family, "_bucket", labels, Some(&bound), below);
            all = below;
        }
        self.line(family, "_sum", labels, None, times.sum().as_secs_f64());
        self.line(family, "_count", labels, None, all);
    }
}

impl Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, (family, samples))| {
            let kind = family.kind().as_str();
            write!(f, "# HELP {name} {}\n# TYPE {name} {kind}\n{samples}", family.help())
        })
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '\\' => f.write_str(r"\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            letter => f.write_char(letter),
        })
    }
}
