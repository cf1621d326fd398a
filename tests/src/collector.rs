//! An OpenTelemetry collector that can be killed: it receives traces by OTLP over gRPC, with OpenTelemetry's own
//! message and service types.

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

/// A received span, and the process that sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Resource attribute `service.instance.id`.
    pub node: String,
    /// The span.
    pub span: OtlpSpan,
}

impl Taken {
    /// Text value of an attribute; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        text(&self.span.attributes, key)
    }

    /// Integer value of an attribute.
    pub fn number(&self, key: &str) -> Option<i64> {
        let found = self.span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::IntValue(number) => Some(*number),
            _ => None,
        }
    }

    /// Duration of the span, in nanoseconds.
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

/// How the collector answers an export request.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Accepts all spans.
    Takes,
    /// Accepts all but this number of spans, and reports a partial success.
    TakesAllBut(i64),
    /// Rejects the request with this status code.
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

/// A running collector. Dropping it kills it and closes every connection.
pub struct Collector {
    address: SocketAddr,
    store: Store,
    runtime: Option<Runtime>,
}

impl Collector {
    /// Starts a collector on loopback, in its own runtime.
    ///
    /// # Panics
    ///
    /// If no thread or port is available.
    pub fn start() -> Self {
        Self::of_manner(Manner::Takes)
    }

    /// Starts a collector that answers as `manner` says.
    ///
    /// # Panics
    ///
    /// If no thread or port is available.
    pub fn of_manner(manner: Manner) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), manner).expect("a port")
    }

    /// Starts an empty collector on the same address.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound, for example because the port is not free yet.
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

    /// Value for the members' `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Spans received so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops at once and closes every connection; received spans are kept.
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
    /// Spans recorded so far.
    pub fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl SpanSink for Memory {
    fn record(&self, spans: Vec<Span>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
    }
}
