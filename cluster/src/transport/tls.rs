//! Stand-in until the certificates are merged.
use crate::id::NodeId;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
/// X
#[derive(Clone)]
pub struct Trust;
/// X
pub enum SecureStream {
    /// X
    Plain(TcpStream),
}
impl Trust {
    /// X
    pub fn plain() -> Self {
        Self
    }
    /// X
    pub async fn accept(&self, stream: TcpStream) -> Result<(SecureStream, Option<NodeId>), String> {
        Ok((SecureStream::Plain(stream), None))
    }
    /// X
    pub async fn connect(
        &self,
        stream: TcpStream,
        _peer: &NodeId,
    ) -> Result<(SecureStream, Option<NodeId>), String> {
        Ok((SecureStream::Plain(stream), None))
    }
}
impl AsyncRead for SecureStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        b: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Self::Plain(s) = self.get_mut();
        Pin::new(s).poll_read(cx, b)
    }
}
impl AsyncWrite for SecureStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, b: &[u8]) -> Poll<std::io::Result<usize>> {
        let Self::Plain(s) = self.get_mut();
        Pin::new(s).poll_write(cx, b)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Self::Plain(s) = self.get_mut();
        Pin::new(s).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Self::Plain(s) = self.get_mut();
        Pin::new(s).poll_shutdown(cx)
    }
}
