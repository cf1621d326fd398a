//! Text patterns: exact, glob or regular expression, compiled once.
//!
//! Globs and regular expressions run in time linear in the text, and the size of a compiled pattern is bounded.

use std::fmt;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// Maximum length of a pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;
/// Maximum size of a compiled pattern, in bytes: enough for any use of [`PATTERN_BYTES_MAX`] bytes except nested
/// counted repetitions.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// Why a pattern was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// The pattern is too long.
    #[error("the pattern is {bytes} bytes long; expected at most {PATTERN_BYTES_MAX}")]
    Long {
        /// Length of the pattern.
        bytes: usize,
    },
    /// The pattern is not a valid regular expression, or its compiled form is too large.
    #[error("{pattern:?} is no regular expression that can be used: {reason}")]
    Regex {
        /// Pattern that was rejected.
        pattern: String,
        /// Error text.
        reason: String,
    },
}

/// Pattern that a text must match.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Exactly this text.
    Exact(String),
    /// A glob: `*` matches any characters, `?` matches one.
    Glob(String, Regex),
    /// A regular expression, which may match anywhere in the text unless it is anchored.
    Regex(String, Regex),
}

fn compile(source: &str, pattern: &str) -> Result<Regex, PatternError> {
    let refused = |error: regex::Error| {
        let reason = match error {
            regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
            // The message spans several lines and points into the pattern; only the last line states the error.
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        };
        PatternError::Regex { pattern: pattern.to_owned(), reason }
    };
    RegexBuilder::new(source)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(refused)
}

fn checked(pattern: &str) -> Result<&str, PatternError> {
    let bytes = pattern.len();
    if bytes <= PATTERN_BYTES_MAX { Ok(pattern) } else { Err(PatternError::Long { bytes }) }
}

impl Pattern {
    /// An exact text if `pattern` contains neither `*` nor `?`, otherwise a glob.
    pub fn glob(pattern: &str) -> Result<Self, PatternError> {
        let pattern = checked(pattern)?;
        if !pattern.contains(['*', '?']) {
            return Ok(Self::Exact(pattern.to_owned()));
        }
        let mut source = String::from(r"\A(?s)");
        for c in pattern.chars() {
            match c {
                '*' => source.push_str(".*"),
                '?' => source.push('.'),
                other => source.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
        }
        source.push_str(r"\z");
        Ok(Self::Glob(pattern.to_owned(), compile(&source, pattern)?))
    }

    /// A regular expression.
    pub fn regex(pattern: &str) -> Result<Self, PatternError> {
        let pattern = checked(pattern)?;
        Ok(Self::Regex(pattern.to_owned(), compile(pattern, pattern)?))
    }

    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Glob(_, regex) | Self::Regex(_, regex) => regex.is_match(text),
        }
    }

    /// Literal prefix of every matching text: for a glob, the part before the first `*` or `?`.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Exact(exact) => exact,
            Self::Glob(glob, _) => glob.split(['*', '?']).next().unwrap_or_default(),
            Self::Regex(..) => "",
        }
    }

    /// The source text of the pattern.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Glob(text, _) | Self::Regex(text, _) => text,
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.as_str() == other.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stand_for_whole_texts_and_regular_expressions_for_parts() {
        for (pattern, text, matches) in [
            (Pattern::glob("link/*"), "link/node-2", true),
            (Pattern::glob("link/*"), "my-link/node-2", false),
            (Pattern::glob("*/node-?"), "link/node-2", true),
            (Pattern::glob("*/node-?"), "link/node-22", false),
            (Pattern::glob("a.c"), "abc", false),
            (Pattern::glob("a.c*"), "abcd", false),
            (Pattern::glob("chain"), "chain", true),
            (Pattern::regex("node-[12]$"), "link/node-2", true),
            (Pattern::regex("^node"), "link/node-2", false),
        ] {
            let pattern = pattern.expect("a pattern");
            assert_eq!(pattern.matches(text), matches, "{pattern} and {text}");
        }
        assert_eq!(Pattern::glob("link/*-?").expect("a glob").prefix(), "link/");
    }

    #[test]
    fn bombs_are_refused_before_they_go_off_and_bad_patterns_say_what_is_wrong() {
        let long = Pattern::glob(&"a*".repeat(200)).expect_err("long").to_string();
        assert_eq!(long, "the pattern is 400 bytes long; expected at most 256");
        let bomb = Pattern::regex("((a{1000}){1000}){1000}").expect_err("a bomb").to_string();
        assert!(bomb.contains("it compiles to more than"), "{bomb}");
        let open = Pattern::regex("(chain").expect_err("open").to_string();
        assert!(open.contains("\"(chain\"") && open.contains("unclosed group"), "{open}");
        // Takes exponential time in a backtracking engine.
        let slow = Pattern::regex("^(a+)+$").expect("linear here");
        assert!(!slow.matches(&format!("{}b", "a".repeat(10_000))));
    }
}
