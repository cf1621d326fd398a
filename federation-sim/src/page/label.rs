//! Places texts in a drawing: their width, what fits, and positions on one axis such that no text covers another.
//!
//! ```text
//! │ kill node-4                      row 1
//! │        │ pause node-3            row 0
//! ─┴────────┴──────────────── axis
//! ```
//!
//! Every text is to the right of its own line, which runs down to the axis. A line must not cross another text, so of
//! two close texts the later one is closer to the axis. From right to left, each text takes the lowest row above all
//! texts that it reaches over.

/// Minimum distance between a text and the next line.
const GAP: f64 = 8.0;

/// Estimated width of a text. Overestimates rather than underestimates, because the reader's fonts are unknown.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' | '!' => 0.36,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.98,
        'A'..='Z' => 0.76,
        c if c.is_ascii() => 0.63,
        '…' | 'ä' | 'ö' | 'ü' | 'ß' | '✓' | '✗' => 0.98,
        // Wide scripts take up a square.
        _ => 1.15,
    };
    text.chars().map(of).sum::<f64>() * size
}

/// The text, or its beginning with an ellipsis if it is too wide; `None` if fewer than three characters fit.
pub(super) fn fit(text: &str, size: f64, room: f64) -> Option<String> {
    if width(text, size) <= room {
        return Some(text.to_owned());
    }
    let ellipsis = width("…", size);
    let mut used = 0.0;
    let mut kept = String::new();
    for c in text.chars() {
        used += width(c.encode_utf8(&mut [0; 4]), size);
        if used + ellipsis > room {
            break;
        }
        kept.push(c);
    }
    let kept = kept.trim_end();
    (kept.chars().count() >= 3).then(|| format!("{kept}…"))
}

/// A text to be placed.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Position of its line.
    pub(super) x: f64,
    /// Alternative texts, the best first; the first one that fits is used.
    pub(super) texts: Vec<String>,
}

/// Position of a placed text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LabelPlace {
    /// The chosen text.
    pub(super) text: String,
    /// Row; 0 is closest to the axis.
    pub(super) row: usize,
}

/// Places texts in `rows` rows that end at `right`. A text that does not fit is omitted.
///
/// `wishes` are in order of `x`.
pub(super) fn place(wishes: &[Wish], size: f64, rows: usize, right: f64) -> Vec<Option<LabelPlace>> {
    let mut places: Vec<Option<LabelPlace>> = vec![None; wishes.len()];
    for index in (0..wishes.len()).rev() {
        let wish = &wishes[index];
        let row_of = |text: &String| {
            let end = wish.x + width(text, size) + GAP;
            let reached = (index + 1..wishes.len()).take_while(|other| wishes[*other].x < end);
            let above = reached.filter_map(|other| places[other].as_ref().map(|place| place.row + 1)).max();
            let row = above.unwrap_or(0);
            (end <= right && row < rows).then(|| LabelPlace { text: text.clone(), row })
        };
        places[index] = wish.texts.iter().find_map(row_of);
    }
    places
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis_or_is_left_out() {
        assert_eq!(fit("paused", 10.0, 100.0).as_deref(), Some("paused"));
        assert_eq!(fit("paused", 10.0, 33.0).as_deref(), Some("pau…"));
        assert_eq!(fit("paused", 10.0, 20.0), None);
        assert_eq!(fit("", 10.0, 0.0).as_deref(), Some(""));
    }

    #[test]
    fn the_later_of_two_near_each_other_stands_closer_to_the_axis() {
        let wish = |x, text: &str| Wish { x, texts: vec![text.to_owned()] };
        let wishes = [wish(0.0, "kill node-4"), wish(30.0, "pause node-3"), wish(500.0, "stop")];
        let rows: Vec<_> =
            place(&wishes, 10.0, 3, 600.0).into_iter().map(|place| place.map(|place| place.row)).collect();
        assert_eq!(rows, [Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn a_shorter_text_is_taken_where_the_long_one_finds_no_place() {
        let wish = Wish { x: 550.0, texts: vec!["kill node-3, node-4".to_owned(), "kill".to_owned()] };
        let places = place(&[wish], 10.0, 1, 600.0);
        assert_eq!(places[0].as_ref().map(|place| place.text.as_str()), Some("kill"));
    }

    proptest! {
        #[test]
        fn a_text_that_fits_is_no_wider_than_its_room(text in "\\PC{0,40}", room in 0.0..300.0) {
            if let Some(fitted) = fit(&text, 11.0, room) {
                prop_assert!(width(&fitted, 11.0) <= room + 1e-9);
            }
        }

        #[test]
        fn no_text_covers_another_and_no_line_crosses_one(
            mut marks in proptest::collection::vec((0.0..1_000.0, "[a-z ,0-9-]{1,30}"), 0..60),
            rows in 1_usize..6,
        ) {
            marks.sort_by(|a: &(f64, String), b| a.0.total_cmp(&b.0));
            let wishes: Vec<_> =
                marks.into_iter().map(|(x, text)| Wish { x, texts: vec![text, "x".to_owned()] }).collect();
            let places = place(&wishes, 11.0, rows, 1_000.0);
            let placed: Vec<_> =
                wishes.iter().zip(&places).filter_map(|(wish, place)| Some((wish.x, place.as_ref()?))).collect();
            for (index, (x, place)) in placed.iter().enumerate() {
                prop_assert!(place.row < rows);
                let end = x + width(&place.text, 11.0);
                prop_assert!(end <= 1_000.0);
                for (later, other) in &placed[index + 1..] {
                    // A text whose line is at or after this one's is either beyond this text or below it.
                    prop_assert!(*later >= end || other.row < place.row);
                }
            }
        }
    }
}
