use super::{
    ballot::Ballot,
    fleets::{FLEET_TARGET, Fleet},
    order::{Order, clock},
    orders::{Revision, revise},
};
use crate::{
    discover::{Failure, causal},
    error::BoxError,
};
use etcd_client::{Client, Compare, CompareOp, EventType, GetOptions, PutOptions, Txn, TxnOp, WatchOptions};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, interval, sleep_until},
};
use tracing::warn;

/// What etcd has to say of the other gateways.
#[derive(Debug)]
pub(super) enum News {
    All(BTreeMap<Arc<str>, Ballot>),
    Ballot(Arc<str>, Option<Ballot>),
    /// The lease was renewed.
    Alive,
}

/// What changes within this time is written once.
const GATHER: Duration = Duration::from_millis(50);

/// Keeps this gateway's ballot in etcd, makes the orders here and there agree, and tells of the other ballots, until that fails.
/// `lease` is left with the last lease, to be given back.
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
            all.1.extend(read_order(fleet, backend, pair.value()).map(|order| (backend.into(), order)));
        }
    }
    // Whoever receives it is polled beside this, and is there as long as this is.
    let tell = |told| _ = news.send(told);
    fleet.orders.send_modify(|known| known.hear_all(all.1, clock()));
    tell(News::All(all.0));

    let (mut own, mut changed) = (fleet.ballot.subscribe(), fleet.orders.subscribe());
    own.mark_changed();
    changed.mark_changed();
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
                    let is_put = event.event_type() == EventType::Put;
                    let key = String::from_utf8_lossy(pair.key());
                    if let Some(name) = key.strip_prefix(&ballots) {
                        tell(News::Ballot(name.into(), is_put.then(|| read(pair.value())).flatten()));
                    } else if let Some(backend) = key.strip_prefix(&orders) {
                        let order = is_put.then(|| read_order(fleet, backend, pair.value())).flatten();
                        // What cannot be read is not what was taken out.
                        if order.is_some() || !is_put {
                            fleet.orders.send_modify(|known| known.hear(backend.into(), order, clock()));
                        }
                    }
                }
            }
            Ok(()) = async { sleep_until(gathered).await; own.changed().await } => {
                let value = serde_json::to_vec(&*own.borrow_and_update())?;
                let options = PutOptions::new().with_lease(id);
                config.in_time(client.put(format!("{ballots}{}", fleet.name), value, Some(options))).await?;
                gathered = Instant::now() + GATHER;
            }
            Ok(()) = changed.changed() => {
                let untold = changed.borrow_and_update().untold();
                // One at a time: the lease has to be kept alive meanwhile.
                if let Some((backend, order)) = untold {
                    if let Some(stands) = settle(fleet, &mut client, &orders, &backend, order).await? {
                        fleet.orders.send_modify(|known| known.told(backend, stands, clock()));
                    }
                    changed.mark_changed();
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

/// Makes what stands under `orders` for `backend` agree with `order`, and says what stands there then; `None` where somebody else
/// was faster.
async fn settle<T>(
    fleet: &Fleet<T>,
    client: &mut Client,
    orders: &str,
    backend: &str,
    order: Option<Order>,
) -> Result<Option<Option<Order>>, BoxError> {
    let key = format!("{orders}{backend}");
    let key = key.as_str();
    let found = fleet.config.in_time(client.get(key, None)).await?;
    let revision = found.kvs().first().map_or(0, |pair| pair.mod_revision());
    let found = found.kvs().first().and_then(|pair| read_order(fleet, backend, pair.value()));
    let (change, stands) = match revise(order, found, clock()) {
        Revision::Keep => return Ok(Some(found)),
        Revision::Put(order) => (TxnOp::put(key, serde_json::to_vec(&order)?, None), Some(order)),
        Revision::TakeOut => (TxnOp::delete(key, None), None),
    };
    let is_as_found = Compare::mod_revision(key, CompareOp::Equal, revision);
    let changed = fleet.config.in_time(client.txn(Txn::new().when([is_as_found]).and_then([change]))).await?;
    Ok(changed.succeeded().then_some(stands))
}

/// An order that cannot be read counts for nothing, and whoever has written it wants to know.
fn read_order<T>(fleet: &Fleet<T>, backend: &str, text: &[u8]) -> Option<Order> {
    let unreadable = |error: &BoxError| {
        warn!(target: FLEET_TARGET, backend, cause = %error, "an order in etcd cannot be read, and counts for nothing");
        let cause = format!("the order of {backend} cannot be read: {error}").into();
        fleet.status.send_modify(|status| {
            status.last_failure = Some(Failure { when: Instant::now().into_std(), cause });
        });
    };
    Order::read(text).inspect_err(unreadable).ok()
}

/// What somebody has written who is newer than this, or wrong, counts for nothing.
fn read<V: serde::de::DeserializeOwned>(value: &[u8]) -> Option<V> {
    serde_json::from_slice(value).ok()
}
