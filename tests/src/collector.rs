//! A collector of traces that can be killed: OTLP over gRPC, by the messages and the service of OpenTelemetry itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use alys_cluster::trace::{Span, SpanSink};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

/// A span, and which process told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// `service.instance.id`.
    pub node: String,
    /// The span.
    pub span: OtlpSpan,
}

impl Taken {
    /// The text of an attribute; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        text(&self.span.attributes, key)
    }

    /// The number of an attribute.
    pub fn number(&self, key: &str) -> Option<i64> {
        let found = self.span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::IntValue(number) => Some(*number),
            _ => None,
        }
    }

    /// How long it took, in nanoseconds.
    pub fn nanos(&self) -> u64 {
        self.span.end_time_unix_nano - self.span.start_time_unix_nano
    }
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

type Store = Arc<Mutex<Vec<Taken>>>;

/// What a collector does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// It takes all of it.
    Takes,
    /// It takes all but so many spans, and says so.
    TakesAllBut(i64),
    /// It answers by this error.
    Refuses(Code),
}

struct Service(Store, Manner);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let refused = match self.1 {
            Manner::Takes => 0,
            Manner::TakesAllBut(refused) => refused,
            Manner::Refuses(code) => return Err(Status::new(code, "no")),
        };
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for process in request.into_inner().resource_spans {
            let resource = process.resource.unwrap_or_default();
            let node = text(&resource.attributes, "service.instance.id");
            let spans = process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            store.extend(spans.map(|span| Taken { node: node.to_owned(), span }));
        }
        let partial = ExportTracePartialSuccess { rejected_spans: refused, ..Default::default() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: (refused > 0).then_some(partial) }))
    }
}

/// The collector. Dropping it kills it, with every connection.
pub struct Collector {
    address: SocketAddr,
    store: Store,
    runtime: Option<Runtime>,
}

impl Collector {
    /// A collector on loopback, in a runtime of its own.
    ///
    /// # Panics
    ///
    /// If the system has no thread or no port for it.
    pub fn start() -> Self {
        Self::of_manner(Manner::Takes)
    }

    /// A collector that is not as it should be.
    ///
    /// # Panics
    ///
    /// If the system has no thread or no port for it.
    pub fn of_manner(manner: Manner) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), manner).expect("a port")
    }

    /// Starts again where it was, with nothing taken yet. An error as long as the port is not free.
    ///
    /// # Errors
    ///
    /// If the system says so.
    pub fn again(&self) -> std::io::Result<Self> {
        Self::at(self.address, Manner::Takes)
    }

    fn at(address: SocketAddr, manner: Manner) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let store = Store::default();
        let service = TraceServiceServer::new(Service(store.clone(), manner));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await
        });
        Ok(Self { address, store, runtime: Some(runtime) })
    }

    /// What members name in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was taken so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends at once, with every connection; what was taken is kept.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Keeps spans in memory.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Vec<Span>>);

impl Memory {
    /// What was told so far.
    pub fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SpanSink for Memory {
    fn record(&self, spans: Vec<Span>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
    }
}
