//! Trace context as it travels: 25 bytes, W3C trace-context in binary.

use bytes::Bytes;

/// Which trace and span a message belongs to. All zeros: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span that sent the message.
    pub span_id: [u8; 8],
    /// W3C trace flags; bit 0 means sampled.
    pub flags: u8,
}

impl TraceContext {
    /// Its 25 bytes; none for no trace.
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

    /// The trace in these bytes.
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
