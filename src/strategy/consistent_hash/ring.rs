use super::{Hashing, Index, Table};
use crate::{backend::Backend, hash::mix};
use std::sync::Arc;

/// Points on a circle (Karger and others 1997): a key belongs to the first point at or after it.
///
/// Each backend has a number of points in proportion to its weight, so that one that leaves gives its keys to many. Even
/// to some 8 % with 160 points; more of them are evener, and take more memory. [`ketama`](Self::ketama) lays the points
/// as memcached clients do.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    points: Points,
}

#[derive(Clone, Copy, Debug)]
enum Points {
    Hashed(u32),
    Ketama,
}

/// All points together: with more backends than this allows, each has fewer of them. 64 MiB.
const MOST: f64 = (1 << 22) as f64;

/// The points of backends that are out or full before all are ranked instead.
const STEPS: usize = 1_024;

impl Ring {
    /// 160 points for a backend of mean weight.
    pub fn new() -> Self {
        Self::with_points(160)
    }

    /// So many points for a backend of mean weight, at least 1. All together are at most 2²².
    pub fn with_points(points: u32) -> Self {
        Self { points: Points::Hashed(points.max(1)) }
    }

    /// The points of libketama: 160 for a server of mean weight, by MD5 of its name, which is the backend's id, a hyphen
    /// and a number. Where the keys come from [`ketama_key`](Self::ketama_key), each goes where memcached clients with the
    /// same servers send it.
    pub fn ketama() -> Self {
        Self { points: Points::Ketama }
    }

    /// The hash of a key as libketama has it.
    pub fn ketama_key(key: impl AsRef<[u8]>) -> u64 {
        position(md5::compute(key).0, 0)
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Hashing for Ring {
    type Table = RingPoints;

    fn table(&self, members: &[Arc<Backend>]) -> RingPoints {
        let heaviest = members.iter().map(|backend| backend.weight()).fold(0.0, f64::max);
        // In parts of the greatest, so that no sum overflows; alike, where none weighs anything.
        let part = |backend: &Backend| if heaviest > 0.0 { backend.weight() / heaviest } else { 1.0 };
        let mean = members.iter().map(|backend| part(backend)).sum::<f64>() / members.len() as f64;
        let mut points = Vec::new();
        for (place, backend) in members.iter().enumerate() {
            let times_mean = part(backend) / mean;
            match self.points {
                Points::Hashed(number) => {
                    let number = f64::from(number).min(MOST / members.len() as f64) * times_mean;
                    let at_least = if part(backend) > 0.0 { 1.0 } else { 0.0 };
                    let number = number.round().max(at_least) as u64;
                    points.extend((0..number).map(|n| (mix(backend.id().hash64(), n), place as u32)));
                }
                Points::Ketama => {
                    // The arithmetic of the original: single precision, and double in between.
                    let share = (times_mean / members.len() as f64) as f32;
                    let number = ((f64::from(share) * 40.0 * members.len() as f64) as f32).floor() as u32;
                    let digest = |n| md5::compute(format!("{}-{n}", backend.id())).0;
                    let four = |n| (0..4).map(move |part| (position(digest(n), part), place as u32));
                    points.extend((0..number).flat_map(four));
                }
            }
        }
        points.shrink_to_fit();
        points.sort_unstable();
        RingPoints { points }
    }
}

/// The place on the circle that a part of a digest stands for: 32 bits, little-endian, at the upper end of 64.
fn position(digest: [u8; 16], part: usize) -> u64 {
    digest[4 * part..4 * part + 4].iter().rev().fold(0, |position, &byte| position << 8 | u64::from(byte)) << 32
}

/// The points of a [`Ring`], in order.
#[derive(Clone, Debug)]
pub struct RingPoints {
    points: Vec<(u64, u32)>,
}

impl Table for RingPoints {
    fn first(&self, key: u64, takes: impl Fn(Index) -> bool) -> Option<Index> {
        let (before, after) = self.points.split_at(self.first_at_or_after(key));
        let onwards = after.iter().chain(before).take(STEPS);
        onwards.map(|&(_, place)| Index::new(place as usize)).find(|&index| takes(index))
    }
}

impl RingPoints {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    /// The points are even, so the key tells about where it is: from there a few steps to either side.
    fn first_at_or_after(&self, key: u64) -> usize {
        let n = self.points.len();
        let guess = crate::hash::below(key, n);
        let (mut low, mut high, mut step) = (guess, guess, 8);
        while low > 0 && self.points[low - 1].0 >= key {
            low = low.saturating_sub(step);
            step *= 2;
        }
        while high < n && self.points[high].0 < key {
            high = (high + step).min(n);
            step *= 2;
        }
        low + self.points[low..high].partition_point(|&(position, _)| position < key)
    }
}
