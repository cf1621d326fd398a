//! Defines a line of the log and its two formats.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

/// Contents of a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LogLine {
    /// Time of the event, in RFC 3339.
    pub timestamp: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: &'static str,
    /// Target: the part of the program that logs the line.
    pub target: String,
    /// Name of the member.
    pub node: String,
    /// Height of the member's chain; absent while the member starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Trace ID of the line's trace, as 32 hexadecimal digits; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Span ID, as 16 hexadecimal digits; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// Message text.
    pub message: String,
    /// Other fields, by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// Names of the enclosing spans, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<&'static str>,
}

impl LogLine {
    /// Formats the line as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a line has a JSON form")
    }

    /// Formats the line for people: `timestamp LEVEL node@height target: message name=value`.
    pub fn to_human(&self, is_coloured: bool) -> String {
        let (dim, colour, plain) =
            if is_coloured { ("\x1b[2m", colour_of(self.level), "\x1b[0m") } else { ("", "", "") };
        let height = self.height.map(|height| format!("@{height}")).unwrap_or_default();
        let (node, level) = (&self.node, self.level);
        let mut text =
            format!("{dim}{}{plain} {colour}{level:>5}{plain} {node}{height} {dim}", self.timestamp);
        for span in &self.spans {
            text.push_str(span);
            text.push('>');
        }
        push_visible(&mut text, &self.target);
        text.push(':');
        text.push_str(plain);
        text.push(' ');
        push_visible(&mut text, &self.message);
        for (name, value) in &self.fields {
            let _ = write!(text, " {dim}{name}={plain}");
            match value {
                Value::String(value) => push_visible(&mut text, value),
                value => push_visible(&mut text, &value.to_string()),
            }
        }
        // People copy the trace ID into a search for traces.
        if let Some(trace_id) = &self.trace_id {
            let _ = write!(text, " {dim}trace_id={trace_id}{plain}");
        }
        text
    }

    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            // The line already names the member.
            ("node", Value::String(node)) if node == self.node => {}
            // Records of the `log` crate carry their target in a field.
            ("log.target", Value::String(target)) => self.target = target,
            ("log.module_path" | "log.file" | "log.line", _) => {}
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for LogLine {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

fn colour_of(level: &str) -> &'static str {
    match level {
        "ERROR" => "\x1b[31m",
        "WARN" => "\x1b[33m",
        "INFO" => "\x1b[32m",
        "DEBUG" => "\x1b[34m",
        _ => "\x1b[35m",
    }
}

/// Appends `text` with control characters escaped: they could move the terminal's cursor or start a new line.
fn push_visible(to: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            to.extend(character.escape_default());
        } else {
            to.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> LogLine {
        let mut fields = Map::new();
        fields.insert("peer".to_owned(), "node-2".into());
        fields.insert("missed".to_owned(), 3.into());
        LogLine {
            timestamp: "2026-01-02T03:04:05.678901Z".to_owned(),
            level: "WARN",
            target: "alys_cluster::telemetry".to_owned(),
            node: "node-1".to_owned(),
            height: Some(7),
            trace_id: Some("00".repeat(15) + "07"),
            span_id: Some("00".repeat(7) + "05"),
            message: "a \"line\"\nand \x1b[2J more".to_owned(),
            fields,
            spans: vec!["round"],
        }
    }

    #[test]
    fn a_line_for_programs_is_one_json_object() {
        let expected = "{\"timestamp\":\"2026-01-02T03:04:05.678901Z\",\"level\":\"WARN\",\
            \"target\":\"alys_cluster::telemetry\",\"node\":\"node-1\",\"height\":7,\
            \"trace_id\":\"00000000000000000000000000000007\",\"span_id\":\"0000000000000005\",\
            \"message\":\"a \\\"line\\\"\\nand \\u001b[2J more\",\"fields\":{\"missed\":3,\"peer\":\"node-2\"},\
            \"spans\":[\"round\"]}";
        assert_eq!(line().to_json(), expected);
        let fields = Map::new();
        let bare =
            LogLine { height: None, trace_id: None, span_id: None, fields, spans: Vec::new(), ..line() };
        let text = bare.to_json();
        assert!(
            !["height", "trace_id", "span_id", "fields", "spans"].iter().any(|name| text.contains(name)),
            "{text}"
        );
    }

    #[test]
    fn a_line_for_people_stays_one_line_and_leaves_the_terminal_alone() {
        let expected = "2026-01-02T03:04:05.678901Z  WARN node-1@7 round>alys_cluster::telemetry: \
            a \"line\"\\nand \\u{1b}[2J more missed=3 peer=node-2 trace_id=00000000000000000000000000000007";
        assert_eq!(line().to_human(false), expected);
        assert!(line().to_human(true).contains("\x1b[33m WARN\x1b[0m node-1@7"));
    }
}
