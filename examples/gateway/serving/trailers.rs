//! Trailers over HTTP/2 that begin with a pseudo-header. They are malformed (RFC 9113, section 8.1), and what reads the frames drops
//! the pseudo-header without a word.

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What is known of the header blocks on a connection.
#[derive(Debug, Default)]
pub struct Trailers {
    /// The latest stream on which there was one: the second on a stream are trailers.
    latest: u32,
    /// How many bytes of the frame come before their first field.
    skip: Option<usize>,
}

impl Trailers {
    /// A frame begins.
    pub fn begin(&mut self, kind: u8, flags: u8, stream: u32) {
        match kind {
            HEADERS => {
                let before = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
                self.skip = (stream <= self.latest).then_some(before);
                self.latest = self.latest.max(stream);
            }
            // It may bring the first field.
            CONTINUATION => {}
            // They were empty.
            _ => self.skip = None,
        }
    }

    /// Whether what comes of its payload shows that they are malformed.
    pub fn are_malformed(&mut self, payload: &[u8]) -> bool {
        let Some(skip) = self.skip else { return false };
        match payload.get(skip) {
            None => {
                self.skip = Some(skip - payload.len());
                false
            }
            Some(&field) => {
                self.skip = None;
                is_pseudo(field)
            }
        }
    }
}

/// Whether a field that begins so has one of the first fourteen names of the static table, which are all that begin with a colon
/// (RFC 7541, sections 6.1, 6.2 and appendix A). One that a client has put into the dynamic table is not known here, nor one after a change of that table's size or after padding alone.
fn is_pseudo(field: u8) -> bool {
    let name = match field {
        0x80.. => field & 0x7f,
        0x40.. => field & 0x3f,
        0x20.. => 0,
        _ => field & 0x0f,
    };
    (1..=14).contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_a_second_block_is_looked_at_wherever_it_is_cut() {
        let malformed = |flags: u8, block: &[u8]| {
            let mut trailers = Trailers::default();
            trailers.begin(HEADERS, 0, 1);
            assert!(!trailers.are_malformed(&[0x82, 0x86]), "of a request they are as they should be");
            trailers.begin(0, 0, 1);
            trailers.begin(HEADERS, flags, 1);
            let mut bytes = block.chunks(1);
            bytes.any(|byte| trailers.are_malformed(byte))
        };
        for pseudo in [0x81, 0x8e, 0x42, 0x01, 0x1e] {
            assert!(malformed(0, &[pseudo]), "{pseudo:x}");
            assert!(malformed(PADDED | PRIORITY, &[1, 0x82, 0x82, 0x82, 0x82, 0x82, pseudo]), "{pseudo:x}");
        }
        // Of empty ones there is no field, unless the block goes on.
        for (next, is_malformed) in [(0, false), (CONTINUATION, true)] {
            let mut trailers = Trailers::default();
            for kind in [HEADERS, HEADERS, next] {
                trailers.begin(kind, 0, 1);
            }
            assert_eq!(trailers.are_malformed(&[0x82]), is_malformed);
        }
        for other in [0x80, 0x8f, 0x4f, 0x40, 0x00, 0x10, 0x0f, 0x3f, 0xbe] {
            assert!(!malformed(0, &[other, 0x82]), "{other:x}");
        }
    }
}
