use super::*;
use crate::backend::Admin;

const BACKEND: &str = "a";

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn now() -> Instant {
    Instant::now()
}

fn drained(clock: u64) -> Order {
    Order::state(Admin::Draining, clock)
}

/// A day, in milliseconds.
const DAY: u64 = 86_400_000;

#[test]
fn what_etcd_has_lost_is_told_again_and_what_is_newer_there_counts_here() {
    let mut orders = Orders::default();
    orders.hear_all([("a".into(), drained(100)), ("b".into(), drained(100))].into(), 100);
    assert_eq!(orders.untold(), None);
    let newer = drained(100).then_state(Admin::Enabled, 200);
    orders.hear_all([("b".into(), newer)].into(), 300);
    assert_eq!((orders.of("b"), orders.untold()), (newer, Some(("a".into(), Some(drained(100))))));
    orders.told("a".into(), Some(drained(100)), 300);
    assert_eq!(orders.untold(), None);
    // An older one that somebody has put in its place does not.
    orders.hear("b".into(), Some(drained(100)), 300);
    assert_eq!((orders.of("b"), orders.untold()), (newer, Some(("b".into(), Some(newer)))));
}

#[test]
fn what_is_taken_out_by_hand_is_taken_back_for_those_who_have_not_seen_it() {
    let mut orders = Orders::default();
    orders.hear("a".into(), Some(drained(100)), 100);
    orders.hear("a".into(), None, 200);
    assert!(orders.of("a").wants_nothing() && orders.of("a").join(drained(150)) == orders.of("a"));
    assert_eq!(orders.untold(), Some(("a".into(), Some(orders.of("a")))));
    // But not what was said here meanwhile, and is still to be told.
    orders.say("a".into(), orders.of("a").then_state(Admin::Disabled, 300));
    orders.hear("a".into(), None, 400);
    assert_eq!(orders.of("a").admin(), Admin::Disabled);
}

#[test]
fn an_order_is_taken_out_when_it_is_old_and_nobody_has_needed_it_for_an_hour() {
    let start = now();
    let (gone, there, nothing) = ("gone", "there", "nothing");
    let mut orders = Orders::default();
    for backend in [gone, there] {
        orders.hear(backend.into(), Some(drained(0).then_state(Admin::Draining, 1)), 1);
    }
    let enabled = drained(0).then_state(Admin::Enabled, 1);
    orders.hear(nothing.into(), Some(enabled), 1);
    let is_there = |backend: &str| backend != gone;
    assert!(!orders.tidy(is_there, start, 8 * DAY));
    // It was there again in between.
    assert!(!orders.tidy(|_| true, start + IDLE / 2, 8 * DAY));
    assert!(!orders.tidy(is_there, start + IDLE / 2, 6 * DAY));
    assert!(!orders.tidy(is_there, start + IDLE, 6 * DAY), "not old");
    assert!(orders.tidy(is_there, start + IDLE, 8 * DAY));
    assert_eq!(orders.untold(), Some((nothing.into(), None)));
    orders.told(nothing.into(), None, 8 * DAY);
    assert_eq!(orders.untold(), None);
    assert!(orders.tidy(is_there, start + IDLE * 2, 8 * DAY));
    assert_eq!(orders.untold(), Some((gone.into(), None)));
    // Somebody needs it again, and said so before etcd was told.
    let said = drained(8 * DAY);
    assert_eq!(revise(None, Some(said), 8 * DAY), Revision::Keep);
    orders.told(gone.into(), Some(said), 8 * DAY);
    assert_eq!((orders.of(gone), orders.untold()), (said, None));
    assert_eq!(revise(None, Some(drained(1)), 8 * DAY), Revision::TakeOut);
    assert_eq!(revise(None, Some(drained(0)), 8 * DAY), Revision::Keep, "written by hand just now");
    assert_eq!(orders.of(there).admin(), Admin::Draining);
}

#[test]
fn what_another_has_taken_out_is_forgotten_and_not_told_again() {
    let mut orders = Orders::default();
    orders.hear("a".into(), Some(drained(1)), 1);
    orders.tidy(|_| false, now(), 8 * DAY);
    orders.hear_all(BTreeMap::new(), 8 * DAY);
    assert_eq!((orders.of("a"), orders.untold()), (Order::default(), None));
    orders.hear("a".into(), Some(drained(1)), 1);
    orders.tidy(|_| false, now(), 8 * DAY);
    orders.hear("a".into(), None, 8 * DAY);
    assert_eq!((orders.of("a"), orders.untold()), (Order::default(), None));
}

/// What stands in etcd, and its revision.
type Stands = Option<(Order, u64)>;

/// Two gateways and an etcd that holds the order of one backend.
#[derive(Clone, Default)]
struct World {
    etcd: Stands,
    revision: u64,
    /// What etcd has told and tells those who are connected.
    changes: Vec<Option<Order>>,
    gateways: [Gateway; 2],
    /// The time of the first; the clock of the other is slow.
    clock: u64,
    said: Vec<Order>,
    by_hand: bool,
    lost: bool,
}

#[derive(Clone, Default)]
struct Gateway {
    orders: Orders,
    is_connected: bool,
    /// How many changes it has heard.
    heard: usize,
    /// What it has read, before it writes.
    read: Option<(Option<Order>, Stands)>,
    words: usize,
    cuts: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Say(usize),
    Cut(usize),
    Connect(usize),
    Hear(usize),
    Read(usize),
    Write(usize),
    ByHand,
    Lose,
}

/// Each gateway says different things.
const WORDS: [[Admin; 2]; 2] = [[Admin::Draining, Admin::Enabled], [Admin::Disabled, Admin::Enabled]];

impl World {
    fn clock(&self, gateway: usize) -> u64 {
        [self.clock, 1 + self.clock / 4][gateway]
    }

    fn put(&mut self, order: Option<Order>) {
        self.revision += 1;
        self.etcd = order.map(|order| (order, self.revision));
        self.changes.push(order);
    }

    /// `None` where this is not possible now.
    fn step(&self, step: Step) -> Option<Self> {
        let mut world = self.clone();
        world.clock += 10;
        match step {
            Step::Say(of) => {
                let clock = world.clock(of);
                let gateway = &mut world.gateways[of];
                let order = gateway.orders.of(BACKEND).then_state(*WORDS[of].get(gateway.words)?, clock);
                gateway.words += 1;
                gateway.orders.say(BACKEND.into(), order);
                world.said.push(order);
            }
            Step::Cut(of) => {
                let gateway = &mut world.gateways[of];
                if !gateway.is_connected || gateway.cuts == 1 {
                    return None;
                }
                gateway.cuts += 1;
                (gateway.is_connected, gateway.read) = (false, None);
            }
            Step::Connect(of) => {
                let clock = world.clock(of);
                let gateway = &mut world.gateways[of];
                if gateway.is_connected {
                    return None;
                }
                (gateway.is_connected, gateway.heard) = (true, world.changes.len());
                gateway.orders.hear_all(world.etcd.iter().map(|(order, _)| (BACKEND.into(), *order)).collect(), clock);
            }
            Step::Hear(of) => {
                let clock = world.clock(of);
                let gateway = &mut world.gateways[of];
                let change = *world.changes.get(gateway.heard).filter(|_| gateway.is_connected)?;
                gateway.heard += 1;
                gateway.orders.hear(BACKEND.into(), change, clock);
            }
            Step::Read(of) => {
                let gateway = &mut world.gateways[of];
                if !gateway.is_connected || gateway.read.is_some() {
                    return None;
                }
                gateway.read = Some((gateway.orders.untold()?.1, world.etcd));
            }
            Step::Write(of) => {
                let clock = world.clock(of);
                let (order, found) = world.gateways[of].read.take()?;
                let is_as_found = world.etcd.map(|(_, revision)| revision) == found.map(|(_, revision)| revision);
                let found = found.map(|(order, _)| order);
                let stands = match revise(order, found, clock) {
                    Revision::Keep => Some(found),
                    _ if !is_as_found => None,
                    Revision::Put(order) => {
                        world.put(Some(order));
                        Some(Some(order))
                    }
                    Revision::TakeOut => panic!("nothing is old"),
                };
                if let Some(stands) = stands {
                    world.gateways[of].orders.told(BACKEND.into(), stands, clock);
                }
            }
            Step::ByHand => {
                if std::mem::replace(&mut world.by_hand, true) {
                    return None;
                }
                world.put(Some(serde_json::from_str(r#"{"state": "draining"}"#).unwrap()));
            }
            Step::Lose => {
                if std::mem::replace(&mut world.lost, true) {
                    return None;
                }
                (world.etcd, world.revision) = (None, 0);
                world.changes.clear();
                world.gateways.iter_mut().for_each(|gateway| {
                    (gateway.is_connected, gateway.read) = (false, None);
                });
            }
        }
        if let (Step::Write(_), Some((before, _)), Some((after, _))) = (step, self.etcd, world.etcd) {
            assert_eq!(before.join(after), after, "what stands in etcd has become older");
        }
        for (before, after) in self.gateways.iter().zip(&world.gateways) {
            let (before, after) = (before.orders.of(BACKEND), after.orders.of(BACKEND));
            assert_eq!(before.join(after), after, "{step:?} has put an older word in the place of a newer one");
        }
        Some(world)
    }

    /// Lets everything arrive.
    fn settled(mut self) -> Self {
        let steps: Vec<_> =
            (0..2).flat_map(|of| [Step::Connect, Step::Hear, Step::Read, Step::Write].map(|step| step(of))).collect();
        for _ in 0..100 {
            let Some(next) = steps.iter().find_map(|step| self.step(*step)) else { return self };
            self = next;
        }
        panic!("it does not come to rest");
    }
}

fn explore(world: &World, depth: usize, worlds: &mut usize) {
    *worlds += 1;
    let settled = world.clone().settled();
    let [one, other] = settled.gateways.each_ref().map(|gateway| gateway.orders.of(BACKEND));
    let stands = settled.etcd.map(|(order, _)| order).unwrap_or_default();
    assert!(one == other && one == stands, "{one:?} and {other:?} where {stands:?} stands");
    let newest = world.said.iter().fold(Order::default(), |newest, said| newest.join(*said));
    assert_eq!(newest.join(stands), stands, "something that was said is lost");
    if !world.by_hand {
        assert_eq!(newest, stands, "something counts that nobody has said last");
    }
    if depth > 0 {
        let steps = [Step::Say, Step::Cut, Step::Connect, Step::Hear, Step::Read, Step::Write];
        let of_both = steps.into_iter().flat_map(|step| [step(0), step(1)]);
        for next in of_both.chain([Step::ByHand, Step::Lose]).filter_map(|step| world.step(step)) {
            explore(&next, depth - 1, worlds);
        }
    }
}

#[test]
fn however_gateways_are_cut_off_and_etcd_loses_its_data_the_last_word_counts_for_all() {
    let mut worlds = 0;
    explore(&World::default(), 6, &mut worlds);
    eprintln!("{worlds} worlds");
    assert!(worlds > 10_000);
}
