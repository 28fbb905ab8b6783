//! A pool's changes, as events.

use super::{Event, Journal, Kind};
use tower_balancer::pool::{Change, Watch};

/// Tells of the changes of the pool `name`, for as long as there is one.
pub async fn tell_changes(name: String, mut changes: Watch, journal: Journal) {
    while let Some(change) = changes.next().await {
        if let Some(event) = event(change) {
            journal.tell(event.pool(&name));
        }
    }
}

fn event(change: Change) -> Option<Event> {
    Some(match change {
        Change::Added(id) => Event::new(Kind::Added, format_args!("{id} joined")).backend(id),
        Change::Removed(id) => Event::new(Kind::Removed, format_args!("{id} left")).backend(id),
        Change::Weight(id) => Event::new(Kind::Weight, format_args!("{id} has another weight")).backend(id),
        Change::Locality(id) => Event::new(Kind::Locality, format_args!("{id} has another tier or zone")).backend(id),
        Change::Health { id, state, cause } => {
            let event = Event::new(Kind::Health, format_args!("{id} is {state}: {cause}")).backend(id).reason(&cause);
            Event { state: Some(state.as_str()), ..event }
        }
        Change::FailOpen(true) => Event::new(Kind::FailOpen, "too few backends are well: others are picked as well"),
        Change::FailOpen(false) => Event::new(Kind::FailOpen, "enough backends are well again"),
        Change::Frozen => Event::new(Kind::Frozen, "most backends went at once: nobody is ejected for answers"),
        Change::Missed(missed) => {
            Event { missed: Some(missed), ..Event::new(Kind::Missed, format_args!("{missed} changes came too fast")) }
        }
        _ => return None,
    })
}
