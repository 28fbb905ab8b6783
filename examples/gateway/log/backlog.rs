//! Lines that wait to be written, as far as there is room for them.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Bytes that may wait: clients choose how long a path is, so a number of lines alone is no bound.
const ROOM: usize = 8 * 1024 * 1024;

/// What a line takes at the least, so that their number has a bound as well.
const LEAST: usize = 256;

/// Hands lines to a thread that writes them. Who hands one over never waits: beyond the room it is dropped, and counted.
#[derive(Clone, Debug)]
pub struct Backlog {
    lines: NonBlocking,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

/// The lines that were dropped.
#[derive(Clone, Debug)]
pub struct Lost(Arc<AtomicUsize>);

impl Lost {
    pub fn lines(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Backlog {
    /// Lines are written to `out` until what is returned is dropped.
    pub fn to(out: impl Write + Send + 'static) -> (Self, WorkerGuard) {
        let waiting = Arc::<AtomicUsize>::default();
        let out = Written { out, waiting: Arc::clone(&waiting) };
        // And one more for the word that ends it: where that found no place, the end would wait for whoever reads.
        let (lines, guard) = NonBlockingBuilder::default().buffered_lines_limit(ROOM / LEAST + 1).finish(out);
        (Self { lines, waiting, dropped: Arc::default() }, guard)
    }

    pub fn lost(&self) -> Lost {
        Lost(Arc::clone(&self.dropped))
    }
}

fn size(line: &[u8]) -> usize {
    line.len().max(LEAST)
}

impl Write for Backlog {
    /// A whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = size(line);
        if self.waiting.fetch_add(size, Ordering::Relaxed) + size > ROOM {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        self.lines.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where lines are written, which makes room for others.
struct Written<W> {
    out: W,
    waiting: Arc<AtomicUsize>,
}

impl<W: Write> Write for Written<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    /// A line, as it was handed over; one that cannot be written waits no longer either.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let result = self.out.write_all(line);
        self.waiting.fetch_sub(size(line), Ordering::Relaxed);
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
