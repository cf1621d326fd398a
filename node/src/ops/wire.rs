//! Wraps the stream that the HTTP server writes to: a client that does not read is disconnected after `STALL_MAX`, and
//! an error response without a body is replaced by a problem.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::refusal;

/// Longest time in which a client may accept no bytes.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);

/// Stream of one connection.
pub(super) struct Wire<T> {
    stream: T,
    /// Timer that runs while the client accepts no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
    has_written: bool,
    /// Remaining bytes of the response that replaces an error response without a body.
    instead: Vec<u8>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    /// Wraps `stream`.
    pub(super) fn new(stream: T) -> Self {
        Self { stream, stalled: None, has_written: false, instead: Vec::new() }
    }

    /// Whether any bytes have been written.
    pub(super) fn has_written(&self) -> bool {
        self.has_written
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) {
            self.stalled = None;
            self.has_written = true;
            return Poll::Ready(written);
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_MAX)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }

    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let bytes = std::mem::take(&mut self.instead);
            let written = self.poll_bytes(context, &bytes);
            self.instead = bytes;
            let written = ready!(written)?;
            self.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_instead(context))?;
        match refusal::spelled_out(bytes) {
            Some(refusal) => {
                this.instead = refusal;
                // Bytes that the stream does not accept now are written by the following flush.
                let _ = this.poll_instead(context)?;
                Poll::Ready(Ok(bytes.len()))
            }
            None => this.poll_bytes(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_instead(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_instead(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
