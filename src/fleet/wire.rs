use super::{ballot::Ballot, fleets::Fleet, orders::Order};
use crate::{discover::causal, error::BoxError};
use etcd_client::{Client, EventType, GetOptions, PutOptions, WatchOptions};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, interval, sleep_until},
};

/// What etcd has to say.
#[derive(Debug)]
pub(super) enum News {
    All {
        ballots: BTreeMap<Arc<str>, Ballot>,
        orders: BTreeMap<Arc<str>, Order>,
    },
    Ballot(Arc<str>, Option<Ballot>),
    Order(Arc<str>, Option<Order>),
    /// The lease was renewed.
    Alive,
}

/// What changes within this time is written once.
const GATHER: Duration = Duration::from_millis(50);

/// Keeps this gateway's ballot in etcd and tells of all that stands there, until that fails. `lease` is left with the last
/// lease, to be given back.
pub(super) async fn keep<T>(
    fleet: &Fleet<T>,
    turn: usize,
    lease: &mut Option<i64>,
    news: &UnboundedSender<News>,
) -> Result<Infallible, BoxError> {
    let config = &fleet.config;
    let (ballots, orders) = (format!("{}ballots/", fleet.prefix), format!("{}orders/", fleet.prefix));
    let mut client = config.connect(turn).await?;
    let id = config.in_time(client.lease_grant(fleet.ttl.as_secs() as i64, None)).await?.id();
    *lease = Some(id);

    let found = config.in_time(client.get(&*fleet.prefix, Some(GetOptions::new().with_prefix()))).await?;
    let revision = found.header().ok_or("etcd has told no revision")?.revision();
    let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
    let mut changes = config.in_time(client.watch(&*fleet.prefix, Some(options))).await?;
    let mut all = (BTreeMap::new(), BTreeMap::new());
    for pair in found.kvs() {
        let key = String::from_utf8_lossy(pair.key());
        if let Some(name) = key.strip_prefix(&ballots) {
            all.0.extend(read(pair.value()).map(|ballot| (name.into(), ballot)));
        } else if let Some(backend) = key.strip_prefix(&orders) {
            all.1.extend(read(pair.value()).map(|order| (backend.into(), order)));
        }
    }
    // Whoever receives it is polled beside this, and is there as long as this is.
    let tell = |told| _ = news.send(told);
    tell(News::All { ballots: all.0, orders: all.1 });

    let (mut own, mut pending) = (fleet.ballot.subscribe(), fleet.pending.subscribe());
    own.mark_changed();
    pending.mark_changed();
    let (mut keeper, mut kept) = config.in_time(client.lease_keep_alive(id)).await?;
    // Several may be lost before it ends.
    let mut beats = interval(fleet.ttl / 4);
    let mut gathered = Instant::now();
    loop {
        tokio::select! {
            change = changes.message() => {
                let change = change.map_err(causal)?.ok_or("etcd has ended the watch")?;
                if change.canceled() {
                    return Err(format!("etcd has ended the watch: {}", change.cancel_reason()).into());
                }
                for event in change.events() {
                    let Some(pair) = event.kv() else { continue };
                    let value = (event.event_type() == EventType::Put).then_some(pair.value());
                    let key = String::from_utf8_lossy(pair.key());
                    if let Some(name) = key.strip_prefix(&ballots) {
                        tell(News::Ballot(name.into(), value.and_then(read)));
                    } else if let Some(backend) = key.strip_prefix(&orders) {
                        tell(News::Order(backend.into(), value.and_then(read)));
                    }
                }
            }
            Ok(()) = async { sleep_until(gathered).await; own.changed().await } => {
                let value = serde_json::to_vec(&*own.borrow_and_update())?;
                let options = PutOptions::new().with_lease(id);
                config.in_time(client.put(format!("{ballots}{}", fleet.name), value, Some(options))).await?;
                gathered = Instant::now() + GATHER;
            }
            Ok(()) = pending.changed() => {
                let wanted = pending.borrow_and_update().clone();
                for (backend, order) in wanted {
                    put(fleet, &mut client, &format!("{orders}{backend}"), &order).await?;
                    tell(News::Order(Arc::clone(&backend), Some(order)));
                    // Unless something else was said meanwhile.
                    fleet.pending.send_if_modified(|pending| {
                        if pending.get(&backend) == Some(&order) {
                            pending.remove(&backend);
                        }
                        false
                    });
                }
            }
            _ = beats.tick() => {
                config.in_time(keeper.keep_alive()).await?;
                let answer = config.in_time(kept.message()).await?.ok_or("etcd no longer keeps the lease")?;
                if answer.ttl() <= 0 {
                    return Err("the lease has ended".into());
                }
                tell(News::Alive);
            }
        }
    }
}

async fn put<T>(fleet: &Fleet<T>, client: &mut Client, key: &str, order: &Order) -> Result<(), BoxError> {
    let value = serde_json::to_vec(order)?;
    fleet.config.in_time(client.put(key, value, None)).await.map(drop)
}

/// What somebody has written who is newer than this, or wrong, counts for nothing.
fn read<V: serde::de::DeserializeOwned>(value: &[u8]) -> Option<V> {
    serde_json::from_slice(value).ok()
}
