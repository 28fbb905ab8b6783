//! Three backends, a proxy before them, a load, and what goes wrong.

use super::{
    Backend, Front, Report, Scenario, free_port,
    load::{Answer, Load},
};
use std::{net::SocketAddr, time::Duration};
use tokio::task::JoinHandle;

/// How one scenario is run.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub scenario: Scenario,
    /// The arguments with which this program is a backend.
    pub entry: &'static [&'static str],
    /// The load before it, during it, and after it.
    pub before: Duration,
    pub during: Duration,
    pub after: Duration,
}

/// A trial whose requests have all been due, but need not have been answered. Dropping it ends all its processes.
#[derive(Debug)]
pub struct Offered {
    trial: Trial,
    backends: Vec<Backend>,
    load: JoinHandle<Vec<Answer>>,
    _front: Front,
}

impl Trial {
    /// 200 requests a second over 8 connections, with `start` before the backends.
    pub async fn offer(self, start: impl FnOnce(SocketAddr, &[Backend]) -> Front) -> Offered {
        let mut backends: Vec<_> = (0..3).map(|_| Backend::start(free_port(), self.entry)).collect();
        let front = start(SocketAddr::from(([127, 0, 0, 1], free_port())), &backends);
        let load = Load {
            target: front.address,
            method: self.scenario.method(),
            per_second: 200,
            connections: 8,
            length: self.before + self.during + self.after,
        };
        let load = tokio::spawn(load.run());
        tokio::time::sleep(self.before).await;
        self.scenario.run(&mut backends, self.during).await;
        tokio::time::sleep(self.after).await;
        Offered { trial: self, backends, load, _front: front }
    }
}

impl Offered {
    /// Waits for the last answer.
    pub async fn report(mut self) -> Report {
        let answers = (&mut self.load).await.unwrap();
        let seen = self.backends.drain(..).flat_map(Backend::end).collect();
        let Trial { scenario, before, during, .. } = self.trial;
        Report { scenario, answers, seen, disturbed: before..before + during }
    }
}
