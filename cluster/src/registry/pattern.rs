//! Patterns over texts: exact, glob or regular expression, compiled once.
//!
//! Both kinds run in time linear in the text, whatever the pattern; what a pattern compiles to is bounded.

use std::fmt;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;
/// The largest compiled pattern, in bytes: enough for any use of the characters above but counted repetition of
/// counted repetitions.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// A pattern that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It is too long.
    #[error("the pattern is {bytes} bytes long; expected at most {PATTERN_BYTES_MAX}")]
    Long {
        /// How long it is.
        bytes: usize,
    },
    /// It is no regular expression, or compiles to too much.
    #[error("{pattern:?} is no regular expression that can be used: {reason}")]
    Regex {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: String,
    },
}

/// What a text must look like.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// The text itself.
    Exact(String),
    /// `*` stands for any characters, `?` for one.
    Glob(String, Regex),
    /// Found anywhere in the text, unless anchored.
    Regex(String, Regex),
}

fn compile(source: &str, pattern: &str) -> Result<Regex, PatternError> {
    let refused = |error: regex::Error| {
        let reason = match error {
            regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
            // The message points into the pattern over several lines; its last says what is wrong.
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
    /// The text itself if `pattern` holds no `*` and no `?`, else a glob.
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

    /// Whether `text` looks like this.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Glob(_, regex) | Self::Regex(_, regex) => regex.is_match(text),
        }
    }

    /// What every text that looks like this begins with, as far as it is plain: for a glob, what stands before the
    /// first `*` or `?`.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Exact(exact) => exact,
            Self::Glob(glob, _) => glob.split(['*', '?']).next().unwrap_or_default(),
            Self::Regex(..) => "",
        }
    }

    /// The pattern as it was written.
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
        // Exponential for an engine that tries one way after the other.
        let slow = Pattern::regex("^(a+)+$").expect("linear here");
        assert!(!slow.matches(&format!("{}b", "a".repeat(10_000))));
    }
}
