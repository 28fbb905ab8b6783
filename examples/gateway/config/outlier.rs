//! `outlier`: when answers take a backend out, and for how long.

use super::{
    check::percent,
    scalars::{Share, words},
    value::{Fault, Value, only_if},
};
use humantime::format_duration;
use serde::Deserialize;
use std::{fmt, num::NonZero, time::Duration};
use tower_balancer::{
    backend::Backoff,
    pool::{Detector, Ejection},
};

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outlier {
    pub consecutive: Option<Value<u32>>,
    pub detector: Option<Value<Kind>>,
    /// Of `success_rate`.
    pub deviations: Option<Value<f64>>,
    /// Of `failure_percentage`.
    pub percent: Option<Value<f64>>,
    /// Of both.
    pub hosts: Option<Value<NonZero<u32>>>,
    pub requests: Option<Value<NonZero<u32>>>,
    pub slower_than: Option<Value<f64>>,
    pub max_ejected: Option<Value<Share>>,
    pub base_ejection: Option<Value<Duration>>,
    pub max_ejection: Option<Value<Duration>>,
}

words! {
    /// How a backend is compared with its peers.
    Kind {
        Binomial = "binomial",
        SuccessRate = "success_rate",
        FailurePercentage = "failure_percentage",
        Off = "off",
    }
}

impl Outlier {
    fn kind(&self) -> Kind {
        self.detector.as_deref().copied().unwrap_or(Kind::Binomial)
    }

    pub fn validate(&self) -> Result<(), Fault> {
        let kind = self.kind();
        let of = |of: &'static str| move || format!("this is of the detector {of}, and the detector is {kind}");
        let (rate, percentage) = (kind == Kind::SuccessRate, kind == Kind::FailurePercentage);
        only_if(rate, self.deviations.as_ref(), of("success_rate"))?;
        only_if(percentage, self.percent.as_ref(), of("failure_percentage"))?;
        only_if(rate || percentage, self.hosts.as_ref(), of("success_rate or failure_percentage"))?;
        only_if(rate || percentage, self.requests.as_ref(), of("success_rate or failure_percentage"))?;
        match self.slower_than.as_ref().filter(|factor| ***factor <= 1.0) {
            Some(factor) => Err(factor.fault("expected a factor above 1")),
            None => Ok(()),
        }
    }

    pub fn ejection(&self) -> Ejection {
        let number = |set: &Option<Value<f64>>, usual| set.as_deref().copied().unwrap_or(usual);
        let many = |set: &Option<Value<NonZero<u32>>>, usual| set.as_deref().map_or(usual, |set| set.get());
        let hosts = many(&self.hosts, 5) as usize;
        let detector = match self.kind() {
            Kind::Off => Detector::Off,
            Kind::Binomial => Detector::Binomial,
            Kind::SuccessRate => {
                let (deviations, requests) = (number(&self.deviations, 1.9), many(&self.requests, 100));
                Detector::SuccessRate { deviations, hosts, requests }
            }
            Kind::FailurePercentage => {
                let (percent, requests) = (number(&self.percent, 85.0), many(&self.requests, 50));
                Detector::FailurePercentage { percent, hosts, requests }
            }
        };
        let usual = Backoff::default();
        let base = self.base_ejection.as_deref().copied().unwrap_or(usual.base);
        let cap = self.max_ejection.as_deref().copied().unwrap_or(usual.cap);
        let mut ejection = Ejection::default().detector(detector).backoff(Backoff { base, cap });
        if let Some(faults) = self.consecutive.as_deref() {
            ejection = ejection.consecutive(*faults);
        }
        if let Some(factor) = self.slower_than.as_deref() {
            ejection = ejection.slower_than(*factor);
        }
        match self.max_ejected.as_deref() {
            Some(share) => ejection.max_ejected(share.0),
            None => ejection,
        }
    }

    /// The share of a tier and zone that may be out.
    pub fn max_ejected(&self) -> f64 {
        self.max_ejected.as_deref().map_or(0.5, |share| share.0)
    }
}

impl fmt::Display for Outlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.consecutive.as_deref().copied().unwrap_or(5) {
            0 => f.write_str("no number of faults in a row")?,
            faults => write!(f, "{faults} faults in a row")?,
        }
        write!(f, "; detector {}", self.kind())?;
        if let Some(factor) = self.slower_than.as_deref() {
            write!(f, "; {factor} times slower")?;
        }
        let usual = Backoff::default();
        let base = format_duration(self.base_ejection.as_deref().copied().unwrap_or(usual.base));
        let cap = format_duration(self.max_ejection.as_deref().copied().unwrap_or(usual.cap));
        write!(f, "; out for {base} up to {cap}, {} at the most", percent(self.max_ejected()))
    }
}
