//! The two messages of `grpc.health.v1.Health/Check`, each as the one message of a stream: a flag for compression, a length.

use super::protobuf::{Fields, Value};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A `HealthCheckRequest`, whose field 1 is the service.
pub(super) fn framed(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    // What is empty is left out.
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.unsplit(message);
    frame.freeze()
}

/// Field 1 of the `HealthCheckResponse` in `stream`; 0 where it is left out.
pub(super) fn serving_status(mut stream: &[u8]) -> Option<u64> {
    let compressed = stream.try_get_u8().ok()?;
    let length = stream.try_get_u32().ok()?;
    if compressed != 0 || stream.len() != usize::try_from(length).ok()? {
        return None;
    }
    let mut fields = Fields::of(stream);
    let mut status = 0;
    while !fields.is_empty() {
        if let (1, Value::Varint(value)) = fields.next()? {
            status = value;
        }
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_framed_as_a_message() {
        assert_eq!(framed(""), [0, 0, 0, 0, 0][..]);
        assert_eq!(framed("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b'][..]);
        let long = framed(&"a".repeat(300));
        assert_eq!((&long[..8], long.len()), (&[0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02][..], 308));
    }

    #[test]
    fn the_answer_is_read_whatever_else_is_in_it() {
        for (stream, status) in [
            (&[0, 0, 0, 0, 2, 0x08, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 0x08, 2], Some(2)),
            (&[0, 0, 0, 0, 4, 0x08, 3, 0x08, 1], Some(1)),
            (&[], None),
            (&[0, 0, 0, 0], None),
            (&[1, 0, 0, 0, 2, 0x08, 1], None),
            (&[0, 0, 0, 0, 3, 0x08, 1], None),
            (&[0, 0, 0, 0, 1, 0x08, 1], None),
            (&[0, 0, 0, 0, 1, 0x08], None),
        ] {
            assert_eq!(serving_status(stream), status, "{stream:?}");
        }
    }
}
