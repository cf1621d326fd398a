//! Counts the bytes that were read, so that partly received frames count as activity.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// A reader that counts the bytes it has read.
pub(super) struct Counted<R> {
    reader: R,
    bytes: u64,
}

impl<R> Counted<R> {
    /// Wraps `reader`; the count starts at zero.
    pub(super) fn new(reader: R) -> Self {
        Self { reader, bytes: 0 }
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.reader).poll_read(context, into);
        self.bytes += (into.filled().len() - before) as u64;
        read
    }
}
