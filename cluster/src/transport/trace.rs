//! Trace context as it travels: 25 bytes, W3C trace-context in binary.

use serde::{Deserialize, Serialize};

/// Which trace and span a message belongs to. All zeros: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span that sent the message.
    pub span_id: [u8; 8],
    /// W3C trace flags; bit 0 means sampled.
    pub flags: u8,
}
