//! Escapes untrusted text for use in a page.

use std::fmt::{self, Write as _};

/// Text escaped for use between tags and in quoted attributes.
///
/// Besides HTML's special characters, this replaces characters that hide or reorder text: control characters, and marks
/// that change the writing direction.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(' ')?,
                c if is_hidden(c) => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// JSON escaped for use in a `<script>` element: the same value, without text that ends the element or opens a comment.
///
/// The replaced characters occur in JSON only within strings, where their escapes have the same meaning.
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Whitespace also occurs between strings, so it is kept. All other replaced characters fit in four
            // hexadecimal digits.
            c if matches!(c, '<' | '>' | '&') || is_hidden(c) && !c.is_ascii_whitespace() => {
                write!(safe, "\\u{:04x}", u32::from(c)).expect("writing to a string does not fail");
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_html_gives_a_meaning_to_is_escaped() {
        let table = [
            ("node-1", "node-1"),
            ("<script>alert('x')</script>", "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
            ("\" onload=\"x", "&quot; onload=&quot;x"),
            ("a &amp; b", "a &amp;amp; b"),
            ("two\nlines", "two lines"),
            ("\u{1b}[31mred\u{7}", "\u{fffd}[31mred\u{fffd}"),
            ("\u{202e}desrever", "\u{fffd}desrever"),
            ("größer als 2 s", "größer als 2 s"),
        ];
        for (text, expected) in table {
            assert_eq!(Text(text).to_string(), expected);
        }
    }

    #[test]
    fn json_in_a_page_can_not_end_its_element_and_means_the_same() {
        let value =
            serde_json::json!({ "reason": "</script><!-- <script> & \u{2028}\u{202e}\u{9b}", "n": [7] });
        let safe = json(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(!safe.contains('<') && !safe.contains('>') && !safe.contains('&'), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).expect("JSON"), value);
    }
}
