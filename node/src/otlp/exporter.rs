//! Exports spans to the collector: a queue, and the task that sends.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_cluster::clock::{Clock, Moment};
use alys_cluster::id::NodeId;
use alys_cluster::telemetry::spans::{Lost, SpanCounters};
use alys_cluster::trace::{Span, SpanKind, SpanSink, Tracer};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::encode::{self, Timed};
use super::settings::OtlpSettings;
use crate::Tracing;

/// Maximum number of queued spans. If the queue is full, new spans are lost.
const QUEUE_MAX: usize = 4_096;
/// Queue length from which on spans of requests and messages are lost.
const CAUSED_MAX: usize = QUEUE_MAX / 2;
/// Maximum number of spans in one request.
const BATCH_MAX: usize = 512;
/// How long spans wait for others to share their request.
const LINGER: Duration = Duration::from_millis(200);
/// Deadline for the collector to accept a connection, and to answer a request.
const DEADLINE: Duration = Duration::from_secs(2);
/// Keepalive: if the collector sends nothing for this long while a response is due, it is pinged; if it does not answer
/// that for as long again, the connection is closed. Otherwise a collector whose host or network is gone would be
/// waited for until the system closes the connection, a quarter of an hour later.
const SILENCE: Duration = Duration::from_secs(1);
/// Number of attempts per request before its spans are lost, and the pause between attempts.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Queue of the spans.
struct Queue {
    waiting: Mutex<VecDeque<Timed>>,
    filled: Notify,
    /// Number of spans taken from the queue that the collector does not have yet.
    in_hand: AtomicUsize,
    is_ending: AtomicBool,
    counters: Arc<SpanCounters>,
    clock: Arc<dyn Clock>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Timed>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Timed> {
        let mut waiting = self.waiting();
        let count = waiting.len().min(BATCH_MAX);
        self.in_hand.store(count, Ordering::Release);
        waiting.drain(..count).collect()
    }
}

impl SpanSink for Queue {
    fn record(&self, spans: Vec<Span>) {
        let origin = self.clock.since_epoch().saturating_sub(self.clock.now().since(Moment::ORIGIN));
        // Spans that callers cause, as fast as they like, leave space for the member's own.
        let is_caused = spans.iter().all(|span| matches!(span.kind, SpanKind::Server | SpanKind::Consumer));
        let most = if is_caused { CAUSED_MAX } else { QUEUE_MAX };
        let mut waiting = self.waiting();
        let room = most.saturating_sub(waiting.len());
        let lost = spans.len().saturating_sub(room);
        waiting.extend(spans.into_iter().take(room).map(|span| Timed { span, origin }));
        drop(waiting);
        self.counters.lost(Lost::QueueFull, lost as u64);
        self.filled.notify_one();
    }
}

/// Exports spans to a collector until it is finished or dropped.
pub struct Exporter {
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Exporter {
    /// Starts to export the spans of `node` as `settings` say. Does not wait for the collector.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(settings: &OtlpSettings, node: &NodeId, clock: Arc<dyn Clock>) -> Self {
        let counters = Arc::default();
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            filled: Notify::new(),
            in_hand: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            counters,
            clock,
        });
        let endpoint = Endpoint::from(settings.endpoint.clone())
            .connect_timeout(DEADLINE)
            .timeout(DEADLINE)
            .http2_keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE);
        let sender = Sender {
            queue: queue.clone(),
            client: TraceServiceClient::new(endpoint.connect_lazy()),
            resource: encode::resource(&settings.service, node.as_str()),
        };
        let task = tokio::spawn(sender.run());
        Self { queue, task }
    }

    /// The tracer that records into the queue, and the counters of its spans.
    pub fn tracing(&self) -> Tracing {
        Tracing { tracer: Tracer::to(self.queue.clone()), spans: self.queue.counters.clone() }
    }

    /// Sends the queued spans for at most `within`; the rest is lost and counted.
    pub async fn finish(mut self, within: Duration) {
        self.queue.is_ending.store(true, Ordering::Release);
        self.queue.filled.notify_one();
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            self.task.abort();
            // The aborted task still runs to its next await, and counts the spans it sends until then.
            let _ = (&mut self.task).await;
        }
        let left = self.queue.waiting().drain(..).count() + self.queue.in_hand.load(Ordering::Acquire);
        self.queue.counters.lost(Lost::Ended, left as u64);
    }
}

/// Whether a collector that responds with this code would reject the same request later too, by OTLP's definition. A
/// collector that is only overloaded may accept it.
fn is_final(code: Code) -> bool {
    !matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            // Codes of the channel itself if it receives no response.
            | Code::Unknown
            | Code::Internal
    )
}

/// State of the task.
struct Sender {
    queue: Arc<Queue>,
    client: TraceServiceClient<Channel>,
    resource: Resource,
}

impl Sender {
    async fn run(mut self) {
        loop {
            if !self.is_ending() {
                self.queue.filled.notified().await;
            }
            if !self.is_ending() {
                tokio::time::sleep(LINGER).await;
            }
            // Nobody waits for spans that are recorded after this check.
            let is_last = self.is_ending();
            loop {
                let batch = self.queue.take();
                if batch.is_empty() {
                    break;
                }
                self.send(batch).await;
                self.queue.in_hand.store(0, Ordering::Release);
            }
            if is_last {
                return;
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.queue.is_ending.load(Ordering::Acquire)
    }

    async fn send(&mut self, batch: Vec<Timed>) {
        let count = batch.len() as u64;
        let request = encode::request(&self.resource, batch);
        for attempt in 1..=ATTEMPTS {
            let exported = self.client.export(request.clone()).await;
            match exported {
                Ok(response) => {
                    let refused = response.into_inner().partial_success;
                    let refused =
                        refused.map_or(0, |partial| partial.rejected_spans.max(0) as u64).min(count);
                    self.queue.counters.exported(count - refused);
                    self.queue.counters.lost(Lost::Refused, refused);
                    return;
                }
                // A retry would get the same response.
                Err(error) if is_final(error.code()) => {
                    tracing::debug!(attempt, %error, "spans were refused");
                    self.queue.counters.lost(Lost::Refused, count);
                    return;
                }
                Err(error) => tracing::debug!(attempt, %error, "spans were not taken"),
            }
            if self.is_ending() {
                break;
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.queue.counters.lost(Lost::Unreachable, count);
    }
}
