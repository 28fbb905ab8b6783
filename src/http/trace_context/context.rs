use http::HeaderValue;
use std::fmt;

/// The place of a request in a trace: which trace, and which span of it the request is in. The `traceparent` of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context-1/#traceparent-header), level 1.
///
/// ```
/// use tower_balancer::http::trace_context::TraceContext;
///
/// let told = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context = TraceContext::parse(told.as_bytes()).unwrap();
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), told);
///
/// let child = context.child();
/// assert_eq!(child.trace_id(), context.trace_id());
/// assert_ne!(child.span_id(), context.span_id());
/// assert_eq!(child.parent_id(), Some(context.span_id()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    parent_id: Option<u64>,
    is_sampled: bool,
}

/// The characters of a `traceparent` of version 00, and of the beginning of every later one.
const LENGTH: usize = 55;

const SAMPLED: u8 = 1;

impl TraceContext {
    /// The first span of a new trace, at random.
    pub fn root(is_sampled: bool) -> Self {
        // Zero is no id.
        Self { trace_id: fastrand::u128(1..), span_id: fastrand::u64(1..), parent_id: None, is_sampled }
    }

    /// What a `traceparent` says; `None` where it is malformed. Of a later version, what this one knows of it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let [version, trace_id, span_id, flags] =
            [(0, 2), (3, 35), (36, 52), (53, 55)].map(|(from, to)| &known[from..to]);
        let version = hex(version)?;
        let is_divided = [2, 35, 52].into_iter().all(|place| known[place] == b'-');
        let is_whole = rest.is_empty() || version > 0 && rest[0] == b'-';
        let (trace_id, span_id) = (hex(trace_id)?, hex(span_id)? as u64);
        let is_valid = is_divided && is_whole && version != 0xff && trace_id != 0 && span_id != 0;
        let is_sampled = hex(flags)? as u8 & SAMPLED != 0;
        is_valid.then_some(Self { trace_id, span_id, parent_id: None, is_sampled })
    }

    /// A new span below this one.
    pub fn child(&self) -> Self {
        Self { span_id: fastrand::u64(1..), parent_id: Some(self.span_id), ..*self }
    }

    /// The trace, not 0.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The span, not 0.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// The span above it, where that is known.
    pub fn parent_id(&self) -> Option<u64> {
        self.parent_id
    }

    /// Whether whoever began the trace wants it to be recorded.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }
}

/// As a `traceparent` of version 00. Of the flags there is the one that level 1 knows.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

/// A number of up to 32 digits, in lower case as the specification has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_malformed_says_nothing() {
        for (text, is_good) in [
            (GOOD, true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true),
            // Flags of the future.
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", true),
            // Versions of the future may have more to say.
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be-like", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what-the-future-will-be-like", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x", false),
            ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01", false),
            ("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011", false),
            ("", false),
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()).is_some(), is_good, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_read_or_not(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            _ = TraceContext::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(trace_id in 1_u128.., span_id in 1_u64.., is_sampled: bool) {
            let context = TraceContext { trace_id, span_id, parent_id: None, is_sampled };
            prop_assert_eq!(TraceContext::parse(context.to_string().as_bytes()), Some(context));
        }
    }
}
