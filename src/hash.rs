//! Hashes that are the same in every process and on every machine: what is hashed alike goes to the same backend,
//! whichever of several balancers it comes through.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The hash of what a request is bound to, for [`Hint::key`](crate::strategy::Hint::key): SipHash-1-3 (Aumasson, Bernstein
/// 2012) with a key of zeros.
///
/// ```
/// assert_eq!(tower_balancer::strategy::hash_key("user-17"), tower_balancer::strategy::hash_key(b"user-17"));
/// ```
pub fn hash_key(bytes: impl AsRef<[u8]>) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes.as_ref());
    hasher.finish()
}

/// A hash of two hashes, in that order: the mixer of SplitMix64 over a product of the one and a turn of the other.
pub(crate) fn mix(one: u64, other: u64) -> u64 {
    let z = one.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ other.rotate_left(32);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `bound` that a hash stands for; 0 where that is 0. Lemire's multiply-and-shift (2019).
pub(crate) fn below(hash: u64, bound: usize) -> usize {
    ((u128::from(hash) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_siphash_1_3() {
        // From a second implementation, in Python: a change here would move every key of every fleet.
        assert_eq!(hash_key(""), 0xd1fb_a762_150c_532c);
        assert_eq!(hash_key("user-17"), 0x5d78_42d9_ede9_6b8d);
    }

    #[test]
    fn both_hashes_and_their_order_count() {
        assert_ne!(mix(1, 2), mix(2, 1));
        assert_ne!(mix(1, 2), mix(1, 3));
        assert!((0..1_000).all(|n| below(mix(n, 7), 3) < 3) && below(u64::MAX, 0) == 0);
    }
}
