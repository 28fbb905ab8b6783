//! What is simulated: a scenario is a TOML file.

use serde::Deserialize;

/// One world: replicas, load, and what goes wrong.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub replicas: usize,
    #[serde(default = "four")]
    pub workers: usize,
    /// Jobs of a replica share its capacity instead of waiting in line; each runs at most at speed 1.
    #[serde(default)]
    pub processor_sharing: bool,
    /// Cores of a replica that shares its processor.
    #[serde(default)]
    pub capacity: Option<f64>,
    pub balancers: usize,
    /// What comes before that is not measured.
    #[serde(default = "five_seconds")]
    pub warm_up_ms: f64,
    /// Offered work, as a fraction of the nominal capacity of all replicas with their overrides.
    pub load: f64,
    pub service: Service,
    #[serde(default)]
    pub arrivals: Arrivals,
    #[serde(default)]
    pub timeout_ms: Option<f64>,
    /// A replica is taken away and a new one put in its place, so often.
    #[serde(default)]
    pub replace_every_ms: Option<f64>,
    /// Attempts beyond the first, each on another replica and with a timeout of its own.
    #[serde(default)]
    pub retries: u32,
    /// The share of the requests that may be tried again.
    #[serde(default)]
    pub retry_budget: f64,
    #[serde(default)]
    pub replica: Vec<Override>,
}

fn four() -> usize {
    4
}

fn five_seconds() -> f64 {
    5_000.0
}

/// How much work a request is.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Service {
    Exponential { mean_ms: f64 },
    TruncatedNormal { mean_ms: f64, sd_ms: f64 },
    BoundedPareto { alpha: f64, min: f64, max: f64, mean_ms: f64 },
    Constant { mean_ms: f64 },
}

/// When requests come.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    #[default]
    Poisson,
    /// Poisson at `high` and at `low` times the capacity in turn, for exponential times.
    Bursts { high: f64, low: f64, high_ms: f64, low_ms: f64 },
}

/// What is different about some replicas; later ones win.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    pub which: Which,
    pub speed: Option<f64>,
    pub flap: Option<Flap>,
    pub pause: Option<Pause>,
    pub warmup: Option<Warmup>,
    pub error_after_ms: Option<f64>,
    pub antagonist: Option<Antagonist>,
    pub away: Option<Away>,
}

/// `"odd"`, `"all"`, `"0-3"` or `[0, 1]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Which {
    List(Vec<usize>),
    Text(String),
}

impl Which {
    fn covers(&self, replica: usize) -> bool {
        match self {
            Self::List(list) => list.contains(&replica),
            Self::Text(text) => match text.as_str() {
                "all" => true,
                "odd" => replica % 2 == 1,
                "even" => replica.is_multiple_of(2),
                range => range.split_once('-').is_some_and(|(from, to)| {
                    let bounds = (from.trim().parse::<usize>(), to.trim().parse::<usize>());
                    matches!(bounds, (Ok(from), Ok(to)) if (from..=to).contains(&replica))
                }),
            },
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Text(text) => {
                let range = text.split_once('-').map(|(a, b)| a.trim().parse::<usize>().and(b.trim().parse::<usize>()));
                ["all", "odd", "even"].contains(&text.as_str()) || matches!(range, Some(Ok(_)))
            }
        }
    }
}

/// Up, then a black hole, in turn.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    pub up_ms: f64,
    pub down_ms: f64,
}

/// Everything stands still for `len_ms`, after exponential gaps.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    pub len_ms: f64,
    pub gap_ms: f64,
}

/// Restarts at a part of its speed and reaches all of it linearly.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    pub every_ms: f64,
    pub from: f64,
    pub over_ms: f64,
}

/// Neighbours that take capacity: what is left is redrawn from a normal distribution, after exponential times.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Antagonist {
    pub mean: f64,
    pub sd: f64,
    pub min: f64,
    pub cap: f64,
    pub redraw_ms: f64,
}

/// Out at all balancers at first. Each hears that it is back by `told_ms` after `until_ms`, on average.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Away {
    /// From the beginning.
    pub until_ms: f64,
    #[serde(default)]
    pub told_ms: f64,
    /// It is not known at all before, instead of out.
    #[serde(default)]
    pub new: bool,
}

/// One replica, with everything that was said about it.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    pub speed: f64,
    pub flap: Option<Flap>,
    pub pause: Option<Pause>,
    pub warmup: Option<Warmup>,
    pub error_after_ms: Option<f64>,
    pub antagonist: Option<Antagonist>,
    pub away: Option<Away>,
}

impl Scenario {
    /// A scenario from its file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        scenario.validate()?;
        Ok(scenario)
    }

    fn validate(&self) -> Result<(), String> {
        let positive = |name: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(format!("{name} is {value}: expected more than 0"))
            }
        };
        positive("replicas", self.replicas as f64)?;
        positive("workers", self.workers as f64)?;
        positive("balancers", self.balancers as f64)?;
        positive("load", self.load)?;
        if !self.warm_up_ms.is_finite() || self.warm_up_ms < 0.0 {
            return Err(format!("warm_up_ms is {}: expected 0 or more", self.warm_up_ms));
        }
        positive("service mean", self.service.mean_ms())?;
        positive("capacity", self.capacity.unwrap_or(1.0))?;
        positive("timeout_ms", self.timeout_ms.unwrap_or(1.0))?;
        positive("replace_every_ms", self.replace_every_ms.unwrap_or(1.0))?;
        if !(0.0..=10.0).contains(&self.retry_budget) {
            return Err(format!("retry_budget is {}: expected 0 to 10", self.retry_budget));
        }
        if self.processor_sharing != self.capacity.is_some() {
            return Err("capacity and processor_sharing = true go together".to_owned());
        }
        for over in &self.replica {
            if !over.which.is_valid() {
                return Err(format!(
                    "which = {:?}: expected \"all\", \"odd\", \"even\", \"0-3\" or [0, 1]",
                    over.which
                ));
            }
            positive("speed", over.speed.unwrap_or(1.0))?;
        }
        Ok(())
    }

    /// What was said about a replica.
    pub fn nature(&self, replica: usize) -> Nature {
        let none = Nature {
            speed: 1.0,
            flap: None,
            pause: None,
            warmup: None,
            error_after_ms: None,
            antagonist: None,
            away: None,
        };
        self.replica.iter().filter(|over| over.which.covers(replica)).fold(none, |nature, over| Nature {
            speed: over.speed.unwrap_or(nature.speed),
            flap: over.flap.or(nature.flap),
            pause: over.pause.or(nature.pause),
            warmup: over.warmup.or(nature.warmup),
            error_after_ms: over.error_after_ms.or(nature.error_after_ms),
            antagonist: over.antagonist.or(nature.antagonist),
            away: over.away.or(nature.away),
        })
    }

    /// How many requests a replica works on at once, at its best.
    pub fn cores(&self) -> f64 {
        self.capacity.unwrap_or(self.workers as f64)
    }

    /// Requests a second at the given fraction of the nominal capacity.
    pub fn rate(&self, load: f64) -> f64 {
        let capacity: f64 = (0..self.replicas).map(|replica| self.nature(replica).speed * self.cores()).sum();
        load * capacity / (self.service.mean_ms() / 1_000.0)
    }
}

impl Service {
    /// The mean of the work as it is drawn.
    pub fn mean_ms(&self) -> f64 {
        match *self {
            Self::Exponential { mean_ms } | Self::Constant { mean_ms } | Self::BoundedPareto { mean_ms, .. } => mean_ms,
            // The mean of a normal distribution cut off at 0.
            Self::TruncatedNormal { mean_ms, sd_ms } => {
                let alpha = -mean_ms / sd_ms;
                let density = (-alpha * alpha / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                mean_ms + sd_ms * density / (1.0 - normal_cdf(alpha))
            }
        }
    }
}

/// Abramowitz and Stegun 26.2.17: off by less than 1e-7.
fn normal_cdf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let poly =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if x > 0.0 { 1.0 - tail } else { tail }
}
