//! Discrete events in virtual time: requests, replicas, and the real strategies in between.

use super::{
    balancer::Balancer,
    draw::Stream,
    replica::{Job, MS, Replica, Time},
    scenario::{Arrivals, Away, Scenario},
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tower_balancer::{
    backend::{Backend, BackendId, Lease, LoadEstimate, Outcome, Report},
    strategy::Prequal,
};

/// Half a round trip between a balancer and a replica.
const TRAVEL: Time = 250_000;

/// The moment zero of every run. The estimates count time from the first moment that they hear of, and keep it in whole
/// milliseconds: it has to be this one for all runs to be alike.
pub static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    let epoch = tokio::time::Instant::now().into_std();
    drop(Lease::take(Arc::new(Backend::new("first")), epoch));
    epoch
});

/// Who chooses.
#[derive(Clone, Copy)]
pub enum Chooser {
    /// The real strategy of that name, one of its own for each balancer.
    Strategy(&'static str),
    /// The same, and each answer carries the replica's report of its load.
    Reported(&'static str),
    /// One line for everything; whichever replica has room takes the next.
    CentralQueue,
    /// The replica that would be done first, known exactly and at once.
    ShortestDelay,
}

impl Chooser {
    /// A strategy by its name; with `+reports` after it, where the replicas report their load.
    pub fn named(name: &'static str) -> Self {
        match name.strip_suffix("+reports") {
            Some(name) => Self::Reported(name),
            None => Self::Strategy(name),
        }
    }
}

/// What came out of one run.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Milliseconds from arrival to answer, or to giving up, in order.
    pub latency: Vec<f64>,
    /// The same without the request's own work.
    pub excess: Vec<f64>,
    pub errors: f64,
    /// Requests of the busiest replica, over the mean.
    pub max_mean: f64,
    /// Attempts for each request.
    pub amplification: f64,
    /// Jobs at the busiest replica of each moment, over the mean.
    #[allow(dead_code, reason = "what is asked of fleets")]
    pub spread: f64,
    /// When requests reached the replicas that were away: milliseconds since they were back.
    #[allow(dead_code, reason = "what is asked of fleets")]
    pub joined: Vec<f64>,
    /// The most jobs that one of them had.
    #[allow(dead_code, reason = "what is asked of fleets")]
    pub peak: usize,
}

/// The value below which a part of an ordered list lies.
pub fn quantile(ordered: &[f64], part: f64) -> f64 {
    ordered.get(((ordered.len() as f64 * part) as usize).min(ordered.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

enum Event {
    Arrive,
    Reach(Job),
    Done(usize, u64),
    Answer(Job, bool),
    /// A balancer's probe reaches a replica; and what it tells is back.
    Probe(usize, usize),
    Told(usize, usize, Report),
    GiveUp(Job),
    Pause(usize),
    Resume,
    Flap(usize),
    Restart(usize),
    Redraw(usize),
    Burst,
    Replace,
    /// A balancer hears that a replica is back.
    Join(usize, usize),
}

/// One attempt of a request.
struct Request {
    arrived: Time,
    work: f64,
    balancer: usize,
    tried: Vec<BackendId>,
    replica: usize,
    lease: Option<Lease>,
    open: bool,
    /// When the replica began with it, and how many it had then.
    begun: (Time, u32),
    report: Report,
}

struct World<'a> {
    scenario: &'a Scenario,
    now: Time,
    epoch: Instant,
    events: BinaryHeap<Reverse<(Time, u64, usize)>>,
    /// The events by number; what has happened is gone.
    pending: Vec<Option<Event>>,
    free: Vec<usize>,
    scheduled: u64,
    replicas: Vec<Replica>,
    /// What the replicas know about their load, where they report it.
    loads: Vec<LoadEstimate>,
    requests: Vec<Request>,
    arrivals: Stream,
    sizes: Stream,
    environment: Stream,
    policy: Stream,
    chooser: Chooser,
    balancers: Vec<Balancer>,
    line: VecDeque<Job>,
    bursting: bool,
    replaced: u64,
    until: Time,
    counts: Vec<u64>,
    arrived: u64,
    attempts: u64,
    errors: u64,
    latency: Vec<f64>,
    excess: Vec<f64>,
    /// Jobs of the busiest, and mean jobs, summed up over moments.
    busiest: f64,
    busy: f64,
    joined: Vec<f64>,
    peak: usize,
}

/// Runs a scenario for so many measured seconds.
pub fn run(scenario: &Scenario, chooser: &Chooser, seed: u64, seconds: f64) -> Measured {
    let balancers = match chooser {
        Chooser::Strategy(name) | Chooser::Reported(name) => {
            (0..scenario.balancers).map(|_| Balancer::new(scenario.replicas, name, scenario.retry_budget)).collect()
        }
        _ => Vec::new(),
    };
    let mut world = World {
        scenario,
        now: 0,
        epoch: *EPOCH,
        events: BinaryHeap::new(),
        pending: Vec::new(),
        free: Vec::new(),
        scheduled: 0,
        replicas: (0..scenario.replicas).map(|index| Replica::new(scenario, scenario.nature(index), 0)).collect(),
        loads: (0..scenario.replicas).map(|_| LoadEstimate::new().capacity(scenario.cores())).collect(),
        requests: Vec::new(),
        arrivals: Stream::new(seed, 1),
        sizes: Stream::new(seed, 2),
        environment: Stream::new(seed, 3),
        policy: Stream::new(seed, 4),
        chooser: *chooser,
        balancers,
        line: VecDeque::new(),
        bursting: false,
        replaced: 0,
        until: (scenario.warm_up_ms * MS + seconds * 1e9) as Time,
        counts: vec![0; scenario.replicas],
        arrived: 0,
        attempts: 0,
        errors: 0,
        latency: Vec::new(),
        excess: Vec::new(),
        busiest: 0.0,
        busy: 0.0,
        joined: Vec::new(),
        peak: 0,
    };
    world.begin();
    while let Some(Reverse((time, _, number))) = world.events.pop() {
        // What is still on its way after the end has half a minute.
        if time > world.until + 30_000_000_000 {
            break;
        }
        world.now = time;
        if let Some(event) = world.pending[number].take() {
            world.free.push(number);
            world.happen(event);
        }
    }
    world.measured()
}

impl World<'_> {
    fn begin(&mut self) {
        self.after(0.0, Event::Arrive);
        if matches!(self.scenario.arrivals, Arrivals::Bursts { .. }) {
            self.after(0.0, Event::Burst);
        }
        if let Some(every) = self.scenario.replace_every_ms {
            self.after(every * MS, Event::Replace);
        }
        for replica in 0..self.replicas.len() {
            let nature = self.replicas[replica].nature;
            if let Some(pause) = nature.pause {
                let gap = self.environment.exponential(pause.gap_ms);
                self.after(gap * MS, Event::Pause(replica));
            }
            if let Some(flap) = nature.flap {
                // Each has its own phase, so that the first time falls into the warm-up.
                let first = self.environment.unit() * flap.up_ms;
                self.after(first * MS, Event::Flap(replica));
            }
            if let Some(warmup) = nature.warmup {
                self.after(warmup.every_ms * MS, Event::Restart(replica));
            }
            if nature.antagonist.is_some() {
                self.after(0.0, Event::Redraw(replica));
            }
            if let Some(away) = nature.away {
                self.leave(replica, away);
            }
        }
    }

    /// Takes a replica out at all balancers until each has heard that it is back.
    fn leave(&mut self, replica: usize, away: Away) {
        let now = self.instant();
        if self.replicas[replica].nature.warmup.is_some() {
            // It is cold when it is back.
            self.after(away.until_ms * MS, Event::Restart(replica));
        }
        for balancer in 0..self.balancers.len() {
            match away.new {
                true => self.balancers[balancer].remove(replica),
                false => _ = self.balancers[balancer].backends[replica].mark_unhealthy("away", now),
            }
            let told = self.environment.exponential(away.told_ms);
            self.after((away.until_ms + told) * MS, Event::Join(balancer, replica));
        }
    }

    fn after(&mut self, nanoseconds: f64, event: Event) {
        self.at(self.now + nanoseconds as Time, event);
    }

    fn at(&mut self, time: Time, event: Event) {
        let number = self.free.pop().unwrap_or(self.pending.len());
        if number == self.pending.len() {
            self.pending.push(None);
        }
        self.pending[number] = Some(event);
        self.scheduled += 1;
        self.events.push(Reverse((time, self.scheduled, number)));
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.now)
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Arrive => self.arrive(),
            Event::Reach(job) => self.reach(job),
            Event::Done(replica, plan) => {
                if self.replicas[replica].plan == plan {
                    self.finish(replica);
                }
            }
            Event::Answer(job, well) => self.answer(job, well),
            Event::Probe(balancer, replica) => {
                // Who stands still answers no probe, nor does a black hole.
                if !self.replicas[replica].down && !self.replicas[replica].is_paused(now) {
                    let report = self.loads[replica].report(self.instant());
                    self.at(now + TRAVEL, Event::Told(balancer, replica, report));
                }
            }
            Event::Told(balancer, replica, report) => {
                self.balancers[balancer].backends[replica].reported(&report, self.instant());
            }
            Event::GiveUp(job) => {
                if self.requests[job].open {
                    self.close(job, Outcome::Timeout);
                }
            }
            Event::Pause(replica) => {
                let pause = self.replicas[replica].nature.pause.expect("only a replica that pauses");
                let length = (pause.len_ms * MS) as Time;
                self.replicas[replica].pause(now, now + length);
                let gap = self.environment.exponential(pause.gap_ms);
                self.after(pause.len_ms * MS + gap * MS, Event::Pause(replica));
                self.at(now + length, Event::Resume);
                self.plan(replica);
            }
            Event::Resume => self.fill(),
            Event::Flap(replica) => {
                let flap = self.replicas[replica].nature.flap.expect("only a replica that flaps");
                let down = !self.replicas[replica].down;
                self.replicas[replica].down = down;
                self.after(if down { flap.down_ms } else { flap.up_ms } * MS, Event::Flap(replica));
                self.fill();
            }
            Event::Restart(replica) => {
                let warmup = self.replicas[replica].nature.warmup.expect("only a replica that warms up");
                self.replicas[replica].restart(now);
                self.after(warmup.every_ms * MS, Event::Restart(replica));
            }
            Event::Redraw(replica) => {
                let antagonist = self.replicas[replica].nature.antagonist.expect("only a replica with neighbours");
                let left = self.environment.left_by(&antagonist);
                self.replicas[replica].leave(now, left);
                let next = self.environment.exponential(antagonist.redraw_ms);
                self.after(next * MS, Event::Redraw(replica));
                self.plan(replica);
                self.fill();
            }
            Event::Burst => {
                let Arrivals::Bursts { high_ms, low_ms, .. } = self.scenario.arrivals else { return };
                self.bursting = !self.bursting;
                let length = self.environment.exponential(if self.bursting { high_ms } else { low_ms });
                self.after(length * MS, Event::Burst);
            }
            Event::Replace => {
                let replica = self.environment.below(self.replicas.len());
                self.replaced += 1;
                self.balancers.iter_mut().for_each(|balancer| balancer.replace(replica, self.replaced));
                self.after(self.scenario.replace_every_ms.unwrap_or_default() * MS, Event::Replace);
            }
            Event::Join(balancer, replica) => match self.replicas[replica].nature.away {
                Some(Away { new: true, .. }) => self.balancers[balancer].insert(replica, 0),
                _ => _ = self.balancers[balancer].backends[replica].mark_healthy("back", self.instant()),
            },
        }
    }

    fn arrive(&mut self) {
        let load = match self.scenario.arrivals {
            Arrivals::Poisson => self.scenario.load,
            Arrivals::Bursts { high, low, .. } => self.scenario.load * if self.bursting { high } else { low },
        };
        let gap = self.arrivals.exponential(1e9 / self.scenario.rate(load));
        if self.now >= self.until {
            return;
        }
        self.after(gap, Event::Arrive);

        let work = self.sizes.work_ms(&self.scenario.service) * MS;
        let balancer = self.arrivals.below(self.scenario.balancers);
        if let Some(balancer) = self.balancers.get(balancer) {
            balancer.budget.deposit(self.instant());
        }
        self.attempt(self.now, work, balancer, Vec::new());
    }

    fn attempt(&mut self, arrived: Time, work: f64, balancer: usize, tried: Vec<BackendId>) {
        let job = self.requests.len();
        let seed = self.policy.bits();
        self.requests.push(Request {
            arrived,
            work,
            balancer,
            tried,
            replica: usize::MAX,
            lease: None,
            open: true,
            begun: (0, 0),
            report: Report::default(),
        });
        if self.is_measured(job) {
            self.attempts += 1;
            self.arrived += u64::from(self.requests[job].tried.is_empty());
            // Who arrives at random sees what is so on average (Wolff 1982).
            if self.attempts.is_multiple_of(8) {
                let jobs = self.replicas.iter().map(Replica::jobs);
                self.busiest += jobs.clone().max().unwrap_or_default() as f64;
                self.busy += jobs.sum::<usize>() as f64 / self.replicas.len() as f64;
            }
        }
        if let Some(timeout) = self.scenario.timeout_ms {
            self.after(timeout * MS, Event::GiveUp(job));
        }
        match self.chooser {
            Chooser::Strategy(_) | Chooser::Reported(_) => {
                match self.balancers[balancer].pick(&self.requests[job].tried, self.instant(), seed) {
                    Some((replica, lease)) => {
                        self.requests[job].lease = Some(lease);
                        self.requests[job].replica = replica;
                        self.at(self.now + TRAVEL, Event::Reach(job));
                        self.probe(balancer);
                    }
                    None => self.close(job, Outcome::BackendFault),
                }
            }
            Chooser::CentralQueue => {
                self.line.push_back(job);
                self.fill();
            }
            Chooser::ShortestDelay => {
                let expected = |replica: &usize| self.replicas[*replica].expected(work, self.now);
                let best = (0..self.replicas.len()).min_by(|a, b| expected(a).total_cmp(&expected(b)));
                self.requests[job].replica = best.unwrap_or_default();
                self.at(self.now + TRAVEL, Event::Reach(job));
            }
        }
    }

    /// Sends the probes that a balancer's strategy wants.
    fn probe(&mut self, balancer: usize) {
        while let Some(backend) = self.balancers[balancer].prequal.as_ref().and_then(Prequal::wanted) {
            let members = self.balancers[balancer].pool.members();
            if let Some((_, &replica)) = members.find(backend.id().as_str()) {
                self.at(self.now + TRAVEL, Event::Probe(balancer, replica));
            }
        }
    }

    /// The central line moves up wherever there is room, to the fastest first.
    fn fill(&mut self) {
        while let Some(&job) = self.line.front() {
            let now = self.now;
            let with_room = (0..self.replicas.len()).filter(|&replica| self.replicas[replica].has_room(now));
            let speed = |replica: &usize| (self.replicas[*replica].speed(now), Reverse(self.replicas[*replica].jobs()));
            let fastest = with_room.max_by(|a, b| speed(a).0.total_cmp(&speed(b).0).then(speed(a).1.cmp(&speed(b).1)));
            let Some(replica) = fastest else { return };
            self.line.pop_front();
            if self.requests[job].open {
                self.requests[job].replica = replica;
                self.reach(job);
            }
        }
    }

    fn reach(&mut self, job: Job) {
        let replica = self.requests[job].replica;
        self.counts[replica] += u64::from(self.is_measured(job));
        if self.replicas[replica].down {
            return;
        }
        if let Some(after) = self.replicas[replica].nature.error_after_ms {
            self.after(after * MS + TRAVEL as f64, Event::Answer(job, false));
            return;
        }
        let work = self.requests[job].work;
        if let Chooser::Reported(_) = self.chooser {
            let now = self.instant();
            self.requests[job].begun = (self.now, self.loads[replica].begin(now));
        }
        self.replicas[replica].push(job, work, self.now);
        if let Some(away) = self.replicas[replica].nature.away {
            self.joined.push(self.now as f64 / MS - away.until_ms);
            self.peak = self.peak.max(self.replicas[replica].jobs());
        }
        self.plan(replica);
    }

    fn plan(&mut self, replica: usize) {
        if let Some(time) = self.replicas[replica].next_done(self.now) {
            self.at(time.max(self.now), Event::Done(replica, self.replicas[replica].plan));
        }
    }

    fn finish(&mut self, replica: usize) {
        let mut done = Vec::new();
        self.replicas[replica].take_done(self.now, &mut done);
        // A black hole swallows what is sent to it; what it has begun it answers.
        for job in done {
            if let Chooser::Reported(_) = self.chooser {
                self.report(replica, job);
            }
            self.at(self.now + TRAVEL, Event::Answer(job, true));
        }
        self.plan(replica);
        self.fill();
    }

    /// What the replica writes into the head of its answer.
    fn report(&mut self, replica: usize, job: Job) {
        let now = self.instant();
        let (began, in_flight) = self.requests[job].begun;
        self.requests[job].report = self.loads[replica].report(now);
        self.loads[replica].end(in_flight, Duration::from_nanos(self.now - began), true, now);
    }

    fn answer(&mut self, job: Job, well: bool) {
        if self.requests[job].open {
            self.close(job, if well { Outcome::Success } else { Outcome::BackendFault });
        }
    }

    fn close(&mut self, job: Job, outcome: Outcome) {
        let (now, measured) = (self.instant(), self.is_measured(job));
        let request = &mut self.requests[job];
        request.open = false;
        let mut tried = std::mem::take(&mut request.tried);
        if let Some(lease) = request.lease.take() {
            lease.backend().reported(&request.report, now);
            tried.push(lease.backend().id().clone());
            lease.complete(outcome, now);
            if outcome != Outcome::Success && tried.len() <= self.scenario.retries as usize {
                let (arrived, work, balancer) = (request.arrived, request.work, request.balancer);
                if let Some(charge) = self.balancers[balancer].budget.charge(now) {
                    charge.spend();
                    return self.attempt(arrived, work, balancer, tried);
                }
            }
        }
        if measured {
            // The oracle's way to the replica takes as long as everybody's.
            let central = matches!(self.chooser, Chooser::CentralQueue);
            let travel = if central && outcome == Outcome::Success { TRAVEL } else { 0 };
            let latency = (self.now - request.arrived + travel) as f64 / MS;
            self.latency.push(latency);
            self.excess.push(latency - request.work / MS);
            self.errors += u64::from(outcome != Outcome::Success);
        }
    }

    fn is_measured(&self, job: Job) -> bool {
        self.requests[job].arrived as f64 >= self.scenario.warm_up_ms * MS
    }

    fn measured(mut self) -> Measured {
        self.latency.sort_by(f64::total_cmp);
        self.excess.sort_by(f64::total_cmp);
        let mean = self.counts.iter().sum::<u64>() as f64 / self.counts.len() as f64;
        Measured {
            amplification: self.attempts as f64 / self.arrived.max(1) as f64,
            errors: self.errors as f64 / self.latency.len().max(1) as f64,
            max_mean: self.counts.iter().max().copied().unwrap_or_default() as f64 / mean.max(1.0),
            latency: self.latency,
            excess: self.excess,
            spread: self.busiest / self.busy.max(f64::MIN_POSITIVE),
            joined: self.joined,
            peak: self.peak,
        }
    }
}
