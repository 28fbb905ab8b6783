//! As much of protobuf's wire format as is read here.

/// What a field holds: a number, what is in it, or what no field here holds.
pub(super) enum Value<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
    Other,
}

/// What is left to read of a message.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number and the value of the next field; `None` where there is none.
    pub(super) fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Double(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            // Groups, which no message here ever had, and what does not exist.
            _ => return None,
        };
        Some((tag >> 3, value)).filter(|&(number, _)| number > 0)
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = left;
        Some(taken)
    }

    /// Seven bits a byte, the least first; ten bytes at the most, of which the last one's overflow is lost.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
