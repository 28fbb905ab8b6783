//! cargo run --release --example gateway -- --demo
//!
//! A complete gateway on the public API of `tower-balancer`. Where to look:
//!
//! | file | what it is |
//! |---|---|
//! | `main.rs` | the order of things: options, listeners, tasks, stop |
//! | `options.rs` | the command line |
//! | `log.rs` | events as text lines or JSON |
//! | `serve.rs` | the proxy's server: who comes in, graceful stop |
//! | `connection.rs` | a client's connection, and what is served on it |
//! | `limits.rs` | what a client may take |
//! | `patience.rs` | how long a client is waited for |
//! | `tls.rs` | TLS towards clients |
//! | `worth.rs` | clients that only reset, or say nothing |
//! | `admin.rs` | the operator's server |
//! | `demo.rs` | three backends to try it on |

#![expect(unreachable_pub, reason = "a binary: its modules are its own")]

mod admin;
mod connection;
mod demo;
mod limits;
mod log;
mod options;
mod patience;
mod serve;
mod tls;
mod worth;

use clap::Parser;
use connection::Connections;
use limits::Limits;
use mimalloc::MiMalloc;
use options::Options;
use serve::Door;
use std::{error::Error, future::pending, io, num::NonZero, process::ExitCode, sync::Arc, thread, time::Duration};
use tls::Tls;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tower_balancer::{
    BackendPool, HealthChecker, ReverseProxy,
    backend::Origin,
    http::{ForwardLayer, HttpProbe},
};
use tracing::{error, info};

/// Two dozen small pieces of memory come and go with each request: this one gives and takes them in half the instructions of
/// the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long requests in flight have to end after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let options = Options::parse();
    let pool = match BackendPool::new(options.backends()) {
        Ok(pool) => pool,
        Err(error) => return usage(&error.to_string()),
    };
    if let Err(problem) = options.validate(&pool) {
        return usage(&problem);
    }
    if options.check {
        print!("{}", options.describe(&pool));
        return ExitCode::SUCCESS;
    }

    let _flushed_at_the_end = log::init(options.log);
    let workers = options.workers.map_or_else(|| thread::available_parallelism().map_or(1, NonZero::get), usize::from);
    let result = runtime(workers).map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(run(options, pool, workers));
        // Where it failed, workers may still be waiting for requests.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("gateway: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime on one thread: this one has the signals, the checks and the operator's server, and each worker has its own.
fn runtime(threads_beside: usize) -> io::Result<Runtime> {
    // For resolving names there are as many again as tokio has.
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(512 + threads_beside).enable_all().build()
}

/// What the command line says cannot be.
fn usage(problem: &str) -> ExitCode {
    eprintln!("gateway: {problem}\n\nFor more information, try '--help'.");
    ExitCode::from(2)
}

async fn run(options: Options, pool: BackendPool<Origin>, workers: usize) -> Result<(), Box<dyn Error>> {
    // Everything that can fail comes before anything is told or served: no half-started gateway.
    let tls = match (&options.tls_certificate, &options.tls_key) {
        (Some(chain), Some(key)) => Some(Tls::load(chain, key)?),
        _ => None,
    };
    let listener = serve::bind(options.listen).await?;
    let admin_listener = match options.admin.address() {
        Some(address) => Some(serve::bind(address).await?),
        None => None,
    };
    let demo_listeners = if options.demo { demo::bind(&pool).await? } else { Vec::new() };
    let stopping = on_signals(tls.clone())?;

    for listener in demo_listeners {
        tokio::spawn(demo::serve(listener));
    }
    let urls: Vec<_> = pool.backends().iter().map(|backend| backend.id().to_string()).collect();
    info!("Load balancer running on port {}", listener.local_addr()?.port());
    info!("Backend servers: {}", urls.join(", "));
    if options.demo {
        info!("Try it: curl http://{}", listener.local_addr()?);
    }

    let checker = HealthChecker::new(&pool, HttpProbe::new().path(options.health_path))
        .interval(options.health_interval)
        .timeout(options.health_timeout);
    info!("Health checker started (checking every {})", humantime::format_duration(options.health_interval));
    let checks = tokio::spawn(checker.run());

    let strategy: Arc<str> = options.strategy.name().into();
    let limits = Limits::default();
    let forward = ForwardLayer::new().target_limit(limits.target_bytes);
    let connections = Connections::new(limits);
    let connections = match tls {
        Some(tls) => connections.tls(tls),
        None => connections,
    };
    let proxy = ReverseProxy::builder(&pool).strategy(options.strategy).key(options.key).forward(forward);
    // One socket for all, so that whoever has time takes the next connection; connections to the backends for each.
    let listener = listener.into_std()?;
    let (open, mut all_closed) = mpsc::channel(1);
    let mut working = JoinSet::new();
    for _ in 0..workers {
        let (connections, stop, open) = (connections.clone(), stopping.clone(), open.clone());
        let door = Door { listener: listener.try_clone()?, connections, stop, open };
        let (proxy, runtime) = (proxy.clone(), runtime(0)?);
        working.spawn_blocking(move || runtime.block_on(serve::until_closed(door, proxy, SHUTDOWN_GRACE)));
    }
    drop((listener, open));
    let served = async {
        tokio::select! {
            _ = all_closed.recv() => {
                info!("Stopping: waiting up to {SHUTDOWN_GRACE:?} for open connections; a second signal stops at once");
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
    let admin = async {
        match admin_listener {
            Some(listener) => admin::serve(listener, pool.clone(), strategy, stopping.clone()).await,
            None => pending().await,
        }
    };
    let ended = tokio::select! {
        result = served => result,
        result = admin => result.map_err(Into::into),
    };
    checker.stop();
    checks.abort();
    ended
}

/// Turns true at SIGTERM or ctrl-c. A second one ends the process at once. At SIGHUP the certificate is read again.
fn on_signals(tls: Option<Tls>) -> io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    match tls.as_ref().map(Tls::reload) {
                        None => info!("Nothing to reload: the options came from the command line"),
                        Some(Ok(())) => info!("Certificate reloaded"),
                        Some(Err(problem)) => error!("The certificate stays what it was: {problem}"),
                    }
                    continue;
                }
            }
            if stop.send_replace(true) {
                eprintln!("gateway: stopped at once by a second signal");
                std::process::exit(1);
            }
        }
    });
    Ok(stopping)
}
