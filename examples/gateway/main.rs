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
//! | `metrics/` | numbers for Prometheus |
//! | `admin/` | the operator's server: an API and a dashboard |
//! | `events/` | what has happened lately |
//! | `demo.rs` | three backends to try it on |

#![expect(unreachable_pub, reason = "a binary: its modules are its own")]

mod admin;
mod config;
mod demo;
mod events;
mod lifecycle;
mod log;
mod metrics;
mod options;
mod serving;

use clap::Parser;
use config::{Config, DEFAULT_POOL, Source, server};
use lifecycle::{
    listen::{Inherited, bind},
    notify::Notifier,
    reload::{Reloader, Reloads},
    signals::Asked,
};
use log::Lost;
use metrics::Metrics;
use mimalloc::MiMalloc;
use options::Options;
use serving::{Connections, Plan, Workers};
use std::{
    error::Error, future::pending, io, net::TcpListener, num::NonZero, process::ExitCode, sync::Arc, thread,
    time::SystemTime,
};
use tokio::sync::watch;
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
    let started = SystemTime::now();
    let (_flushed_at_the_end, lost_lines) = log::init(*config.server.log);
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let workers = config.server.workers.as_ref().map_or_else(cores, |workers| workers.0.into());
    let runtime = serving::runtime(workers)?;
    let result = runtime.block_on(run(config, source, inherited, workers, (started, lost_lines)));
    // Where it failed, workers may still be waiting for requests.
    runtime.shutdown_background();
    result
}

async fn run(
    config: Config,
    source: Source,
    mut inherited: Inherited,
    workers: usize,
    (started, lost_lines): (SystemTime, Lost),
) -> Result<(), Box<dyn Error>> {
    // Everything that can fail comes before anything is told or served: no half-started gateway. The sockets of the clients
    // come last, for another gateway on the same port gets no connections from then on.
    let server = &config.server;
    let shared = *server.reuse_port;
    let admin = server.admin.address().map(|address| bind(address, shared, &mut inherited)).transpose()?;
    let admin = admin.map(tokio::net::TcpListener::from_std).transpose()?;
    let demo = if source.options.demo { demo::bind(&config.pools[DEFAULT_POOL]).await? } else { Vec::new() };
    let asked = Asked::by_signals()?;
    let tls = server.tls.as_ref().map(server::Tls::load).transpose()?;
    let listeners = server.listen.iter().map(|address| bind(**address, shared, &mut inherited));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    inherited.none_left()?;

    demo.into_iter().for_each(|listener| _ = tokio::spawn(demo::serve(listener)));
    tell(&config, &listeners, source.options.demo)?;
    let (plans, plan) = watch::channel(Arc::new(Plan::new(config, None)));
    let connections = Connections::new(plan.borrow().config.server.limits.of_clients()).tls(tls.clone());
    let mut working = Workers::start(workers, &connections, listeners, &asked.stop, &plan)?;
    let reloads = Arc::<Reloads>::default();
    let metrics = Metrics { started, plans: plan.clone(), connections, reloads: Arc::clone(&reloads), lost_lines };
    let notifier = Notifier::from_env();
    notifier.ready();

    let served = async {
        working.closed().await?;
        notifier.stopping();
        let grace = *plan.borrow().config.server.shutdown_grace;
        info!("Stopping: waiting up to {grace:?} for open connections; a second signal stops at once");
        working.ended().await?;
        info!("Stopped");
        Ok(())
    };
    let administered = async {
        match admin {
            Some(listener) => admin::serve(listener, plan.clone(), asked.stop.clone(), metrics).await,
            None => pending().await,
        }
    };
    let reloader = Reloader { source, plans, tls, notifier: notifier.clone(), reloads };
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
