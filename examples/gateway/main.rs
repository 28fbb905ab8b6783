//! cargo run --release --example gateway -- --demo
//!
//! A complete gateway on the public API of `tower-balancer`. Where to look:
//!
//! | file | what it is |
//! |---|---|
//! | `main.rs` | the order of things: options, listeners, tasks, stop |
//! | `options.rs` | the command line |
//! | `log.rs` | events as text lines or JSON |
//! | `serve.rs` | the proxy's server: connections, graceful stop |
//! | `admin.rs` | the operator's server |
//! | `demo.rs` | three backends to try it on |

#![expect(unreachable_pub, reason = "a binary: its modules are its own")]

mod admin;
mod demo;
mod log;
mod options;
mod serve;

use clap::Parser;
use options::Options;
use std::{error::Error, future::pending, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tower_balancer::{BackendPool, HealthChecker, ReverseProxy, backend::Origin, http::HttpProbe};
use tracing::info;

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
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = options.workers {
        runtime.worker_threads(workers.into());
    }
    let result =
        runtime.enable_all().build().map_err(Into::into).and_then(|runtime| runtime.block_on(run(options, pool)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("gateway: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line says cannot be.
fn usage(problem: &str) -> ExitCode {
    eprintln!("gateway: {problem}\n\nFor more information, try '--help'.");
    ExitCode::from(2)
}

async fn run(options: Options, pool: BackendPool<Origin>) -> Result<(), Box<dyn Error>> {
    // Everything that can fail comes before anything is told or served: no half-started gateway.
    let listener = serve::bind(options.listen).await?;
    let admin_listener = match options.admin.address() {
        Some(address) => Some(serve::bind(address).await?),
        None => None,
    };
    let demo_listeners = if options.demo { demo::bind(&pool).await? } else { Vec::new() };
    let stopping = on_signals()?;

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
    let proxy = ReverseProxy::builder(&pool).strategy(options.strategy).key(options.key).build();
    let admin = async {
        match admin_listener {
            Some(listener) => admin::serve(listener, pool.clone(), strategy, stopping.clone()).await,
            None => pending().await,
        }
    };
    let mut told_to_stop = stopping.clone();
    let stop = async move { _ = told_to_stop.wait_for(|stopping| *stopping).await };
    let served = tokio::select! {
        () = serve::until(stop, listener, proxy, SHUTDOWN_GRACE) => Ok(()),
        result = admin => result,
    };
    checker.stop();
    checks.abort();
    served.map_err(Into::into)
}

/// Turns true at SIGTERM or ctrl-c. A second one ends the process at once. SIGHUP is not yet for anything.
fn on_signals() -> std::io::Result<watch::Receiver<bool>> {
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
                    info!("Nothing to reload: the options came from the command line");
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
