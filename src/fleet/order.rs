use crate::{
    backend::{Admin, Weight},
    error::BoxError,
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// What the operator wants of a backend, as it stands in etcd.
///
/// Each word has the time at which it was said, and of two about the same thing the later one counts (a last-writer-wins
/// register: Shapiro et al. 2011). So it does not matter in which order, by way of whom and how often they are heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Order {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    /// Each in milliseconds since 1970; 0 where nothing was said, or by hand.
    state_said: u64,
    weight_said: u64,
}

/// The later, the more careful: said at the same time, that one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Enabled,
    Draining,
    Disabled,
}

/// What is older has been heard by everybody who will ever hear of it.
const OLD: Duration = Duration::from_secs(7 * 86_400);

/// The time on the clock of this machine, in milliseconds since 1970.
pub(super) fn clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A time to say something at that is later than what was `said`, whoever's clock that was by (a hybrid logical clock:
/// Kulkarni et al. 2014).
fn after(said: u64, now: u64) -> u64 {
    now.max(said.saturating_add(1))
}

impl Order {
    /// As it stands in etcd.
    pub(super) fn read(text: &[u8]) -> Result<Self, BoxError> {
        let order: Self = serde_json::from_slice(text)?;
        order.weight.map(Weight::new).transpose()?;
        Ok(order)
    }

    /// Only this, said `at` this time.
    pub(super) fn state(admin: Admin, at: u64) -> Self {
        let state = match admin {
            Admin::Enabled => State::Enabled,
            Admin::Draining => State::Draining,
            Admin::Disabled => State::Disabled,
        };
        Self { state: Some(state), state_said: at, ..Self::default() }
    }

    /// The same with another state, said after it.
    pub(super) fn then_state(self, admin: Admin, now: u64) -> Self {
        self.join(Self::state(admin, after(self.state_said, now)))
    }

    /// The same with another weight, said after it.
    pub(super) fn then_weight(self, weight: Weight, now: u64) -> Self {
        Self { weight: Some(weight.get()), weight_said: after(self.weight_said, now), ..self }
    }

    /// Nothing is wanted any more, said after it.
    pub(super) fn then_nothing(self, now: u64) -> Self {
        Self { weight: None, weight_said: after(self.weight_said, now), ..self.then_state(Admin::Enabled, now) }
    }

    /// The same, where somebody has written it by hand: said `now`, after what is `known`.
    pub(super) fn dated(self, known: Self, now: u64) -> Self {
        let date = |is_word: bool, said: u64, known| if is_word && said == 0 { after(known, now) } else { said };
        Self {
            state_said: date(self.state.is_some(), self.state_said, known.state_said),
            weight_said: date(self.weight.is_some(), self.weight_said, known.weight_said),
            ..self
        }
    }

    /// What counts of both.
    pub(super) fn join(self, other: Self) -> Self {
        let (state_said, state) = (self.state_said, self.state).max((other.state_said, other.state));
        let weight = |order: Self| (order.weight_said, order.weight.map(f64::to_bits));
        let (weight_said, weight) = weight(self).max(weight(other));
        Self { state, weight: weight.map(f64::from_bits), state_said, weight_said }
    }

    pub(super) fn admin(self) -> Admin {
        match self.state {
            None | Some(State::Enabled) => Admin::Enabled,
            Some(State::Draining) => Admin::Draining,
            Some(State::Disabled) => Admin::Disabled,
        }
    }

    pub(super) fn weight(self) -> Option<Weight> {
        Weight::new(self.weight?).ok()
    }

    /// Whether it is the same as none, but for being newer than another.
    pub(super) fn wants_nothing(self) -> bool {
        self.admin() == Admin::Enabled && self.weight().is_none()
    }

    pub(super) fn is_old(self, now: u64) -> bool {
        self.state_said.max(self.weight_said).saturating_add(OLD.as_millis() as u64) < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn orders() -> impl Strategy<Value = Order> {
        let word = (0..4_u64, 0..4_u64, 0..4_u64, 0..3_u64);
        word.prop_map(|(state, state_said, weight, weight_said)| Order {
            state: [None, Some(State::Enabled), Some(State::Draining), Some(State::Disabled)][state as usize],
            weight: (weight > 0).then_some(weight as f64),
            state_said,
            weight_said,
        })
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_order_or_how_often_they_are_heard((a, b, c) in (orders(), orders(), orders())) {
            prop_assert_eq!(a.join(b), b.join(a));
            prop_assert_eq!(a.join(b).join(c), a.join(b.join(c)));
            prop_assert_eq!(a.join(a), a);
            prop_assert_eq!(a.join(b).join(a), a.join(b));
        }

        #[test]
        fn what_is_said_after_something_counts_whatever_the_clock_says((known, now) in (orders(), 0..9_u64)) {
            let weight = Weight::new(7.0).unwrap();
            for admin in [Admin::Enabled, Admin::Draining, Admin::Disabled] {
                let said = known.then_state(admin, now);
                prop_assert_eq!((said.join(known), said.admin(), said.weight()), (said, admin, known.weight()));
                let said = known.then_weight(weight, now);
                prop_assert_eq!((said.join(known), said.admin(), said.weight()), (said, known.admin(), Some(weight)));
            }
            let nothing = known.then_nothing(now);
            prop_assert!(nothing.join(known) == nothing && nothing.wants_nothing());
        }
    }

    #[test]
    fn what_is_written_by_hand_is_said_when_it_is_heard_and_leaves_the_rest_as_it_is() {
        let known = Order::state(Admin::Disabled, 1_000).then_weight(Weight::new(2.0).unwrap(), 2_000);
        let read = |text: &str| serde_json::from_str::<Order>(text).unwrap();
        let heard = |text, now| read(text).dated(known, now).join(known);
        let drained = heard(r#"{"state": "draining", "comment": "disk"}"#, 500);
        assert_eq!((drained.admin(), drained.weight(), drained.state_said), (Admin::Draining, known.weight(), 1_001));
        let heavy = heard(r#"{"weight": 3}"#, 5_000);
        assert_eq!((heavy.admin(), heavy.weight().unwrap().get(), heavy.weight_said), (Admin::Disabled, 3.0, 5_000));
        // What a gateway has written is as old as it says.
        let written = serde_json::to_string(&known).unwrap();
        assert_eq!(read(&written).dated(heavy, 9_000), known);
    }
}
