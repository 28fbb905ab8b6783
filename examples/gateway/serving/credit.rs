//! How long somebody is waited for who has to keep up a rate.

use std::time::Duration;

/// The time that is left to somebody. Waiting uses it up, bytes earn it, and there is never more than at the beginning: who sends
/// nothing for so long has none left, nor has one who goes on for long at less than the rate. Who is faster, however
/// unevenly, has.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    left: Duration,
    most: Duration,
    /// Bytes a second; with 0 any byte earns all.
    rate: u32,
}

impl Credit {
    pub fn new(most: Duration, rate: u32) -> Self {
        Self { left: most, most, rate }
    }

    /// The same for one who may be as slow as he likes, and not stand still.
    pub fn at_any_rate(self) -> Self {
        Self { rate: 0, ..self }
    }

    /// How long there may be nothing.
    pub fn left(self) -> Duration {
        self.left
    }

    /// So many bytes came, or went, after so long.
    pub fn spend(&mut self, waited: Duration, bytes: usize) {
        let earned = match Duration::from_secs(bytes as u64).checked_div(self.rate) {
            Some(earned) => earned,
            None if bytes > 0 => self.most,
            None => Duration::ZERO,
        };
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(self.most);
    }

    /// Whatever was used up is given back.
    pub fn renew(&mut self) {
        self.left = self.most;
    }
}
