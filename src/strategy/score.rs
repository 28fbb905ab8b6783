/// What a strategy thinks of one candidate: its cost, the least of which is picked, and what it is made of.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// In a unit of the strategy's own: only the order counts.
    pub cost: f64,
    /// By name, in the strategy's words.
    pub parts: Vec<(&'static str, f64)>,
}

impl Score {
    /// A cost, and what it is made of.
    pub fn new(cost: f64, parts: impl Into<Vec<(&'static str, f64)>>) -> Self {
        Self { cost, parts: parts.into() }
    }
}
