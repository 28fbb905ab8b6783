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
//! | `otlp/` | spans for a collector |
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
mod otlp;
mod serving;

use clap::Parser;
use config::{Config, DEFAULT_POOL, Source, server};
use lifecycle::{
    listen::{Inherited, bind},
    notify::Notifier,
    reload::{Reloader, Reloads},
    signals::Asked,
};
use metrics::{Metrics, Watched};
use mimalloc::MiMalloc;
use options::Options;
use serving::{Connections, Plan, Workers};
use std::{
    error::Error,
    future::pending,
    io,
    net::TcpListener,
    num::NonZero,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::info;

/// Two dozen small pieces of memory come and go with each request: this one gives and takes them in half the instructions of
/// the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A source that answers at all does so within less; one that does not may take as long as it likes.
const FIRST_WORDS: Duration = Duration::from_secs(2);

/// An etcd that is there takes a word back within less.
#[cfg(feature = "etcd")]
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the last spans may take to their collector.
const FLUSH: Duration = Duration::from_secs(2);

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
    let collector = config.server.otlp.as_ref().map(|collector| &collector.0);
    let counts = Arc::<otlp::Counts>::default();
    let (spans, exporter) = collector.map(|collector| otlp::export_to(collector, Arc::clone(&counts))).unzip();
    let (_flushed_at_the_end, lost_lines) = log::init(*config.server.log, spans)?;
    let watched = Watched { started, lost_lines, spans: counts };
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let workers = config.server.workers.as_ref().map_or_else(cores, |workers| workers.0.into());
    let runtime = serving::runtime(workers)?;
    let result = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel::<()>();
        let exporting = exporter.map(|exporter| tokio::spawn(exporter.run(async { _ = stopped.await })));
        let result = run(config, source, inherited, workers, watched).await;
        drop(stop);
        if let Some(exporting) = exporting {
            _ = timeout(FLUSH, exporting).await;
        }
        result
    });
    // Where it failed, workers may still be waiting for requests.
    runtime.shutdown_background();
    result
}

async fn run(
    config: Config,
    source: Source,
    mut inherited: Inherited,
    workers: usize,
    watched: Watched,
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
    // Clients wait in the queues of the sockets meanwhile: a pool that is empty has nothing for them but 503.
    let first = Arc::clone(&plan.borrow());
    first.first_words(FIRST_WORDS).await;
    let connections = Connections::new(plan.borrow().config.server.limits.of_clients(), tls.clone());
    let mut working = Workers::start(workers, &connections, listeners, &asked.stop, &plan)?;
    let reloads = Arc::<Reloads>::default();
    let metrics = Metrics { watched, plans: plan.clone(), connections, reloads: Arc::clone(&reloads) };
    let notifier = Notifier::from_env();
    notifier.ready();

    let served = async {
        working.closed().await?;
        notifier.stopping();
        let grace = *plan.borrow().config.server.shutdown_grace;
        info!("Stopping: waiting up to {grace:?} for open connections; a second signal stops at once");
        working.ended().await?;
        #[cfg(feature = "etcd")]
        {
            let last = Arc::clone(&plan.borrow());
            last.leave(LAST_WORDS).await;
        }
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
        let from = pool.discover.as_ref().map(ToString::to_string);
        info!("Backend servers{of}: {}", urls.into_iter().chain(from).collect::<Vec<_>>().join(", "));
    }
    if demo && let Some(listener) = listeners.first() {
        info!("Try it: curl http://{}", listener.local_addr()?);
    }
    Ok(())
}
