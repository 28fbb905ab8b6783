//! Reading the configuration again: at SIGHUP, and when the file has changed.

use super::notify::Notifier;
use crate::{
    config::{
        Config, Document, Problem, Source, Value,
        server::{Limits, Server},
    },
    events::{Event, Kind},
    serving::{Plan, tls::Tls},
};
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, warn};

/// How often somebody looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// A file that has just changed may be half written: it counts once it has been the same for so long.
const SETTLE: Duration = Duration::from_millis(100);
/// Looks at one that goes on changing, before it is left for later.
const LOOKS: usize = 10;

/// How often the configuration was read again, and what came of it.
#[derive(Debug, Default)]
pub struct Reloads {
    pub taken_up: AtomicU64,
    pub refused: AtomicU64,
    /// The last time it was.
    pub is_refused: AtomicBool,
}

/// Brings the configuration to the workers, again and again.
pub struct Reloader {
    /// With what the file said when it was last taken up, or refused.
    pub source: Source,
    pub plans: watch::Sender<Arc<Plan>>,
    /// The certificate is in files of its own.
    pub tls: Option<Tls>,
    pub notifier: Notifier,
    pub reloads: Arc<Reloads>,
}

impl Reloader {
    /// Goes on for as long as it is polled.
    pub async fn run(mut self, asked: Arc<Notify>) {
        let Some(path) = self.source.options.config.clone() else {
            loop {
                asked.notified().await;
                info!("Nothing to reload: the options came from the command line");
            }
        };
        // What cannot change any more is what it was at the start.
        let started = self.plans.borrow().config.server.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                () = asked.notified() => true,
                _ = looks.tick() => false,
            };
            let mut text = read(&path).await;
            if !is_asked {
                if text.as_deref().ok() == self.seen() {
                    continue;
                }
                // Who asks has written it. Otherwise somebody may be writing.
                let Some(settled) = settled(&path, text).await else { continue };
                text = settled;
            }
            match text {
                Ok(text) if !is_asked && self.seen() == Some(&text) => {}
                Ok(text) => {
                    self.source.document = Some(Document::new(&path, text));
                    self.take_up(&started);
                }
                // One that stays away is told of once.
                Err(problem) if is_asked || self.seen().is_some() => {
                    self.refuse(&Document::unreadable(&path, &problem));
                    self.source.document = None;
                }
                Err(_) => {}
            }
        }
    }

    fn seen(&self) -> Option<&str> {
        self.source.document.as_ref().map(Document::text)
    }

    /// Takes up what the file says, whole; where it is not right, nothing of it.
    fn take_up(&self, started: &Server) {
        self.notifier.reloading();
        match Config::of(&self.source) {
            Ok(mut config) => {
                for key in unchangeable(started, &config.server) {
                    warn!("server.{key} has changed: this takes a restart");
                }
                let before = Arc::clone(&self.plans.borrow());
                // A server that began with a token has one to the end: it may be listening where strangers are. And one that
                // was replaced does not come back.
                if started.token().is_some() && config.server.token().is_none() {
                    warn!("server.admin_token is gone: the last one holds until a restart");
                    config.server.admin_token = before.config.server.token().cloned().map(Value::from);
                }
                let plan = Plan::new(config, Some(&before));
                if let Some(Err(problem)) = self.tls.as_ref().map(Tls::reload) {
                    error!("The certificate stays what it was: {problem}");
                }
                let (pools, routes) = (plan.pools.len(), plan.routes.len());
                let reloaded = format!("Configuration reloaded: pools {pools}, routes {routes}");
                info!("{reloaded}");
                plan.journal.tell(Event::new(Kind::Reload, reloaded));
                self.plans.send_replace(Arc::new(plan));
                self.reloads.taken_up.fetch_add(1, Ordering::Relaxed);
                self.reloads.is_refused.store(false, Ordering::Relaxed);
            }
            Err(problem) => self.refuse(&problem),
        }
        self.notifier.ready();
    }

    fn refuse(&self, problem: &Problem) {
        self.reloads.refused.fetch_add(1, Ordering::Relaxed);
        self.reloads.is_refused.store(true, Ordering::Relaxed);
        error!("Configuration not reloaded: {problem}");
        let event = Event::new(Kind::ReloadRefused, "Configuration not reloaded").reason(&problem.to_string());
        self.plans.borrow().journal.tell(event);
    }
}

async fn read(path: &Path) -> io::Result<String> {
    tokio::fs::read_to_string(path).await
}

/// What the file says once nobody writes it any more, `text` being what it said just now; `None` where that takes long.
async fn settled(path: &Path, mut text: io::Result<String>) -> Option<io::Result<String>> {
    for _ in 0..LOOKS {
        sleep(SETTLE).await;
        let again = read(path).await;
        if again.as_ref().ok() == text.as_ref().ok() {
            return Some(again);
        }
        text = again;
    }
    None
}

/// The keys of `[server]` that have changed and cannot, while the process runs.
fn unchangeable(started: &Server, wanted: &Server) -> Vec<&'static str> {
    let limits = |limits: &Limits| Limits { request_timeout: wanted.limits.request_timeout.clone(), ..limits.clone() };
    let changed = [
        ("listen", started.listen != wanted.listen),
        ("admin", started.admin != wanted.admin),
        ("admin_host", started.admin_host != wanted.admin_host),
        ("workers", started.workers != wanted.workers),
        ("log", started.log != wanted.log),
        ("otlp", started.otlp != wanted.otlp),
        ("tls", started.tls != wanted.tls),
        ("reuse_port", started.reuse_port != wanted.reuse_port),
        ("limits", limits(&started.limits) != limits(&wanted.limits)),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
