//! What the system knows of this process. Where it does not say, nothing is told.

use super::{families, text::Text};
use nix::time::{ClockId, clock_gettime};
use std::{fs, time::SystemTime};

pub fn tell(started: SystemTime, text: &mut Text) {
    if let Ok(since) = started.duration_since(SystemTime::UNIX_EPOCH) {
        text.sample(families::START_TIME, &[], since.as_secs_f64());
    }
    if let Ok(used) = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID) {
        let seconds = used.tv_sec() as f64 + used.tv_nsec() as f64 / 1e9;
        text.sample(families::CPU, &[], seconds);
    }
    // Linux.
    if let Some(kilobytes) = line_of("/proc/self/status", "VmRSS:").and_then(|line| number(&line, 1)) {
        text.sample(families::RESIDENT, &[], kilobytes * 1024);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.sample(families::OPEN_FILES, &[], open.count());
    }
    if let Some(most) = line_of("/proc/self/limits", "Max open files").and_then(|line| number(&line, 3)) {
        text.sample(families::MOST_FILES, &[], most);
    }
}

fn line_of(path: &str, begins: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find(|line| line.starts_with(begins)).map(str::to_owned)
}

/// The word at that place, from 0.
fn number(line: &str, place: usize) -> Option<u64> {
    line.split_ascii_whitespace().nth(place)?.parse().ok()
}
