use super::Metrics;

/// The numbers of the fields of `xds.data.orca.v3.OrcaLoadReport` that are read.
const CPU_UTILIZATION: u64 = 1;
const RPS_FRACTIONAL: u64 = 6;
const EPS: u64 = 7;
const NAMED_METRICS: u64 = 8;
const APPLICATION_UTILIZATION: u64 = 9;

/// What a field holds: a number, what is in it, or what no field here holds.
enum Value<'a> {
    Double(f64),
    Bytes(&'a [u8]),
    Other,
}

/// Reads an `OrcaLoadReport`; `None` where the bytes are none.
pub(super) fn read(bytes: &[u8]) -> Option<Metrics> {
    let mut metrics = Metrics::default();
    let mut fields = Fields(bytes);
    while !fields.0.is_empty() {
        match fields.next()? {
            (CPU_UTILIZATION, Value::Double(value)) => metrics.set("cpu_utilization", value),
            (RPS_FRACTIONAL, Value::Double(value)) => metrics.set("rps_fractional", value),
            (EPS, Value::Double(value)) => metrics.set("eps", value),
            (APPLICATION_UTILIZATION, Value::Double(value)) => metrics.set("application_utilization", value),
            (NAMED_METRICS, Value::Bytes(entry)) => {
                let (name, value) = read_entry(entry)?;
                metrics.set_named(name, value);
            }
            _ => {}
        }
    }
    Some(metrics)
}

/// An entry of a map from names to numbers. What is left out is empty, or zero.
fn read_entry(bytes: &[u8]) -> Option<(&str, f64)> {
    let (mut name, mut number) = ("", 0.0);
    let mut fields = Fields(bytes);
    while !fields.0.is_empty() {
        match fields.next()? {
            (1, Value::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
            (2, Value::Double(value)) => number = value,
            _ => {}
        }
    }
    Some((name, number))
}

/// What is left to read of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The number and the value of the next field.
    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => self.varint().map(|_| Value::Other)?,
            1 => Value::Double(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            // Groups, which the message never had, and what does not exist.
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
