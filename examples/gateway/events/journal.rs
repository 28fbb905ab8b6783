//! What was told, for as long as it is kept.

use super::{Event, Kind};
use bytes::Bytes;
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, time::timeout};

/// Events that are kept, and their bytes: the name of a backend may be as long as a source likes.
const KEPT: usize = 1_000;
const BYTES: usize = 2 << 20;

/// Where nothing happens, readers hear so often that the connection is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The events of a process. A clone is the same.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Which process it is of: numbers begin anew with each.
    run: String,
    kept: Mutex<Kept>,
    /// The number of the next event.
    next: watch::Sender<u64>,
}

/// The last ones, as they are sent.
#[derive(Debug, Default)]
struct Kept {
    first: u64,
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Kept {
    fn next(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    /// The last one is kept, whatever its size.
    fn keep(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > KEPT || (self.bytes > BYTES && self.frames.len() > 1) {
            self.bytes -= self.frames.pop_front().map_or(0, |oldest| oldest.len());
            self.first += 1;
        }
    }
}

/// An event as it is sent: with its number and its time.
#[derive(Serialize)]
struct Told<'a> {
    id: &'a str,
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl Journal {
    pub fn new() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::of_run(format!("{:x}", began.as_millis()))
    }

    fn of_run(run: String) -> Self {
        Self(Arc::new(Shared { run, kept: Mutex::default(), next: watch::Sender::new(0) }))
    }

    pub fn tell(&self, event: Event) {
        let mut kept = self.kept();
        let number = kept.next();
        kept.keep(self.frame(number, &event));
        self.0.next.send_replace(number + 1);
    }

    /// The events from now on; or, where `last` is the id of one, from that one on: as far as they are kept.
    pub fn read(&self, last: Option<&str>) -> Reader {
        let (kept, mut changed) = (self.kept(), self.0.next.subscribe());
        changed.mark_changed();
        let next = match last.map(|last| self.number(last)) {
            None => kept.next(),
            // Of another process: all that this one has told is new.
            Some(None) => 0,
            Some(Some(last)) => (last + 1).min(kept.next()),
        };
        drop(kept);
        Reader { journal: self.clone(), next, changed }
    }

    fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        if run == self.0.run { number.parse().ok().filter(|number| *number < u64::MAX) } else { None }
    }

    /// By the rules of server-sent events; JSON has no line breaks.
    fn frame(&self, number: u64, event: &Event) -> Bytes {
        let id = format!("{}-{number}", self.0.run);
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let data = serde_json::to_string(&Told { id: &id, time, event }).unwrap_or_default();
        format!("id: {id}\nevent: {}\ndata: {data}\n\n", event.kind.as_str()).into()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who reads: his place, and no more.
#[derive(Debug)]
pub struct Reader {
    journal: Journal,
    next: u64,
    changed: watch::Receiver<u64>,
}

impl Reader {
    /// The next event as it is sent, or after some time without one a comment.
    pub async fn next(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.kept() {
                return frame;
            }
            // The sender is in the journal.
            if let Err(_) | Ok(Err(_)) = timeout(KEEP_ALIVE, self.changed.changed()).await {
                return Bytes::from_static(b": nothing new\n\n");
            }
        }
    }

    fn kept(&mut self) -> Option<Bytes> {
        self.changed.mark_unchanged();
        let kept = self.journal.kept();
        let missed = kept.first.saturating_sub(self.next);
        if missed > 0 {
            self.next = kept.first;
            drop(kept);
            let event = Event {
                missed: Some(missed),
                ..Event::new(Kind::Missed, format!("{missed} events are no longer kept"))
            };
            // The number of the last one that is missing: from there on there are all.
            return Some(self.journal.frame(self.next - 1, &event));
        }
        let frame = kept.frames.get((self.next - kept.first) as usize).cloned()?;
        self.next += 1;
        Some(frame)
    }
}
