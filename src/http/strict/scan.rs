//! Looks for a byte, eight at a time: lines are too short for anything that has to be prepared.

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// A high bit for each byte that is `byte`; none is missed, and the lowest is right (Mycroft 1987).
#[inline]
fn equal(word: [u8; 8], byte: u8) -> u64 {
    let differs = u64::from_le_bytes(word) ^ (ONES * u64::from(byte));
    differs.wrapping_sub(ONES) & !differs & HIGHS
}

/// Where `byte` is first.
#[inline]
pub(super) fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = equal(*word, byte);
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|&other| other == byte).map(|at| words.len() * 8 + at)
}

/// Whether all is ASCII, and nothing is `byte`.
#[inline]
pub(super) fn is_ascii_without(bytes: &[u8], byte: u8) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let bad = words.iter().fold(0, |bad, word| bad | (u64::from_le_bytes(*word) & HIGHS) | equal(*word, byte));
    bad == 0 && rest.iter().all(|&other| other.is_ascii() && other != byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_a_plain_search_finds() {
        let mut rng = crate::Rng::new(1);
        for _ in 0..10_000 {
            // Few different bytes, and those that a carry could mistake for another.
            let bytes: Vec<_> = (0..rng.below(80)).map(|_| [b'\n', 11, 9, 0x8a, 0x0b, b'a', 0][rng.below(7)]).collect();
            assert_eq!(find(&bytes, b'\n'), bytes.iter().position(|&byte| byte == b'\n'), "{bytes:?}");
            let plain = bytes.is_ascii() && !bytes.contains(&b'\n');
            assert_eq!(is_ascii_without(&bytes, b'\n'), plain, "{bytes:?}");
        }
    }
}
