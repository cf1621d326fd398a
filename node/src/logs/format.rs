//! Formats log events as lines.

use std::fmt;
use std::sync::{Arc, OnceLock};

use alys_cluster::id::NodeId;
use alys_cluster::trace::{TraceContext, current_context};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime as _;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::line::LogLine;
use crate::actors::chain::HeadReader;

/// Formats the log events of one member.
pub(super) struct LineFormat {
    node: String,
    head: Arc<OnceLock<HeadReader>>,
    is_human: bool,
}

impl LineFormat {
    /// Creates a format for the lines of `node`, which include the height of `head` once it is set.
    pub(super) fn new(node: &NodeId, head: Arc<OnceLock<HeadReader>>, is_human: bool) -> Self {
        Self { node: node.to_string(), head, is_human }
    }
}

/// Whether a span is named in the lines within it. Spans of this project say what is being done; those that ractor puts
/// around an actor's whole lifetime, and those of other libraries, would say the same in every line.
fn is_shown(target: &str) -> bool {
    target.starts_with("alys_")
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let trace = Some(current_context()).filter(|trace| trace.is_sampled());
        let mut line = LogLine {
            level: metadata.level().as_str(),
            target: metadata.target().to_owned(),
            node: self.node.clone(),
            height: self.head.get().map(|head| head.head().height),
            trace_id: trace.map(TraceContext::trace_hex),
            span_id: trace.map(TraceContext::span_hex),
            ..LogLine::default()
        };
        tracing_subscriber::fmt::time().format_time(&mut Writer::new(&mut line.timestamp))?;
        event.record(&mut line);
        let spans = context.event_scope().into_iter().flat_map(Scope::from_root);
        line.spans =
            spans.filter(|span| is_shown(span.metadata().target())).map(|span| span.name()).collect();
        let text = if self.is_human { line.to_human(writer.has_ansi_escapes()) } else { line.to_json() };
        writeln!(writer, "{text}")
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use serde_json::Value;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use alys_cluster::trace::{ParentSpan, within_sync};

    use super::*;
    use crate::consensus::BlockHash;
    use crate::ports::Head;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn every_line_names_member_and_height_and_the_spans_that_say_something() {
        let written = Written::default();
        let head = Arc::new(OnceLock::new());
        let lines = LineFormat::new(&NodeId::new("node-1").expect("a name"), head.clone(), false);
        let layer = tracing_subscriber::fmt::layer().with_writer(written.clone()).event_format(lines);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(node = "node-1", "before the chain is there");
            let _ = head.set(HeadReader::new(Head { height: 7, ..Head::genesis([0; 32]) }));
            let life = tracing::info_span!(target: "ractor::actor", "Actor", id = 1);
            let round = tracing::info_span!(target: "alys_node::consensus", "round", secret = "in a span");
            let (_life, _round) = (life.entered(), round.entered());
            let block = BlockHash([7; 32]);
            let part_of = TraceContext::sampled([0xab; 16], [0xcd; 8]);
            within_sync(Some(ParentSpan::local(part_of)), || {
                tracing::warn!(target: "alys_node::consensus", %block, round = 3, node = "node-2", "decided");
            });
        });
        let text = String::from_utf8(written.0.lock().expect("nobody panics").clone()).expect("text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let [before, after] = &lines[..] else { panic!("two lines: {text}") };
        assert_eq!((&before["node"], &before["height"]), (&"node-1".into(), &Value::Null));
        assert_eq!(
            (&before["message"], &before["fields"]),
            (&"before the chain is there".into(), &Value::Null)
        );
        assert_eq!(
            (&after["node"], &after["height"], &after["level"]),
            (&"node-1".into(), &7.into(), &"WARN".into())
        );
        assert_eq!(after["fields"]["node"], "node-2", "another member's name is not this one's");
        assert_eq!(after["fields"]["round"], 3);
        assert_eq!(after["spans"], serde_json::json!(["round"]));
        assert_eq!(
            (&after["trace_id"], &after["span_id"]),
            (&"ab".repeat(16).into(), &"cd".repeat(8).into())
        );
        assert_eq!((&before["trace_id"], &before["span_id"]), (&Value::Null, &Value::Null));
        assert!(!text.contains("in a span"), "{text}");
    }
}
