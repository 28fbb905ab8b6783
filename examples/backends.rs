//! cargo run --features etcd --example backends -- --help
//!
//! Who is behind a gateway that finds its backends in an etcd: adds, drains, lists and removes them.

use clap::{Parser, Subcommand};
use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use std::error::Error;
use tower_balancer::{
    backend::{Origin, Weight},
    discover::Entry,
};

#[derive(Parser)]
struct Options {
    /// An endpoint of etcd; may be repeated
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2379")]
    etcd: Vec<String>,

    /// What the keys of the backends begin with
    #[arg(long, default_value = "/backends/")]
    prefix: String,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Puts a backend in, or changes it
    Add {
        url: Origin,
        /// Its share of the traffic
        #[arg(long, default_value_t = 1.0)]
        weight: f64,
        #[arg(long)]
        zone: Option<String>,
        /// Its tier: 0 comes first
        #[arg(long, default_value_t = 0)]
        priority: u32,
    },
    /// Gives a backend no new requests
    Drain { url: Origin },
    /// Gives it new requests again
    Undrain { url: Origin },
    /// Shows who is there
    List,
    /// Takes a backend out; one that registers itself is back when its lease was lost
    Remove { url: Origin },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Options { etcd, prefix, action } = Options::parse();
    let mut client = Client::connect(etcd, None).await?;
    let key = |url: &Origin| format!("{prefix}{url}");
    match action {
        Action::Add { url, weight, zone, priority } => {
            let entry = Entry::new(url.to_string()).weight(Weight::new(weight)?).priority(priority);
            let entry = match zone {
                Some(zone) => entry.zone(zone),
                None => entry,
            };
            client.put(key(&url), serde_json::to_vec(&entry)?, None).await?;
        }
        Action::Drain { url } => set_draining(&mut client, key(&url), true).await?,
        Action::Undrain { url } => set_draining(&mut client, key(&url), false).await?,
        Action::List => {
            let found = client.get(prefix, Some(GetOptions::new().with_prefix())).await?;
            for pair in found.kvs() {
                let lease = if pair.lease() == 0 { "for good" } else { "under a lease" };
                match serde_json::from_slice::<Entry>(pair.value()) {
                    Ok(entry) => {
                        let state = if entry.is_draining() { "draining" } else { "active" };
                        println!("{}  {state}, {lease}: {}", entry.url(), serde_json::to_string(&entry)?);
                    }
                    Err(error) => println!("{}  is no backend: {error}", pair.key_str()?),
                }
            }
        }
        Action::Remove { url } => {
            if client.delete(key(&url), None).await?.deleted() == 0 {
                return Err(format!("there is no {}", key(&url)).into());
            }
        }
    }
    Ok(())
}

/// Changes the state and nothing else: not what somebody has changed meanwhile, nor the lease.
async fn set_draining(client: &mut Client, key: String, is_draining: bool) -> Result<(), Box<dyn Error>> {
    loop {
        let found = client.get(&*key, None).await?;
        let pair = found.kvs().first().ok_or(format!("there is no {key}"))?;
        let entry = serde_json::from_slice::<Entry>(pair.value())?.draining(is_draining);
        let put = PutOptions::new().with_ignore_lease();
        let changed = Txn::new()
            .when([Compare::mod_revision(&*key, CompareOp::Equal, pair.mod_revision())])
            .and_then([TxnOp::put(&*key, serde_json::to_vec(&entry)?, Some(put))]);
        if client.txn(changed).await?.succeeded() {
            return Ok(());
        }
    }
}
