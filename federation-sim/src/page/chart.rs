//! Draws a period of a run: the steps, each member's process, gate and blocks, and the time between blocks.
//!
//! ```text
//!            │ kill node-4                 labels
//! ───────────▼───────────────────── 0 s    axis
//! node-1  process ██████████████████
//!         gate    ▁▁▁▁▁▁▁▁██▁▁▁▁▁▁▁▁       an open gate is a low line, a closed one a tall bar
//!         blocks  | | | |     | | |
//! …
//! blocks' distance  ▂ ▂ ▂ ▂ █ ▂ ▂          on the same axis
//! ```
//!
//! Everything shown by a colour is also shown by a shape, a pattern or a word.

use std::fmt::{self, Write as _};

use alys_node::ops::view::GateDecision;

use crate::page::escape::Text;
use crate::page::is_fault;
use crate::page::label::{self, Wish};
use crate::page::lane::{self, Kind, Stretch};
use crate::page::scale::{Scale, seconds};
use crate::report::{MemberLine, Report, StepLine};
use crate::timeline::MemberState;

const WIDTH: f64 = 1_220.0;
/// Minimum and maximum width for names and strip labels, and the part of it for the labels.
const LEFT: std::ops::RangeInclusive<f64> = 150.0..=400.0;
const STRIP_LABELS: f64 = 62.0;
const RIGHT: f64 = 1_160.0;
/// Font sizes, and the number and height of the label rows above the axis.
const SIZE: f64 = 12.0;
const SMALL: f64 = 11.0;
const NAME: f64 = 14.0;
const LABEL_ROWS: usize = 5;
const LABEL_ROW: f64 = 17.0;
/// Height of one member's lane, and of its strips.
const LANE: f64 = 68.0;
const PROCESS: f64 = 20.0;
const GATE: f64 = 18.0;
const BLOCKS: f64 = 10.0;
const STRIP_GAP: f64 = 3.0;
/// Height of the chart of block intervals.
const INTERVALS: f64 = 72.0;
/// Minimum distance between bars or marks; closer ones are drawn as one.
const APART_MIN: f64 = 1.5;
/// Height of the interval chart in block times; longer intervals exceed the chart and are labelled with their length.
const INTERVAL_TOP: u64 = 3;

/// A drawing of one period.
pub(super) struct Chart<'a> {
    pub(super) report: &'a Report,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// Identifier, unique in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
}

/// A step that is marked on the axis.
struct Event<'a> {
    x: f64,
    step: &'a StepLine,
    place: Option<label::LabelPlace>,
}

/// Writes the legend, once for all drawings.
pub(super) fn legend(html: &mut String) -> fmt::Result {
    html.push_str("<svg width=\"0\" height=\"0\" aria-hidden=\"true\" class=\"defs\"><defs>");
    let pattern = |id: &str, inner: &str| {
        format!(
            "<pattern id=\"{id}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">{inner}</pattern>"
        )
    };
    html.push_str(&pattern("p-slant", "<path d=\"M-2 10 10-2M-2 2 2-2M6 10l4-4\"/>"));
    html.push_str(&pattern("p-cross", "<path d=\"M0 0 8 8M8 0 0 8\"/>"));
    html.push_str(&pattern(
        "p-dots",
        "<circle cx=\"2\" cy=\"2\" r=\"1.3\"/><circle cx=\"6\" cy=\"6\" r=\"1.3\"/>",
    ));
    html.push_str(&pattern("p-bars", "<path d=\"M1 0V8M5 0V8\"/>"));
    html.push_str("</defs></svg>\n<ul class=\"legend\">");
    for life in MemberState::ALL {
        let name = life.as_str();
        let told = match life {
            MemberState::Silent => "silent: no full answer",
            MemberState::Ended => "ended by itself",
            _ => name,
        };
        write!(
            html,
            "<li><svg width=\"26\" height=\"14\" aria-hidden=\"true\"><rect class=\"life {name}\" width=\"26\" height=\"14\"/>\
             <rect class=\"over {name}\" width=\"26\" height=\"14\"/></svg>{told}</li>"
        )?;
    }
    html.push_str(
        "<li><svg width=\"26\" height=\"14\" aria-hidden=\"true\"><rect class=\"gate open\" y=\"9\" width=\"26\" height=\"5\"/></svg>gate open (low)</li>\
         <li><svg width=\"26\" height=\"14\" aria-hidden=\"true\"><rect class=\"gate closed\" width=\"26\" height=\"14\"/></svg>gate closed (high)</li>\
         <li><svg width=\"14\" height=\"14\" aria-hidden=\"true\"><path class=\"mark fault\" d=\"M1 2h12L7 13z\"/></svg>fault</li>\
         <li><svg width=\"14\" height=\"14\" aria-hidden=\"true\"><circle class=\"mark other\" cx=\"7\" cy=\"7\" r=\"4\"/></svg>other step</li>\
         <li><svg width=\"14\" height=\"14\" aria-hidden=\"true\"><path class=\"restart\" d=\"M7 1l6 6-6 6-6-6z\"/></svg>actor failed</li>\
         </ul>\n",
    );
    Ok(())
}

impl Chart<'_> {
    /// Writes the drawing.
    pub(super) fn write(&self, html: &mut String) -> fmt::Result {
        let scale = Scale { from_ms: self.from_ms, to_ms: self.to_ms, left: self.left(), right: RIGHT };
        let events = self.events(scale);
        let rows = events.iter().filter_map(|event| event.place.as_ref()).map(|place| place.row + 1).max();
        let axis = rows.unwrap_or(0) as f64 * LABEL_ROW + 40.0;
        let lanes = axis + 14.0;
        let intervals = lanes + self.report.members.len() as f64 * LANE + 12.0;
        let height = intervals + INTERVALS + 14.0;
        let id = self.id;
        writeln!(
            html,
            "<div class=\"chart\"><svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
             <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>",
            Text(self.title),
            Text(&self.description()),
        )?;
        self.axis(html, scale, axis, intervals + INTERVALS)?;
        for (index, member) in self.report.members.iter().enumerate() {
            self.member(html, scale, member, lanes + index as f64 * LANE)?;
        }
        self.intervals(html, scale, intervals)?;
        Self::marks(html, &events, axis, intervals + INTERVALS)?;
        html.push_str("</svg></div>\n");
        Ok(())
    }

    /// Position of the start of the axis: right of the longest name, within [`LEFT`].
    fn left(&self) -> f64 {
        let names = self.report.members.iter().map(|member| label::width(&member.name, NAME));
        (names.fold(0.0, f64::max) + STRIP_LABELS).clamp(*LEFT.start(), *LEFT.end())
    }

    /// Describes the drawing in words, for readers who cannot see it. The tables below contain the rest.
    fn description(&self) -> String {
        let lives = |member: &MemberLine| {
            let stretches = lane::lives(member, self.from_ms, self.to_ms);
            let not_up =
                stretches.iter().filter(|stretch| stretch.kind != Kind::MemberState(MemberState::Up));
            let told: Vec<_> = not_up
                .take(8)
                .map(|stretch| format!("{} for {}", word(stretch.kind), seconds(stretch.length_ms())))
                .collect();
            let told = if told.is_empty() { "up all the time".to_owned() } else { told.join(", ") };
            format!("{}: {told}", member.name)
        };
        let members: Vec<_> = self.report.members.iter().map(lives).collect();
        format!("From {} to {}. {}.", seconds(self.from_ms), seconds(self.to_ms), members.join("; "))
    }

    fn events(&self, scale: Scale) -> Vec<Event<'_>> {
        // A step exactly at the end of a section belongs to the next section.
        let is_here =
            |at_ms: u64| scale.shows(at_ms) && (at_ms < self.to_ms || self.to_ms >= self.report.duration_ms);
        let mut steps: Vec<_> =
            self.report.steps.iter().filter(|step| step.acts && is_here(step.at_ms)).collect();
        steps.sort_by_key(|step| step.at_ms);
        let is_told =
            |step: &StepLine| !matches!(step.kind.as_str(), "submit" | "pairs" | "upgrade" | "audit");
        let told: Vec<_> = steps.iter().copied().filter(|step| is_told(step)).collect();
        let wishes: Vec<_> =
            told.iter().map(|step| Wish { x: scale.x(step.at_ms) + 4.0, texts: texts(step) }).collect();
        let mut places = label::place(&wishes, SIZE, LABEL_ROWS, WIDTH).into_iter();
        let event = |step: &'_ StepLine| is_told(step).then(|| places.next().flatten()).flatten();
        let places: Vec<_> = steps.iter().copied().map(event).collect();
        steps
            .into_iter()
            .zip(places)
            .map(|(step, place)| Event { x: scale.x(step.at_ms), step, place })
            .collect()
    }

    fn axis(&self, html: &mut String, scale: Scale, y: f64, bottom: f64) -> fmt::Result {
        for mark in scale.marks() {
            writeln!(
                html,
                "<path class=\"grid\" d=\"M{0:.1} {y:.1}V{bottom:.1}\"/><text class=\"small\" x=\"{0:.1}\" y=\"{1:.1}\" \
                 text-anchor=\"middle\">{2}</text>",
                mark.x,
                y - 14.0,
                mark.label,
            )?;
        }
        writeln!(html, "<path class=\"axis\" d=\"M{0:.1} {y:.1}H{RIGHT}\"/>", scale.left)?;
        if self.to_ms == self.from_ms {
            writeln!(
                html,
                "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">no time passed</text>",
                scale.left,
                y + 12.0
            )?;
        }
        Ok(())
    }

    fn marks(html: &mut String, events: &[Event<'_>], axis: f64, bottom: f64) -> fmt::Result {
        let mut last = f64::NEG_INFINITY;
        for Event { x, step, place } in events {
            let fault = is_fault(step);
            let class = if fault { "fault" } else { "other" };
            let title = format!("{} at {}", step.step, seconds(step.at_ms));
            // Marks at the same position are drawn once; a text always has its line.
            if place.is_none() && x - last < APART_MIN {
                continue;
            }
            last = *x;
            writeln!(html, "<g class=\"event {class}\"><title>{}</title>", Text(&title))?;
            if let Some(place) = place {
                let baseline = axis - 40.0 - place.row as f64 * LABEL_ROW + 8.0;
                writeln!(
                    html,
                    "<path class=\"leader\" d=\"M{x:.1} {:.1}V{:.1}M{x:.1} {:.1}V{bottom:.1}\"/>\
                     <text class=\"label\" x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
                    baseline - 10.0,
                    axis - 25.0,
                    axis,
                    x + 4.0,
                    Text(&place.text),
                )?;
            }
            if fault {
                writeln!(
                    html,
                    "<path class=\"mark fault\" d=\"M{:.1} {:.1}h10l-5 9z\"/>",
                    x - 5.0,
                    axis - 9.0
                )?;
            } else {
                writeln!(
                    html,
                    "<circle class=\"mark other\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
                    axis - 4.0
                )?;
            }
            html.push_str("</g>\n");
        }
        Ok(())
    }

    fn member(&self, html: &mut String, scale: Scale, member: &MemberLine, y: f64) -> fmt::Result {
        let name =
            label::fit(&member.name, NAME, scale.left - STRIP_LABELS).unwrap_or_else(|| "…".to_owned());
        writeln!(
            html,
            "<g><title>{0}</title><text class=\"name\" x=\"0\" y=\"{1:.1}\">{2}</text>",
            Text(&member.name),
            y + 14.0,
            Text(&name),
        )?;
        let gate_y = y + PROCESS + STRIP_GAP;
        let blocks_y = gate_y + GATE + STRIP_GAP;
        for (label, at) in [("process", y + 14.0), ("gate", gate_y + 13.0), ("blocks", blocks_y + 9.0)] {
            let x = scale.left - 8.0;
            writeln!(
                html,
                "<text class=\"small\" x=\"{x}\" y=\"{at:.1}\" text-anchor=\"end\">{label}</text>"
            )?;
        }
        html.push_str("</g>\n");
        let least_ms = self.to_ms.saturating_sub(self.from_ms) / (scale.right - scale.left) as u64;
        for stretch in lane::squeeze(lane::lives(member, self.from_ms, self.to_ms), least_ms) {
            strip(html, scale, &stretch, y, PROCESS)?;
        }
        for stretch in lane::squeeze(lane::gates(self.report, member, self.from_ms, self.to_ms), least_ms) {
            strip(html, scale, &stretch, gate_y, GATE)?;
        }
        Self::blocks(html, scale, member, blocks_y)?;
        self.restarts(html, scale, member, y)
    }

    fn blocks(html: &mut String, scale: Scale, member: &MemberLine, y: f64) -> fmt::Result {
        let [mut decided, mut adopted] = [String::new(), String::new()];
        let mut last = f64::NEG_INFINITY;
        let mut blocks: Vec<_> = member.blocks.iter().filter(|block| scale.shows(block.at_ms)).collect();
        blocks.sort_by_key(|block| block.at_ms);
        for block in &blocks {
            let x = scale.x(block.at_ms);
            if x - last < APART_MIN {
                continue;
            }
            last = x;
            if block.adopted {
                write!(adopted, "M{x:.1} {:.1}v{:.1}", y + BLOCKS / 2.0, BLOCKS / 2.0)?;
            } else {
                write!(decided, "M{x:.1} {y:.1}v{BLOCKS:.1}")?;
            }
        }
        let fetched = blocks.iter().filter(|block| block.adopted).count();
        let heights = blocks.iter().map(|block| block.height);
        let span = match (heights.clone().min(), heights.max()) {
            (Some(least), Some(most)) => format!(", heights {least} to {most}"),
            _ => String::new(),
        };
        let title = format!(
            "{}: {} blocks{span}, {fetched} of them fetched from others (short marks)",
            member.name,
            blocks.len()
        );
        writeln!(
            html,
            "<g><title>{}</title><path class=\"block\" d=\"{decided}\"/><path class=\"block adopted\" d=\"{adopted}\"/></g>",
            Text(&title)
        )
    }

    fn restarts(&self, html: &mut String, scale: Scale, member: &MemberLine, y: f64) -> fmt::Result {
        let own = |line: &&crate::report::RestartLine| line.member == member.name && scale.shows(line.at_ms);
        let mut last = f64::NEG_INFINITY;
        for line in self.report.restarts.iter().filter(own) {
            let (Some(actor), x) = (&line.actor, scale.x(line.at_ms)) else { continue };
            if x - last < APART_MIN {
                continue;
            }
            last = x;
            let title =
                format!("{actor} failed at {}: {}; {}", seconds(line.at_ms), line.reason, line.decision);
            writeln!(
                html,
                "<path class=\"restart\" d=\"M{x:.1} {:.1}l5 5-5 5-5-5z\"><title>{}</title></path>",
                y + PROCESS / 2.0 - 5.0,
                Text(&title),
            )?;
        }
        Ok(())
    }

    fn intervals(&self, html: &mut String, scale: Scale, y: f64) -> fmt::Result {
        let unit = self.report.block_time_ms.max(1);
        let top = unit.saturating_mul(INTERVAL_TOP);
        let height = |ms: u64| INTERVALS * ms.min(top) as f64 / top as f64;
        let bottom = y + INTERVALS;
        writeln!(
            html,
            "<text class=\"name\" x=\"0\" y=\"{:.1}\">time</text><text class=\"name\" x=\"0\" y=\"{:.1}\">between</text>\
            <text class=\"name\" x=\"0\" y=\"{:.1}\">blocks</text>",
            y + 16.0,
            y + 33.0,
            y + 50.0
        )?;
        for times in 1..=2 {
            let at = bottom - height(unit.saturating_mul(times));
            let label = label::fit(&short(unit.saturating_mul(times)), SMALL, 70.0).unwrap_or_default();
            let class = if times == 1 { "due" } else { "grid" };
            writeln!(
                html,
                "<path class=\"{class}\" d=\"M{:.1} {at:.1}H{RIGHT}\"/><text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{label}</text>",
                scale.left,
                scale.left - 8.0,
                at + 4.0
            )?;
        }
        writeln!(html, "<path class=\"axis\" d=\"M{0:.1} {bottom:.1}H{RIGHT}\"/>", scale.left)?;
        let (mut last, mut told_to) = (f64::NEG_INFINITY, scale.left);
        for pair in self.report.blocks.windows(2) {
            let [before, block] = pair else { continue };
            if before.height.saturating_add(1) != block.height || !scale.shows(block.at_ms) {
                continue;
            }
            let interval = block.at_ms.saturating_sub(before.at_ms);
            let (x, is_late) = (scale.x(block.at_ms), interval > unit.saturating_mul(3) / 2);
            if x - last < APART_MIN && !is_late {
                continue;
            }
            last = x;
            let class = if is_late { "interval late" } else { "interval" };
            let title = format!("height {}: {} after the one before", block.height, seconds(interval));
            writeln!(
                html,
                "<path class=\"{class}\" d=\"M{x:.1} {bottom:.1}v-{:.1}\"><title>{}</title></path>",
                height(interval),
                Text(&title)
            )?;
            let told = short(interval);
            let from = x - label::width(&told, SMALL) - 5.0;
            if is_late && interval > top && from > told_to {
                let at = y + 10.0;
                writeln!(
                    html,
                    "<text class=\"small late\" x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\">{told}</text>",
                    x - 4.0
                )?;
                told_to = x + 4.0;
            }
        }
        Ok(())
    }
}

/// Label texts of a step, from the longest to the shortest.
fn texts(step: &StepLine) -> Vec<String> {
    let told = step.step.as_str();
    let until = |end: &str| told.split(end).next().unwrap_or(told).to_owned();
    if step.kind == "fault" {
        // Example: `panic chain of node-2 in mid-slot, until it runs again, within 5s`
        return vec![until(","), until(" in mid-slot"), until(" of "), until(" ")];
    }
    let who = step.members.join(", ");
    let named = if who.is_empty() { step.kind.clone() } else { format!("{} {who}", step.kind) };
    vec![until(" within "), named, step.kind.clone()]
}

/// Formats a duration in as few characters as possible.
fn short(ms: u64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        _ if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        _ => format!("{:.1} s", ms as f64 / 1_000.0),
    }
}

/// The state in a word or two.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::MemberState(life) | Kind::Many(life) => life.as_str(),
        Kind::Gate(GateDecision::Open) | Kind::ManyGates(GateDecision::Open) => "open",
        Kind::Gate(GateDecision::Closed) | Kind::ManyGates(GateDecision::Closed) => "closed",
        Kind::NoGate => "none",
    }
}

/// Draws one interval of a strip: a shape, a tooltip, and as much text as fits.
fn strip(html: &mut String, scale: Scale, stretch: &Stretch, y: f64, height: f64) -> fmt::Result {
    let x = scale.x(stretch.from_ms);
    // Intervals too short to be visible get a minimum width.
    let width = (scale.x(stretch.to_ms) - x).max(1.0);
    let word = word(stretch.kind);
    let (class, top, tall) = match stretch.kind {
        Kind::MemberState(_) | Kind::Many(_) => ("life", y, height),
        Kind::Gate(GateDecision::Open) | Kind::ManyGates(GateDecision::Open) => {
            ("gate", y + height - 5.0, 5.0)
        }
        Kind::Gate(GateDecision::Closed) | Kind::ManyGates(GateDecision::Closed) => ("gate", y, height),
        Kind::NoGate => ("gate", y + height - 1.0, 1.0),
    };
    let many = if matches!(stretch.kind, Kind::Many(_) | Kind::ManyGates(_)) {
        ", and more changes here"
    } else {
        ""
    };
    let colon = if stretch.note.is_empty() { "" } else { ": " };
    let length = seconds(stretch.length_ms());
    let title = format!("{word} from {} for {length}{colon}{}{many}", seconds(stretch.from_ms), stretch.note);
    writeln!(
        html,
        "<g><title>{}</title><rect class=\"{class} {word}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\"/>",
        Text(&title)
    )?;
    if class == "life" && word != "up" {
        writeln!(
            html,
            "<rect class=\"over {word}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\"/>"
        )?;
    }
    let text = match stretch.kind {
        Kind::MemberState(MemberState::Up)
        | Kind::Gate(GateDecision::Open)
        | Kind::ManyGates(_)
        | Kind::NoGate
        | Kind::Many(_) => None,
        _ if stretch.note.is_empty() => label::fit(word, SMALL, width - 10.0),
        Kind::MemberState(_) => [stretch.note.as_str(), word]
            .iter()
            .find_map(|text| (label::width(text, SMALL) <= width - 10.0).then(|| (*text).to_owned())),
        Kind::Gate(_) => label::fit(&stretch.note, SMALL, width - 10.0),
    };
    if let Some(text) = text {
        let wide = label::width(&text, SMALL) + 2.0;
        // Covers the pattern behind the text, so that the text is readable.
        writeln!(
            html,
            "<rect class=\"plate {class} {word}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"/>\
             <text class=\"in {class} {word}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 3.0,
            y + 1.0,
            height - 2.0,
            x + 5.0,
            y + height / 2.0 + 4.0,
            Text(&text)
        )?;
    }
    html.push_str("</g>\n");
    Ok(())
}
