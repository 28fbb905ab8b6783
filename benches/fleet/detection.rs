//! From a backend's death until every gateway has it out: real checkers, and the real rule over what they say, in virtual
//! time. In place of the etcd stands a delay.

use super::{
    ballot::{Ballot, Vote},
    council::{Council, Verdict},
    draw::Stream,
    probes::{backends, gateways, probers},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};
use tower_balancer::{
    BackendPool, BoxError, HealthChecker,
    backend::{Backend, HealthState},
    pool::Member,
};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub gateways: usize,
    pub backends: usize,
    /// The first so many die, each at a time of its own.
    pub dying: usize,
    /// How many gateways ask each.
    pub k: usize,
    /// How many checks in a row have to fail.
    pub threshold: u32,
    /// Milliseconds from a vote until another gateway hears of it, on average; exponential, each by itself.
    pub lag_ms: f64,
    /// The share of the checks that fail of a backend that is well.
    pub loss: f64,
    /// What the first gateway finds out, whatever is true.
    pub broken: Option<bool>,
    /// How long, beside the time in which all settle.
    pub seconds: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detected {
    /// Seconds from each death until the first gateway, and until every gateway, had it out; in order.
    pub first: Vec<f64>,
    pub all: Vec<f64>,
    /// Deaths that some gateway never heard of.
    pub missed: usize,
    /// How often a backend that was well was taken out, at a gateway on average.
    pub wrong: f64,
    pub checks: u64,
}

/// What happens within this time is looked at once, as in a fleet's run.
const GATHER: Duration = Duration::from_millis(20);
const SETTLED: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_millis(1);

struct World {
    fleet: Fleet,
    names: Vec<Arc<str>>,
    backends: Vec<Arc<str>>,
    begun: Instant,
    dies: Vec<Option<Duration>>,
    /// By gateway: the luck of its checks, and that of its messages.
    luck: Vec<Mutex<(Stream, Stream)>>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// By backend, and in it by gateway: when it was taken out after its death.
    out: Vec<BTreeMap<usize, Duration>>,
    wrong: u64,
    checks: u64,
}

/// Who votes, what, and on which backends it is news.
type Message = (usize, Ballot, Vec<usize>);

/// Runs it so many times, and puts all together. Within one run gateways may stay in step with each other by luck.
pub fn runs(fleet: &Fleet, seed: u64, times: u64) -> Detected {
    let mut all = Detected::default();
    for number in 0..times {
        let one = run(fleet, seed.wrapping_mul(0x9e37_79b9).wrapping_add(number));
        all.first.extend(one.first);
        all.all.extend(one.all);
        all.missed += one.missed;
        all.wrong += one.wrong;
        all.checks += one.checks;
    }
    all.first.sort_by(f64::total_cmp);
    all.all.sort_by(f64::total_cmp);
    all
}

/// Runs it once, on a clock of its own.
pub fn run(fleet: &Fleet, seed: u64) -> Detected {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O");
    runtime.block_on(simulate(fleet.clone(), seed))
}

async fn simulate(fleet: Fleet, seed: u64) -> Detected {
    let mut deaths = Stream::new(seed, 21);
    // Early enough for all of them to be found.
    let last = (fleet.seconds - 15.0 - fleet.lag_ms / 100.0).max(1.0);
    let mut dies = |backend| (backend < fleet.dying).then(|| SETTLED + Duration::from_secs_f64(deaths.unit() * last));
    let luck =
        |gateway: u64| Mutex::new((Stream::new(seed, 1_000 + 2 * gateway), Stream::new(seed, 1_001 + 2 * gateway)));
    let world = Arc::new(World {
        names: gateways(fleet.gateways, seed),
        backends: backends(fleet.backends),
        begun: Instant::now(),
        dies: (0..fleet.backends).map(&mut dies).collect(),
        luck: (0..fleet.gateways as u64).map(luck).collect(),
        log: Mutex::new(Log { out: vec![BTreeMap::new(); fleet.backends], ..Log::default() }),
        fleet,
    });
    let probers = probers(&world.names, &world.backends, world.fleet.k);
    let (post, boxes): (Vec<_>, Vec<_>) = world.names.iter().map(|_| unbounded_channel()).unzip();
    let post: Arc<[_]> = post.into();
    for (me, inbox) in boxes.into_iter().enumerate() {
        let mine = (0..world.fleet.backends).filter(|backend| probers[*backend].contains(&me));
        let share = BackendPool::from_members(mine.map(|backend| Member::new(&*world.backends[backend], backend)));
        let share = share.expect("each backend has its name");
        let probe = {
            let world = Arc::clone(&world);
            move |backend| {
                let world = Arc::clone(&world);
                async move {
                    sleep(ANSWER).await;
                    world.answer(me, backend)
                }
            }
        };
        let checker = HealthChecker::new(&share, probe).unhealthy_threshold(world.fleet.threshold);
        tokio::spawn(take_part(Arc::clone(&world), me, share.clone(), inbox, Arc::clone(&post)));
        tokio::spawn(checker.seed(seed.wrapping_mul(0x9e37_79b9).wrapping_add(me as u64)).run());
    }
    sleep_until(world.begun + SETTLED + Duration::from_secs_f64(world.fleet.seconds)).await;
    world.detected()
}

/// One gateway: as a fleet's run does it, for gateways that stay and know the same backends.
async fn take_part(
    world: Arc<World>,
    me: usize,
    share: BackendPool<usize>,
    mut inbox: UnboundedReceiver<Message>,
    post: Arc<[UnboundedSender<Message>]>,
) {
    let mut council = Council::new(Arc::clone(&world.names[me]), world.fleet.k);
    let nothing = || Ballot { digest: 7, ..Ballot::default() };
    council.vote(nothing());
    world.names.iter().for_each(|name| council.hear(Arc::clone(name), Some(nothing())));
    let members = share.members();
    let mut changes = share.watch();
    let mut is_out = vec![false; world.fleet.backends];
    let mut earliest = vec![world.begun; world.names.len()];
    loop {
        let mut news = BTreeSet::new();
        let mut hear = |council: &mut Council, (from, ballot, touched): Message| {
            council.hear(Arc::clone(&world.names[from]), Some(ballot));
            news.extend(touched);
        };
        tokio::select! {
            biased;
            Some(message) = inbox.recv() => hear(&mut council, message),
            _ = changes.next() => {}
        }
        let gathered = Instant::now() + GATHER;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(gathered) => break,
                Some(message) = inbox.recv() => hear(&mut council, message),
                Some(_) = changes.next() => {}
            }
        }
        let before = council.mine().votes.clone();
        let votes = members.iter().filter_map(|(backend, &place)| Some((place, vote(backend)?)));
        let votes: BTreeMap<_, _> = votes.map(|(place, vote)| (Arc::clone(&world.backends[place]), vote)).collect();
        let is_news = |place: &usize| before.get(&world.backends[*place]) != votes.get(&world.backends[*place]);
        let touched: Vec<usize> = members.iter().map(|(_, &place)| place).filter(is_news).collect();
        if council.vote(Ballot { digest: 7, votes }) {
            world.tell(me, council.mine(), &touched, &post, &mut earliest);
        }
        news.extend(touched);

        let round = council.round();
        for place in news {
            let is_ill = match round.rule(&world.backends[place]).verdict {
                Verdict::Ill { .. } => true,
                Verdict::Well { .. } => false,
                Verdict::Open | Verdict::Unasked => continue,
            };
            if is_ill && !is_out[place] {
                world.taken_out(me, place);
            }
            is_out[place] = is_ill;
        }
    }
}

/// What a check has found out, as a fleet puts it.
fn vote(backend: &Backend) -> Option<Vote> {
    let health = backend.health();
    let cause = health.cause()?;
    match health.state() {
        HealthState::Healthy => Some(Vote::Well),
        HealthState::Unhealthy => Some(Vote::Ill(cause.into())),
        _ => None,
    }
}

impl World {
    fn now(&self) -> Duration {
        Instant::now() - self.begun
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn luck(&self, gateway: usize) -> MutexGuard<'_, (Stream, Stream)> {
        self.luck[gateway].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_dead(&self, backend: usize) -> bool {
        self.dies[backend].is_some_and(|dies| dies <= self.now())
    }

    fn answer(&self, gateway: usize, backend: usize) -> Result<String, BoxError> {
        self.log().checks += 1;
        let is_lost = self.luck(gateway).0.unit() < self.fleet.loss && self.now() > SETTLED / 2;
        let is_well = match self.fleet.broken {
            // Until then all of them settle.
            Some(finds) if gateway == 0 && self.now() > SETTLED / 2 => finds,
            _ => !is_lost && !self.is_dead(backend),
        };
        if is_well { Ok("well".to_owned()) } else { Err("refused".into()) }
    }

    /// Each hears it after a time of its own, and nobody hears an older word after a newer one.
    fn tell(
        self: &Arc<Self>,
        me: usize,
        ballot: &Ballot,
        touched: &[usize],
        post: &Arc<[UnboundedSender<Message>]>,
        earliest: &mut [Instant],
    ) {
        for to in (0..self.names.len()).filter(|to| *to != me) {
            let lag = Duration::from_secs_f64(self.luck(me).1.exponential(self.fleet.lag_ms / 1e3));
            let when = (Instant::now() + lag).max(earliest[to] + Duration::from_millis(1));
            earliest[to] = when;
            let (post, message) = (Arc::clone(post), (me, ballot.clone(), touched.to_vec()));
            tokio::spawn(async move {
                sleep_until(when).await;
                _ = post[to].send(message);
            });
        }
    }

    fn taken_out(&self, gateway: usize, backend: usize) {
        let now = self.now();
        let mut log = self.log();
        match self.dies[backend] {
            Some(dies) if dies <= now => _ = log.out[backend].entry(gateway).or_insert(now),
            _ => log.wrong += 1,
        }
    }

    fn detected(&self) -> Detected {
        let log = self.log();
        let mut detected = Detected {
            wrong: log.wrong as f64 / self.fleet.gateways as f64,
            checks: log.checks,
            ..Detected::default()
        };
        for (dies, out) in self.dies.iter().zip(&log.out) {
            let Some(dies) = dies else { continue };
            let times = || out.values().map(|out| (*out - *dies).as_secs_f64());
            detected.first.extend(times().min_by(f64::total_cmp));
            match out.len() == self.fleet.gateways {
                true => detected.all.extend(times().max_by(f64::total_cmp)),
                false => detected.missed += 1,
            }
        }
        detected.first.sort_by(f64::total_cmp);
        detected.all.sort_by(f64::total_cmp);
        detected
    }
}
