//! The workers: a thread, a runtime, and connections to the backends for each. They share the pools and the sockets.

use super::{
    connection::Connections,
    plan::Plan,
    worker::{Door, until_closed},
};
use std::{error::Error, io, net::TcpListener, sync::Arc};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    task::JoinSet,
};

/// A runtime on one thread: the process has one for the signals, the checks and the operator's server, and each worker one.
pub fn runtime(threads_beside: usize) -> io::Result<Runtime> {
    // For resolving names there are as many again as tokio has.
    Builder::new_current_thread().max_blocking_threads(512 + threads_beside).enable_all().build()
}

pub struct Workers {
    working: JoinSet<io::Result<()>>,
    all_closed: mpsc::Receiver<()>,
}

impl Workers {
    /// So many, who serve what comes in by `listeners` until `stop` turns true. Each socket is one for all, so that whoever
    /// has time takes the next connection.
    pub fn start(
        number: usize,
        connections: &Arc<Connections>,
        listeners: Vec<TcpListener>,
        stop: &watch::Receiver<bool>,
        plan: &watch::Receiver<Arc<Plan>>,
    ) -> io::Result<Self> {
        let (open, all_closed) = mpsc::channel(1);
        let mut working = JoinSet::new();
        for _ in 0..number {
            let listeners = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
            let (stop, open, connections) = (stop.clone(), open.clone(), Arc::clone(connections));
            let (door, plan, runtime) = (Door { listeners, connections, stop, open }, plan.clone(), runtime(0)?);
            working.spawn_blocking(move || {
                let ended = runtime.block_on(until_closed(door, plan));
                // Names that are still being looked up are nobody's any more.
                runtime.shutdown_background();
                ended
            });
        }
        Ok(Self { working, all_closed })
    }

    /// Waits until none accepts connections any more. One that ends before has an error.
    pub async fn closed(&mut self) -> Result<(), Box<dyn Error>> {
        tokio::select! {
            _ = self.all_closed.recv() => {}
            Some(ended) = self.working.join_next() => ended??,
        }
        Ok(())
    }

    /// Waits until all have ended.
    pub async fn ended(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(ended) = self.working.join_next().await {
            ended??;
        }
        Ok(())
    }
}
