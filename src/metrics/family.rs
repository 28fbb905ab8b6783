/// A metric: its name, its kind, and what its samples are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

/// How the samples of a metric are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only ever grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many were up to so much, for several bounds.
    Histogram,
}

impl Kind {
    /// The kind as one word in lower case, as Prometheus has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Family {
    /// A counter. By convention its name ends in `_total`.
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// A histogram of times. By convention its name ends in `_seconds`.
    pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, labels, help }
    }

    /// Its name, which says its unit where it has one: `_seconds`, `_bytes`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What each of its samples has a value for.
    pub const fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// What it means, in a sentence.
    pub const fn help(&self) -> &'static str {
        self.help
    }
}
