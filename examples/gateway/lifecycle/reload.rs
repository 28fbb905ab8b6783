//! Reading the configuration again: at SIGHUP, and when the file has changed.

use super::notify::Notifier;
use crate::{
    config::{
        Config, Document,
        server::{Limits, Server},
    },
    options::Options,
    serving::Plan,
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

/// How often somebody looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// A file that has just changed may be half written: it counts once it has been the same for so long.
const SETTLE: Duration = Duration::from_millis(100);
const LOOKS: usize = 50;

/// Brings the configuration to the workers, again and again.
pub struct Reloader {
    pub options: Options,
    pub plans: watch::Sender<Arc<Plan>>,
    pub notifier: Notifier,
}

impl Reloader {
    /// Goes on for as long as it is polled.
    pub async fn run(self, asked: Arc<Notify>) {
        let Some(path) = self.options.config.clone() else {
            loop {
                asked.notified().await;
                info!("Nothing to reload: the options came from the command line");
            }
        };
        // What cannot change any more is what it was at the start.
        let started = self.plans.borrow().config.server.clone();
        let mut seen = read(&path).await.ok();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                () = asked.notified() => true,
                _ = looks.tick() => false,
            };
            let mut text = read(&path).await;
            if !is_asked {
                if text.as_ref().ok() == seen.as_ref() {
                    continue;
                }
                // Who asks has written it. Otherwise somebody may be writing.
                text = settled(&path, text).await;
            }
            match text {
                Ok(text) if !is_asked && seen.as_ref() == Some(&text) => {}
                Ok(text) => {
                    self.take_up(&Document::new(&path, text.clone()), &started);
                    seen = Some(text);
                }
                // One that stays away is told of once.
                Err(problem) if is_asked || seen.is_some() => {
                    error!("Configuration not reloaded: {}", Document::unreadable(&path, &problem));
                    seen = None;
                }
                Err(_) => {}
            }
        }
    }

    /// Takes up what the file says, whole; where it is not right, nothing of it.
    fn take_up(&self, document: &Document, started: &Server) {
        self.notifier.reloading();
        match Config::of(&self.options, Some(document)) {
            Ok(config) => {
                for key in unchangeable(started, &config.server) {
                    warn!("server.{key} has changed: this takes a restart");
                }
                let before = Arc::clone(&self.plans.borrow());
                let plan = Plan::new(config, Some(&before));
                info!("Configuration reloaded: {} pools, {} routes", plan.pools.len(), plan.routes.len());
                self.plans.send_replace(Arc::new(plan));
            }
            Err(problem) => error!("Configuration not reloaded: {problem}"),
        }
        self.notifier.ready();
    }
}

async fn read(path: &Path) -> std::io::Result<String> {
    tokio::fs::read_to_string(path).await
}

/// What the file says once nobody writes it any more, `text` being what it said just now.
async fn settled(path: &Path, mut text: std::io::Result<String>) -> std::io::Result<String> {
    for _ in 0..LOOKS {
        sleep(SETTLE).await;
        let again = read(path).await;
        let is_settled = again.as_ref().ok() == text.as_ref().ok();
        text = again;
        if is_settled {
            break;
        }
    }
    text
}

/// The keys of `[server]` that have changed and cannot, while the process runs.
fn unchangeable(started: &Server, wanted: &Server) -> Vec<&'static str> {
    let limits = |limits: &Limits| Limits { request_timeout: wanted.limits.request_timeout.clone(), ..limits.clone() };
    let changed = [
        ("listen", started.listen != wanted.listen),
        ("admin", started.admin != wanted.admin),
        ("workers", started.workers != wanted.workers),
        ("log", started.log != wanted.log),
        ("reuse_port", started.reuse_port != wanted.reuse_port),
        ("limits", limits(&started.limits) != limits(&wanted.limits)),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
