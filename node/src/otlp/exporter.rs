//! The queue of spans, and the task that takes them to the collector.

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

/// Spans that wait for the collector. More, and the newest are lost.
const QUEUE_MAX: usize = 4_096;
/// Of these, spans of requests and of messages: more that wait already, and another one is lost.
const CAUSED_MAX: usize = QUEUE_MAX / 2;
/// Spans in one request.
const BATCH_MAX: usize = 512;
/// How long spans wait for others to go with them.
const LINGER: Duration = Duration::from_millis(200);
/// The longest a collector is waited for, to take a connection and to take a request.
const DEADLINE: Duration = Duration::from_secs(2);
/// A connection on which nothing comes back for so long, while an answer is due, is asked for a sign of life; one that
/// gives none for as long again is given up. Without, a collector that is gone without a word, its host or its network,
/// would be waited for until the system gives the connection up, a quarter of an hour later.
const SILENCE: Duration = Duration::from_secs(1);
/// How often a request is tried before its spans are lost, and the pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What waits.
struct Queue {
    waiting: Mutex<VecDeque<Timed>>,
    filled: Notify,
    /// Taken out of it, and not yet with the collector.
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
        // What callers cause, as fast as they like, leaves room for what the member does by itself.
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

/// Takes spans to a collector until it is finished or dropped.
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
    /// Begins to take the spans of `node` where `settings` say. Does not wait for the collector to be there.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
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

    /// Takes spans, and counts what becomes of them.
    pub fn tracing(&self) -> Tracing {
        Tracing { tracer: Tracer::to(self.queue.clone()), spans: self.queue.counters.clone() }
    }

    /// Sends what waits, for as long as `within`; what is left then is lost, and counted.
    pub async fn finish(mut self, within: Duration) {
        self.queue.is_ending.store(true, Ordering::Release);
        self.queue.filled.notify_one();
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            self.task.abort();
            // It is somewhere between two awaits still, and counts what it gets done until the next.
            let _ = (&mut self.task).await;
        }
        let left = self.queue.waiting().drain(..).count() + self.queue.in_hand.load(Ordering::Acquire);
        self.queue.counters.lost(Lost::Ended, left as u64);
    }
}

/// Whether a collector that answers this will not take the same request later either, as OTLP has it. One that has too
/// much on hand now may.
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
            // What the channel itself answers when it does not come to an answer.
            | Code::Unknown
            | Code::Internal
    )
}

/// The task's own.
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
            // What is told after this look is told to nobody who waits for it.
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
                // Asked again, it would say the same.
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
