//! Draws the board as a frame. It fits into 80 columns and 24 rows, and shows more if there is more space.
//!
//! ```text
//! alys-testnet  WORKS  …                   does it work, and if not, why
//! ─ members ───────────────────────        one line each, and one more for what is wrong with it
//! ─ blocks ────────────────────────        the last one, and the intervals of those before
//! ─ events ────────────────────────        the last ones, the newest first
//! q quits                                  keys
//! ```

use std::time::Duration;

use alys_cluster::clock::Moment;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline, Wrap};

use super::state::{Board, Headline, Reachability, Row};
use crate::ops::view::GateDecision;

/// Names and widths of the columns.
const COLUMNS: [(&str, usize); 9] = [
    ("MEMBER", 12),
    ("STATE", 12),
    ("HEIGHT", 8),
    ("GATE", 7),
    ("HEALTHY", 8),
    ("LINKS", 6),
    ("RESTARTS", 9),
    ("UPTIME", 9),
    ("VERSION", 8),
];
/// Rows of the blocks, including their title.
const BLOCKS_ROWS: u16 = 5;
/// Rows for the reason why the federation does not work, and the terminal height from which they are shown.
const TROUBLE_ROWS: u16 = 2;
const TROUBLE_FROM: u16 = 20;
/// Minimum rows of the events, including their title.
const EVENTS_ROWS_MIN: u16 = 4;

/// How the frame is painted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    /// Whether to use colours.
    pub(super) colour: bool,
}

impl Paint {
    fn of(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn soft() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

/// Draws the board.
pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, now: Moment, paint: Paint) {
    let members = member_lines(board, now, paint);
    let area = frame.area();
    // Members come first; the remaining rows go to the blocks, then to the events.
    let trouble = board.trouble(now).filter(|_| area.height >= TROUBLE_FROM);
    let title_rows = if trouble.is_some() { 1 + TROUBLE_ROWS } else { 1 };
    let left = area.height.saturating_sub(1 + title_rows + BLOCKS_ROWS + EVENTS_ROWS_MIN);
    let wanted = u16::try_from(members.len() + 2).unwrap_or(u16::MAX);
    let rows = [
        Constraint::Length(title_rows),
        Constraint::Length(wanted.min(left.max(6))),
        Constraint::Length(BLOCKS_ROWS),
        Constraint::Min(0),
        Constraint::Length(1),
    ];
    let [title, members_area, blocks, events, keys] = Layout::vertical(rows).areas(area);
    let mut lines = vec![headline(board, now, paint)];
    lines.extend(trouble.map(Line::raw));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), title);
    draw_members(frame, members, members_area);
    draw_blocks(frame, board, blocks, paint);
    draw_events(frame, board, events);
    let hint = "q, Esc or Ctrl-C quits; times are UTC";
    frame.render_widget(Paragraph::new(hint).style(Paint::soft()), keys);
}

fn headline(board: &Board, now: Moment, paint: Paint) -> Line<'static> {
    let chain = Span::styled(format!("{} ", board.chain()), Style::new().add_modifier(Modifier::BOLD));
    let height = format!("height {}, ", board.height());
    let open = format!("{} of {} gates open", board.open(), board.rows().len());
    let required = board.required().map(|required| format!(", {required} required")).unwrap_or_default();
    let headline = board.headline(now);
    let style = match headline {
        Headline::Asking => Paint::soft(),
        Headline::Works => paint.good().add_modifier(Modifier::REVERSED),
        Headline::NoSpare => paint.of(Color::Yellow).add_modifier(Modifier::REVERSED),
        Headline::Halted | Headline::Stalled => paint.bad().add_modifier(Modifier::REVERSED),
    };
    let word = format!(" {} ", headline.as_str());
    Line::from(vec![chain, Span::styled(word, style), Span::raw(format!("  {height}{open}{required}"))])
}

fn titled(title: &str) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(format!(" {title} ")).border_style(Paint::soft())
}

/// Cells of a member's row.
pub(super) fn cells(row: &Row) -> [String; 9] {
    let none = || "-".to_owned();
    let name = row.name().to_owned();
    let reachability = row.reachability().as_str().to_owned();
    let Some(answer) = row.answer() else {
        return [name, reachability, none(), none(), none(), none(), none(), none(), none()];
    };
    let status = &answer.status;
    let links = row.links().map_or_else(none, |(up, all)| format!("{up}/{all}"));
    [
        name,
        reachability,
        status.height.to_string(),
        status.gate.to_string(),
        format!("{}/{}", status.healthy, status.members.len()),
        links,
        answer.restarts.to_string(),
        uptime(status.uptime_ms),
        answer.version.clone(),
    ]
}

fn member_lines(board: &Board, now: Moment, paint: Paint) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for row in board.rows() {
        let gate = row.answer().map(|answer| answer.status.gate);
        let style = |column: usize| match (column, row.reachability(), gate) {
            (1, Reachability::Unreachable, _) | (3, _, Some(GateDecision::Closed)) => paint.bad(),
            (1, Reachability::Up, _) | (3, _, Some(GateDecision::Open)) => paint.good(),
            (_, Reachability::Unreachable, _) => Paint::soft(),
            _ => Style::new(),
        };
        let cell = |(column, (cell, (_, width))): (usize, (&String, &(&str, usize)))| {
            let shown: String = cell.chars().take(width - 1).collect();
            Span::styled(format!("{shown:width$}"), style(column))
        };
        lines.push(cells(row).iter().zip(&COLUMNS).enumerate().map(cell).collect());
        if let Some(remark) = row.remark() {
            let unheard = match (row.reachability(), row.unheard(now)) {
                (Reachability::Unreachable, Some(unheard)) => {
                    format!("last heard {} ago; ", duration(unheard))
                }
                _ => String::new(),
            };
            lines.push(Line::styled(format!("  └ {unheard}{remark}"), paint.of(Color::Yellow)));
        }
    }
    lines
}

fn draw_members(frame: &mut Frame<'_>, mut lines: Vec<Line<'static>>, area: Rect) {
    let heads: Line<'_> = COLUMNS.iter().map(|(head, width)| Span::raw(format!("{head:width$}"))).collect();
    let room = usize::from(area.height.saturating_sub(2));
    if lines.len() > room && room > 0 {
        let hidden = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(Line::styled(
            format!("… and {hidden} more lines: make the terminal taller"),
            Paint::soft(),
        ));
    }
    lines.insert(0, heads.style(Style::new().add_modifier(Modifier::BOLD)));
    frame.render_widget(Paragraph::new(lines).block(titled("members")), area);
}

fn draw_blocks(frame: &mut Frame<'_>, board: &Board, area: Rect, paint: Paint) {
    let block = titled("blocks: seconds between them, the newest on the right");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [text, bars] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inner);
    let told = match board.blocks().next_back() {
        None => "no block is known yet".to_owned(),
        Some(last) => {
            let intervals = board.intervals();
            let of = |name, found: Option<&Duration>| {
                found.map(|found| format!(", {name} {}", duration(*found))).unwrap_or_default()
            };
            let round = if last.round > 0 { format!(" in round {}", last.round) } else { String::new() };
            let [newest, longest] = [of("interval", intervals.last()), of("longest", intervals.iter().max())];
            let at = time_of_day(last.at_ms);
            format!("{} at {at} by {}{round}{newest}{longest}", last.height, last.proposer)
        }
    };
    frame.render_widget(Paragraph::new(told), text);
    let intervals = board.intervals();
    let shown = intervals.len().saturating_sub(usize::from(bars.width));
    let values: Vec<u64> = intervals[shown..].iter().map(|interval| interval.as_millis() as u64).collect();
    // The median interval is drawn at half height, so that longer ones stand out.
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let top = sorted.last().copied().unwrap_or(0).max(usual.saturating_mul(2));
    let spark = Sparkline::default().data(&values).max(top).style(paint.of(Color::Cyan));
    frame.render_widget(spark, bars);
}

fn draw_events(frame: &mut Frame<'_>, board: &Board, area: Rect) {
    let room = usize::from(area.height.saturating_sub(1));
    let line = |told: &super::state::ToldEvent| {
        let at = Span::styled(time_of_day(told.at_ms), Paint::soft());
        Line::from(vec![at, Span::raw(format!(" {:<10} {}", told.member, told.message))])
    };
    let lines: Vec<_> = board.events().rev().take(room).map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(titled("events, the newest first")), area);
}

/// Formats a duration in at most two units.
pub fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ..1_000 => format!("{} ms", duration.as_millis()),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => uptime(duration.as_millis() as u64),
    }
}

fn uptime(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// Formats the time of day of a wall-clock time, in UTC.
pub fn time_of_day(epoch_ms: u64) -> String {
    let seconds = epoch_ms / 1_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::ops::view::EventView;
    use crate::top::state::tests::{answer, board, hear};
    use crate::top::state::{Block as Decided, MemberAnswer};

    fn frame(board: &Board, width: u16, height: u16, colour: bool) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        let now = Moment::at(Duration::from_secs(17));
        terminal.draw(|frame| draw(frame, board, now, Paint { colour })).expect("a frame");
        terminal
    }

    fn lines(board: &Board, width: u16, height: u16) -> Vec<String> {
        let terminal = frame(board, width, height, false);
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(row).collect()
    }

    /// Two halted members, one that stopped responding, and one that has not responded yet.
    fn halted() -> Board {
        let mut board = board();
        let reason =
            "2 of 4 healthy, 3 required; node-3 is down: silent for 1.2 s; node-4 is down: silent for 9.0 s";
        for member in 0..2 {
            let name = format!("node-{}", member + 1);
            let block = |height, at_ms| Decided { height, at_ms, proposer: "node-2".to_owned(), round: 1 };
            let events = vec![
                EventView {
                    id: String::new(),
                    fields: std::collections::BTreeMap::new(),
                    at_ms: 1_000,
                    kind: "peer_down".to_owned(),
                    message: "node-4 is down".to_owned(),
                    inputs: None,
                    trace_id: None,
                },
                EventView {
                    id: String::new(),
                    fields: std::collections::BTreeMap::new(),
                    at_ms: 9_000,
                    kind: "link_down".to_owned(),
                    message: "the link is down".to_owned(),
                    inputs: None,
                    trace_id: None,
                },
            ];
            let blocks = vec![block(40, 1_000), block(41, 3_000)];
            let given = MemberAnswer { blocks, events, ..answer(&name, 41, GateDecision::Closed, reason) };
            hear(&mut board, member, Ok(given));
        }
        hear(&mut board, 2, Ok(answer("node-3", 40, GateDecision::Open, "")));
        hear(&mut board, 2, Err("http://127.0.0.1:3003 does not answer: refused"));
        board
    }

    #[test]
    fn eighty_columns_and_twenty_four_rows_show_a_halt_with_its_reason() {
        let shown = lines(&halted(), 80, 24);
        let expected = [
            "alys-testnet  HALTED   height 41, 0 of 4 gates open, 3 required",
            "node-1: 2 of 4 healthy, 3 required; node-3 is down: silent for 1.2 s; node-4 is",
            "down: silent for 9.0 s",
            " members ───────────────────────────────────────────────────────────────────────",
            "MEMBER      STATE       HEIGHT  GATE   HEALTHY LINKS RESTARTS UPTIME   VERSION",
            "node-1      up          41      closed 2/4     3/3   2        1h 2m    0.1.0",
            "  └ 2 of 4 healthy, 3 required; node-3 is down: silent for 1.2 s; node-4 is down",
        ];
        for (line, expected) in shown.iter().zip(expected) {
            assert_eq!(line, expected);
        }
        let all = shown.join("\n");
        for part in [
            "node-3      unreachable -",
            "└ last heard 12.0 s ago; http://127.0.0.1:3003 does not answer: refused",
            "node-4      asking",
            "41 at 00:00:03 by node-2 in round 1, interval 2.0 s, longest 2.0 s",
            "00:00:09 node-1     the link is down",
            "q, Esc or Ctrl-C quits",
        ] {
            assert!(all.contains(part), "{part} in\n{all}");
        }
        let newest = shown.iter().position(|line| line.contains("the link is down")).expect("an event");
        let oldest = shown
            .iter()
            .rposition(|line| line.contains("node-4 is down") && line.starts_with("00"))
            .expect("one");
        assert!(newest < oldest, "the newest comes first");
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small_to_be_drawn_on() {
        let board = halted();
        for (width, height) in [(1, 1), (10, 3), (20, 8), (79, 23), (80, 24), (200, 60)] {
            assert_eq!(lines(&board, width, height).len(), usize::from(height));
        }
        let small = lines(&board, 80, 14).join("\n");
        assert!(small.contains("more lines: make the terminal taller"), "{small}");
    }

    #[test]
    fn without_colours_there_are_none() {
        let coloured = |colour| {
            let terminal = frame(&halted(), 80, 24, colour);
            terminal.backend().buffer().content.iter().filter(|cell| cell.fg != Color::Reset).count()
        };
        assert!(coloured(true) > 20);
        assert_eq!(coloured(false), 0);
    }

    #[test]
    fn durations_and_times_are_short() {
        let table = [(9_000, "9s"), (125_000, "2m 5s"), (3_725_000, "1h 2m"), (180_000_000, "2d 2h")];
        for (ms, expected) in table {
            assert_eq!(uptime(ms), expected);
        }
        assert_eq!(duration(Duration::from_millis(1_960)), "2.0 s");
        assert_eq!(time_of_day(86_399_000), "23:59:59");
    }
}
