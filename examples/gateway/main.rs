//! cargo run --release --example gateway -- --demo
//!
//! A complete gateway on the public API of `tower-balancer`. Where to look:
//!
//! | file | what it is |
//! |---|---|
//! | `main.rs` | the order of things: configuration, sockets, tasks, stop |
//! | `options.rs` | the command line |
//! | `config/` | the file, `gateway.toml` with every key: tables, rules, `--check` |
//! | `serving/` | pools and workers: from a connection to a pool's proxy |
//! | `lifecycle/` | sockets, signals, reloads, the service manager |
//! | `log.rs` | events as text lines or JSON |
//! | `admin.rs` | the operator's server |
//! | `demo.rs` | three backends to try it on |

#![expect(unreachable_pub, reason = "a binary: its modules are its own")]

mod admin;
mod config;
mod demo;
mod lifecycle;
mod log;
mod options;
mod serving;

use clap::Parser;
use config::{Config, DEFAULT_POOL, Source};
use lifecycle::{
    listen::{Inherited, bind},
    notify::Notifier,
    reload::Reloader,
    signals::Asked,
};
use mimalloc::MiMalloc;
use options::Options;
use serving::{Door, Plan};
use std::{error::Error, future::pending, io, net::TcpListener, num::NonZero, process::ExitCode, sync::Arc, thread};
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tracing::info;

/// Two dozen small pieces of memory come and go with each request: this one gives and takes them in half the instructions of
/// the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    let is_check = options.check;
    let (config, source) = match Config::load(options) {
        Ok(loaded) => loaded,
        Err(problem) => {
            eprintln!("gateway: {problem}\n\nFor more information, try '--help'.");
            return ExitCode::from(2);
        }
    };
    if is_check {
        print!("{config}");
        return ExitCode::SUCCESS;
    }
    match start(config, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("gateway: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config, source: Source) -> Result<(), Box<dyn Error>> {
    // While there are no threads: it changes the environment.
    let inherited = Inherited::take()?;
    let _flushed_at_the_end = log::init(*config.server.log);
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let workers = config.server.workers.as_ref().map_or_else(cores, |workers| workers.0.into());
    let runtime = runtime(workers)?;
    let result = runtime.block_on(run(config, source, inherited, workers));
    // Where it failed, workers may still be waiting for requests.
    runtime.shutdown_background();
    result
}

/// A runtime on one thread: this one has the signals, the checks and the operator's server, and each worker has its own.
fn runtime(threads_beside: usize) -> io::Result<Runtime> {
    // For resolving names there are as many again as tokio has.
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(512 + threads_beside).enable_all().build()
}

async fn run(config: Config, source: Source, mut inherited: Inherited, workers: usize) -> Result<(), Box<dyn Error>> {
    // Everything that can fail comes before anything is told or served: no half-started gateway. The socket of the clients
    // comes last, for another gateway on the same port gets no connections from then on.
    let server = &config.server;
    let shared = *server.reuse_port;
    let admin = server.admin.address().map(|address| bind(address, shared, &mut inherited)).transpose()?;
    let admin = admin.map(tokio::net::TcpListener::from_std).transpose()?;
    let demo = if source.options.demo { demo::bind(&config.pools[DEFAULT_POOL]).await? } else { Vec::new() };
    let asked = Asked::by_signals()?;
    let listeners = server.listen.iter().map(|address| bind(**address, shared, &mut inherited));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    inherited.none_left()?;
    let connections = server.limits.max_connections.map(|most| Arc::new(Semaphore::new(most.get() as usize)));

    demo.into_iter().for_each(|listener| _ = tokio::spawn(demo::serve(listener)));
    tell(&config, &listeners, source.options.demo)?;
    let (plans, plan) = watch::channel(Arc::new(Plan::new(config, None)));

    // Each socket is one for all, so that whoever has time takes the next connection.
    let (open, mut all_closed) = mpsc::channel(1);
    let mut working = JoinSet::new();
    for _ in 0..workers {
        let listeners = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        let (stop, open, connections) = (asked.stop.clone(), open.clone(), connections.clone());
        let (door, plan, runtime) = (Door { listeners, connections, stop, open }, plan.clone(), runtime(0)?);
        working.spawn_blocking(move || runtime.block_on(serving::until_closed(door, plan)));
    }
    drop((listeners, open));
    let notifier = Notifier::from_env();
    notifier.ready();

    let served = async {
        tokio::select! {
            _ = all_closed.recv() => {
                notifier.stopping();
                let grace = *plan.borrow().config.server.shutdown_grace;
                info!("Stopping: waiting up to {grace:?} for open connections; a second signal stops at once");
            }
            // None ends before: something is wrong.
            Some(ended) = working.join_next() => ended??,
        }
        while let Some(ended) = working.join_next().await {
            ended??;
        }
        info!("Stopped");
        Ok(())
    };
    let administered = async {
        match admin {
            Some(listener) => admin::serve(listener, plan.clone(), asked.stop.clone()).await,
            None => pending().await,
        }
    };
    let reloader = Reloader { source, plans, notifier: notifier.clone() };
    tokio::select! {
        result = served => result,
        result = administered => result.map_err(Into::into),
        () = reloader.run(Arc::clone(&asked.reload)) => Ok(()),
    }
}

/// Says what is served where.
fn tell(config: &Config, listeners: &[TcpListener], demo: bool) -> io::Result<()> {
    for listener in listeners {
        info!("Load balancer running on port {}", listener.local_addr()?.port());
    }
    for (name, pool) in &config.pools {
        let of = if name == DEFAULT_POOL { String::new() } else { format!(" of {name}") };
        let urls: Vec<_> = pool.backends.iter().map(|backend| backend.url.to_string()).collect();
        info!("Backend servers{of}: {}", urls.join(", "));
    }
    if demo && let Some(listener) = listeners.first() {
        info!("Try it: curl http://{}", listener.local_addr()?);
    }
    Ok(())
}
