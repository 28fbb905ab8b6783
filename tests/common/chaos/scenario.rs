//! What goes wrong, and when.

use super::{Backend, server::Mode};
use http::Method;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// A program takes a moment to start. Without it hardly a request would meet a restart.
const STARTING: Duration = Duration::from_millis(400);

/// What happens to the backends while the load goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// One is killed as by `kill -9`, and started again at the end.
    Killed,
    /// One is stopped as by SIGSTOP: the kernel accepts for it, and nobody answers.
    Stopped,
    /// One answers 503 to everything.
    Busy,
    /// One answers 503 to everything but health checks.
    Lying,
    /// One resets the connection in the middle of the head.
    Broken,
    /// One accepts and never answers. What it holds at the end it goes on holding.
    Silent,
    /// One takes ten times as long.
    Slow,
    /// All are restarted, one after the other.
    Rolling,
    /// One is there for a second and gone for a second.
    Flapping,
    /// All of it at once, with POSTs, on backends whose health checks pass as often as possible.
    Posts,
}

impl Scenario {
    pub const ALL: [Self; 10] = [
        Self::Killed,
        Self::Stopped,
        Self::Busy,
        Self::Lying,
        Self::Broken,
        Self::Silent,
        Self::Slow,
        Self::Rolling,
        Self::Flapping,
        Self::Posts,
    ];

    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    pub(super) fn method(self) -> Method {
        if self == Self::Posts { Method::POST } else { Method::GET }
    }

    /// Whether it is about a backend that is in again and again: only with quick checks is it.
    pub fn wants_quick_checks(self) -> bool {
        matches!(self, Self::Flapping | Self::Posts)
    }

    /// Takes `length`.
    pub(super) async fn run(self, backends: &mut [Backend], length: Duration) {
        let end = Instant::now() + length;
        let one = &mut backends[1];
        let mode = match self {
            Self::Killed => {
                one.kill();
                sleep_until(end).await;
                return one.restart();
            }
            Self::Stopped => {
                one.signal("-STOP");
                sleep_until(end).await;
                return one.signal("-CONT");
            }
            Self::Rolling => {
                let each = length / backends.len() as u32;
                for backend in backends {
                    backend.kill();
                    sleep(STARTING).await;
                    backend.restart();
                    sleep(each.saturating_sub(STARTING)).await;
                }
                return;
            }
            Self::Flapping => {
                while Instant::now() < end {
                    one.kill();
                    sleep(Duration::from_secs(1)).await;
                    one.restart();
                    sleep(Duration::from_secs(1)).await;
                }
                return;
            }
            Self::Posts => return everything(backends, end).await,
            Self::Lying => {
                one.set_unnoticed(Mode::Busy);
                sleep_until(end).await;
                return one.set(Mode::Well);
            }
            Self::Busy => Mode::Busy,
            Self::Broken => Mode::Broken,
            Self::Silent => Mode::Silent,
            Self::Slow => Mode::Slow,
        };
        one.set(mode);
        sleep_until(end).await;
        one.set(Mode::Well);
    }
}

/// All the ways to lose a request after it was sent, again and again, with time to come back in between.
async fn everything(backends: &mut [Backend], end: Instant) {
    const WHILE: Duration = Duration::from_millis(250);
    const BETWEEN: Duration = Duration::from_millis(500);
    let [one, another, ..] = backends else { panic!("two backends at least") };
    for mode in [Mode::Broken, Mode::Busy, Mode::Silent, Mode::Slow].into_iter().cycle() {
        one.set_unnoticed(mode);
        // Requests that wait in a stopped process are seen by it later.
        another.signal("-STOP");
        sleep(WHILE).await;
        another.signal("-CONT");
        sleep(WHILE / 4).await;
        another.restart();
        // What a silent one holds it would hold for ever.
        if mode == Mode::Silent {
            one.restart()
        } else {
            one.set(Mode::Well)
        }
        if Instant::now() + BETWEEN >= end {
            return sleep_until(end).await;
        }
        sleep(BETWEEN).await;
    }
}
