//! At most one run of a background future at a time, and a way to end it.

use tokio::sync::watch;

/// At most one run at a time, and a way to end it. Clones share the run.
///
/// Each run has a number, so that a run which is told to stop ends even where the next one has begun before it noticed.
#[derive(Clone, Debug)]
pub(crate) struct Running(watch::Sender<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    current: Option<u64>,
    begun: u64,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State::default()))
    }

    /// Begins a run, unless one is running.
    pub(crate) fn begin(&self) -> Option<Run> {
        let mut number = None;
        self.0.send_if_modified(|state| {
            if state.current.is_none() {
                state.begun += 1;
                state.current = Some(state.begun);
                number = state.current;
            }
            number.is_some()
        });
        Some(Run { number: number?, state: self.0.subscribe(), running: self.clone() })
    }

    /// Tells the current run, if any, to end.
    pub(crate) fn stop(&self) {
        self.0.send_modify(|state| state.current = None);
    }
}

/// A run that has begun. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Run {
    number: u64,
    state: watch::Receiver<State>,
    running: Running,
}

impl Run {
    /// Whether this run was told to end.
    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().current != Some(self.number)
    }

    /// Waits until this run is told to end.
    pub(crate) async fn stopped(&mut self) {
        let number = self.number;
        // The sender lives in `self.running`, so waiting cannot fail.
        let _ = self.state.wait_for(|state| state.current != Some(number)).await;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.running.0.send_if_modified(|state| {
            let mine = state.current == Some(self.number);
            if mine {
                state.current = None;
            }
            mine
        });
    }
}
