//! Renders the board as a plain table, for pipes and logs.

use std::time::Duration;

use alys_cluster::clock::Moment;

use super::state::{Board, Headline, Row, clean};
use super::view::{cells, duration};

const HEADS: [&str; 9] =
    ["MEMBER", "STATE", "HEIGHT", "GATE", "HEALTHY", "LINKS", "RESTARTS", "UPTIME", "VERSION"];

/// The table, the intervals between the last blocks, and what is wrong.
pub(super) fn table(board: &Board, now: Moment) -> String {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(board.rows().iter().map(cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let line = |row: &[String; 9]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    let remark = |row: &Row| row.remark().map(|remark| format!("{}: {remark}", row.name()));
    lines.extend(board.rows().iter().filter_map(remark));
    let intervals = board.intervals();
    if let Some(last) = intervals.last() {
        let mean = intervals.iter().sum::<Duration>() / intervals.len() as u32;
        let count = intervals.len() + 1;
        lines.push(format!("last {count} blocks: {} apart, the last {}", duration(mean), duration(*last)));
    }
    let (open, all) = (board.open(), board.rows().len());
    let counts = format!("{open} of {all} gates open, {} required", required(board));
    let why = board.trouble(now).unwrap_or(counts);
    lines.push(match board.headline(now) {
        Headline::Works => format!("the federation works: {why}"),
        Headline::NoSpare => format!("NO SPARE: the federation works, without a spare member: {why}"),
        Headline::Stalled => format!("STALLED: the federation does not work: {why}"),
        Headline::Halted | Headline::Asking => format!("the federation does not work: {why}"),
    });
    // Names and reasons come from the members, so they are not trusted.
    lines.iter().map(|line| clean(line) + "\n").collect()
}

fn required(board: &Board) -> String {
    board.required().map_or_else(|| "?".to_owned(), |required| required.to_string())
}

#[cfg(test)]
mod tests {
    use crate::ops::view::GateDecision;
    use crate::top::state::tests::{answer, board, hear};

    use super::*;

    #[test]
    fn the_table_shows_every_member_and_says_what_is_wrong() {
        let mut board = board();
        for member in 0..2 {
            let name = format!("node-{}", member + 1);
            hear(
                &mut board,
                member,
                Ok(answer(&name, 41, GateDecision::Closed, "2 of 4 healthy, 3 required")),
            );
        }
        hear(&mut board, 2, Err("http://127.0.0.1:3003 does not answer: refused"));
        let expected = "\
MEMBER  STATE        HEIGHT  GATE    HEALTHY  LINKS  RESTARTS  UPTIME  VERSION
node-1  up           41      closed  2/4      3/3    2         1h 2m   0.1.0
node-2  up           41      closed  2/4      3/3    2         1h 2m   0.1.0
node-3  unreachable  -       -       -        -      -         -       -
node-4  asking       -       -       -        -      -         -       -
node-1: 2 of 4 healthy, 3 required
node-2: 2 of 4 healthy, 3 required
node-3: http://127.0.0.1:3003 does not answer: refused
the federation does not work: node-1: 2 of 4 healthy, 3 required
";
        assert_eq!(table(&board, Moment::ORIGIN), expected);
    }
}
