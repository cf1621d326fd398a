//! Encodes and decodes the trace context: W3C trace-context, as 25 bytes between members and as the header
//! `traceparent` over HTTP.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

/// W3C trace flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// Trace id and span id. All zeros means no trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Id of the trace.
    pub trace_id: [u8; 16],
    /// Id of the span.
    pub span_id: [u8; 8],
    /// W3C trace flags; bit 0 means sampled.
    pub flags: u8,
}

/// Why a text is not a valid `traceparent` header.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("traceparent is {0:?}; expected 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, ids not all zero")]
pub struct NotATraceParent(String);

impl TraceContext {
    /// The context of a span in a recorded trace.
    pub fn sampled(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        Self { trace_id, span_id, flags: SAMPLED }
    }

    /// Whether it is valid and its trace is recorded.
    pub fn is_sampled(self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8] && self.flags & SAMPLED != 0
    }

    /// The context of another span in the same trace.
    #[must_use]
    pub fn with_span(self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self }
    }

    /// Trace id as 32 hexadecimal digits.
    pub fn trace_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace_id))
    }

    /// Span id as 16 hexadecimal digits.
    pub fn span_hex(self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.span_id))
    }

    /// Encodes the context as 25 bytes; no bytes for no trace.
    pub fn to_bytes(self) -> Bytes {
        if self == Self::default() {
            return Bytes::new();
        }
        let mut bytes = [0; 25];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = self.flags;
        Bytes::copy_from_slice(&bytes)
    }

    /// Decodes a context from `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first_chunk::<16>() {
            None if bytes.is_empty() => Ok(Self::default()),
            Some((trace_id, [span_id @ .., flags])) if span_id.len() == 8 => {
                let span_id = span_id.try_into().expect("eight bytes");
                Ok(Self { trace_id: *trace_id, span_id, flags: *flags })
            }
            _ => Err(format!("a trace of {} bytes; expected none or 25", bytes.len())),
        }
    }
}

/// Writes the `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_hex(), self.span_hex(), self.flags)
    }
}

/// Parses the `traceparent` header. Versions after 00 may have additional fields, which are ignored, as W3C specifies.
impl FromStr for TraceContext {
    type Err = NotATraceParent;

    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        parse(text).ok_or_else(|| {
            let mut shown = text.to_owned();
            shown.truncate(text.floor_char_boundary(64));
            NotATraceParent(shown)
        })
    }
}

fn parse(text: &str) -> Option<TraceContext> {
    let mut fields = text.split('-');
    let version = number(fields.next()?, 2)?;
    let trace_id: [u8; 16] = number(fields.next()?, 32)?.to_be_bytes();
    let span_id = (number(fields.next()?, 16)? as u64).to_be_bytes();
    let flags = number(fields.next()?, 2)? as u8;
    let is_whole = if version == 0 { fields.next().is_none() } else { version != 0xff };
    (is_whole && trace_id != [0; 16] && span_id != [0; 8]).then_some(TraceContext {
        trace_id,
        span_id,
        flags,
    })
}

/// Parses exactly `count` lower-case hexadecimal digits.
fn number(digits: &str, count: usize) -> Option<u128> {
    let is_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && digits.len() == count { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_goes_through_the_header_and_the_bytes_unchanged() {
        let context = TraceContext::sampled([0xab; 16], [0x0c; 8]);
        let header = "00-abababababababababababababababab-0c0c0c0c0c0c0c0c-01";
        assert_eq!(context.to_string(), header);
        assert_eq!(header.parse(), Ok(context));
        assert_eq!(TraceContext::of_bytes(&context.to_bytes()), Ok(context));
        assert!(context.is_sampled());
        // A future version may have more fields.
        assert_eq!(format!("01{}-more", &header[2..]).parse(), Ok(context));
    }

    #[test]
    fn a_header_that_is_none_is_named() {
        let good = "00-abababababababababababababababab-0c0c0c0c0c0c0c0c-01";
        let zero = good.replace("ab", "00");
        let bad = [
            "",
            "00",
            &good[1..],
            &good.to_uppercase(),
            &good.replace("0c", "00"),
            &zero,
            &format!("{good}-more"),
            &format!("ff{}", &good[2..]),
            &good.replace('c', "é"),
            &"+".repeat(10_000),
        ];
        for text in bad {
            let refused = text.parse::<TraceContext>().expect_err(text);
            assert!(refused.to_string().starts_with("traceparent is \""), "{refused}");
            assert!(refused.to_string().len() < 250, "{refused}");
        }
        assert!(!TraceContext::default().is_sampled());
        let unsampled: TraceContext = good.replace("-01", "-00").parse().expect("well-formed");
        assert!(!unsampled.is_sampled());
    }
}
