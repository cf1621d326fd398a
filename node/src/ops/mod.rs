//! The ops API: what an operator reads, over HTTP on loopback, or where the configuration exposes it.
//!
//! It asks actors with a deadline and says so when one does not answer; it decides nothing. [`view`] is the
//! JSON, [`router`] the paths, [`token`] what a caller needs to end the member, and
//! to change anything of one that is exposed.

mod health;
mod links;
mod metrics;
mod problem;
mod registry;
pub mod router;
mod shutdown;
mod supervision;
pub mod token;
mod trace;
pub mod view;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use router::Ops;

/// The running HTTP server.
pub struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `ops` on `listener`.
    pub fn start(listener: TcpListener, ops: Ops) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            // A dropped sender stops the server as well.
            let until = async { drop(stopped.await) };
            if let Err(error) = axum::serve(listener, ops.router()).with_graceful_shutdown(until).await {
                tracing::error!(%error, "the ops API ended");
            }
        });
        Self { stop, task }
    }

    /// Stops accepting and waits a moment for requests under way.
    pub async fn stop(mut self) {
        // If the server has ended already there is nobody to tell.
        let _ = self.stop.send(());
        let grace = std::time::Duration::from_millis(300);
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
