//! Signals: SIGTERM and ctrl-c to stop, SIGHUP to read the configuration again.

use std::{io, sync::Arc};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

/// What has been asked for from outside.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Turns true where it is to stop.
    pub stop: watch::Receiver<bool>,
    /// Told where it is to read its configuration again.
    pub reload: Arc<Notify>,
}

impl Asked {
    /// Listens from now on. A second signal to stop ends the process at once.
    pub fn by_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (stop, stopping) = watch::channel(false);
        let reload = Arc::new(Notify::new());
        let asked = Self { stop: stopping, reload: Arc::clone(&reload) };
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {
                        reload.notify_one();
                        continue;
                    }
                }
                if stop.send_replace(true) {
                    eprintln!("gateway: stopped at once by a second signal");
                    std::process::exit(1);
                }
            }
        });
        Ok(asked)
    }
}
