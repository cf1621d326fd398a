//! Parses queries from text, as used in URLs and on the command line.
//!
//! ```text
//!   query  = either { "or" either }
//!   either = part { "and" part }
//!   part   = "not" part | "(" query ")" | "all" | "@" named | term
//!   term   = ("name" | "meta." key) ("=" glob | "~" regex)
//!          | ("type" | "tag" | "priority" | "state" | "health" | "supervisor") "=" value { "," value }
//!          | "uptime" (">=" | "<") duration
//! ```
//!
//! Several values after one `=` mean any of them. A value with blanks, parentheses or quotes is written as `"…"`, with
//! the escapes `\"` and `\\`.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::lifecycle::ActorLifecycleState;
use super::pattern::Pattern;
use super::query::{ActorQuery, DEPTH_MAX};
use crate::id::{ActorPriority, NameError};
use crate::ping::HealthStatus;

/// Maximum length of a query, in bytes.
pub const QUERY_BYTES_MAX: usize = 4_096;

/// Why a text is not a valid query.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The text is too long.
    #[error("the query is {bytes} bytes long; expected at most {QUERY_BYTES_MAX}")]
    Long {
        /// Length of the text.
        bytes: usize,
    },
    /// There is a syntax error.
    #[error("at character {at}: {what}")]
    At {
        /// Number of characters before the error.
        at: usize,
        /// Description of the error and what was expected.
        what: String,
    },
}

/// Looks up the query that `@name` stands for.
pub type NamedQueries<'a> = &'a dyn Fn(&str) -> Option<ActorQuery>;

impl FromStr for ActorQuery {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text, &|_| None)
    }
}

/// Parses a query; `named` looks up named queries.
pub fn parse(text: &str, named: NamedQueries<'_>) -> Result<ActorQuery, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(ParseError::Long { bytes: text.len() });
    }
    let mut reader = Reader { text, at: 0, named };
    let query = reader.query(1)?;
    match reader.token() {
        Token::End => {}
        token => return Err(reader.unexpected(&token, "`and`, `or` or the end")),
    }
    query.validate().map_err(|error| reader.error(0, error.to_string()))?;
    Ok(query)
}

/// Whether `c` may appear in a value without quotes.
pub(super) fn is_word(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !r#"()"=~<>,\"#.contains(c)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(&'static str),
    Other(char),
    End,
}

/// Operators and delimiters. Longer ones first.
const SIGNS: [&str; 7] = [">=", "<", "=", "~", "(", ")", ","];

struct Reader<'a> {
    text: &'a str,
    at: usize,
    named: NamedQueries<'a>,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Reads the next token and advances past it.
    fn token(&mut self) -> Token {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else { return Token::End };
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Token::Sign(sign);
        }
        if first == '"' {
            return self.quoted();
        }
        let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
        if word.is_empty() {
            self.at += first.len_utf8();
            return Token::Other(first);
        }
        self.at += word.len();
        Token::Word(word)
    }

    fn quoted(&mut self) -> Token {
        let mut value = String::new();
        let mut is_escaped = false;
        for (index, c) in self.text[self.at..].char_indices().skip(1) {
            match c {
                _ if is_escaped => {
                    value.push(c);
                    is_escaped = false;
                }
                '\\' => is_escaped = true,
                '"' => {
                    self.at += index + 1;
                    return Token::Quoted(value);
                }
                other => value.push(other),
            }
        }
        self.at += 1;
        Token::Other('"')
    }

    fn peek(&mut self) -> Token {
        let at = self.at;
        let token = self.token();
        self.at = at;
        token
    }

    fn takes_word(&mut self, expected: &str) -> bool {
        let is_it = matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(expected));
        if is_it {
            self.token();
        }
        is_it
    }

    fn error(&self, at: usize, what: String) -> ParseError {
        ParseError::At { at: self.text[..at].chars().count(), what }
    }

    fn unexpected(&self, token: &Token, expected: &str) -> ParseError {
        let (found, length) = match token {
            Token::Word(word) => (format!("{:?}", short(word)), word.len()),
            Token::Quoted(value) => (format!("{:?}", short(value)), 0),
            Token::Sign(sign) => (format!("{sign:?}"), sign.len()),
            Token::Other('"') => ("a quote that is not closed".to_owned(), 1),
            Token::Other(c) => (format!("{c:?}"), c.len_utf8()),
            Token::End => ("the end".to_owned(), 0),
        };
        self.error(self.at - length, format!("found {found}; expected {expected}"))
    }

    fn query(&mut self, depth: usize) -> Result<ActorQuery, ParseError> {
        self.chain("or", ActorQuery::Or, |reader| {
            reader.chain("and", ActorQuery::And, |reader| reader.part(depth))
        })
    }

    /// Parses one or more terms separated by the keyword `between`.
    fn chain(
        &mut self,
        between: &str,
        combine: fn(Vec<ActorQuery>) -> ActorQuery,
        next: impl Fn(&mut Self) -> Result<ActorQuery, ParseError>,
    ) -> Result<ActorQuery, ParseError> {
        let first = next(self)?;
        let mut all = vec![first];
        while self.takes_word(between) {
            all.push(next(self)?);
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { combine(all) })
    }

    fn part(&mut self, depth: usize) -> Result<ActorQuery, ParseError> {
        if depth > DEPTH_MAX {
            return Err(self.error(self.at, super::query::QueryError::Depth.to_string()));
        }
        if self.takes_word("not") {
            return Ok(!self.part(depth + 1)?);
        }
        match self.token() {
            Token::Sign("(") => {
                let query = self.query(depth + 1)?;
                match self.token() {
                    Token::Sign(")") => Ok(query),
                    token => Err(self.unexpected(&token, "`)`, `and` or `or`")),
                }
            }
            Token::Word(word) if word.eq_ignore_ascii_case("all") => Ok(ActorQuery::All),
            Token::Word(word) if word.starts_with('@') => {
                let at = self.at - word.len();
                let unknown = || self.error(at, format!("no query is named {:?}", short(&word)));
                (self.named)(&word[1..]).ok_or_else(unknown)
            }
            Token::Word(key) => self.term(&key),
            token => {
                Err(self.unexpected(&token, "`not`, `(`, `all`, `@name` or a condition such as tag=value"))
            }
        }
    }

    fn term(&mut self, key: &str) -> Result<ActorQuery, ParseError> {
        let key_at = self.at - key.len();
        match key {
            "name" => Ok(ActorQuery::Name(self.pattern()?)),
            "type" => self.values(|value| Ok(ActorQuery::Type(named(value)?))),
            "tag" => self.values(|value| Ok(ActorQuery::Tag(named(value)?))),
            "supervisor" => self.values(|value| Ok(ActorQuery::Supervisor(named(value)?))),
            "priority" => self.values(|value| {
                one_of(value, &ActorPriority::ALL, ActorPriority::as_str).map(ActorQuery::Priority)
            }),
            "state" => self.values(|value| {
                one_of(value, &ActorLifecycleState::ALL, ActorLifecycleState::as_str).map(ActorQuery::State)
            }),
            "health" => self.values(|value| {
                one_of(value, &HealthStatus::ALL, HealthStatus::as_str).map(ActorQuery::Health)
            }),
            "uptime" => self.uptime(),
            _ => match key.strip_prefix("meta.") {
                Some(meta) if !meta.is_empty() => Ok(ActorQuery::Metadata(meta.to_owned(), self.pattern()?)),
                _ => {
                    let expected = "name, type, tag, priority, state, health, uptime, supervisor or meta.KEY";
                    Err(self.error(key_at, format!("found {:?}; expected {expected}", short(key))))
                }
            },
        }
    }

    fn value(&mut self) -> Result<(usize, String), ParseError> {
        self.skip_blanks();
        let at = self.at;
        match self.token() {
            Token::Word(value) | Token::Quoted(value) => Ok((at, value)),
            token => Err(self.unexpected(&token, "a value")),
        }
    }

    fn pattern(&mut self) -> Result<Pattern, ParseError> {
        let make = match self.token() {
            Token::Sign("=") => Pattern::glob,
            Token::Sign("~") => Pattern::regex,
            token => return Err(self.unexpected(&token, "`=` and a glob, or `~` and a regular expression")),
        };
        let (at, value) = self.value()?;
        make(&value).map_err(|error| self.error(at, error.to_string()))
    }

    fn values(
        &mut self,
        make: impl Fn(&str) -> Result<ActorQuery, String>,
    ) -> Result<ActorQuery, ParseError> {
        match self.token() {
            Token::Sign("=") => {}
            token => return Err(self.unexpected(&token, "`=`")),
        }
        let mut any = Vec::new();
        loop {
            let (at, value) = self.value()?;
            any.push(make(&value).map_err(|what| self.error(at, what))?);
            if self.peek() != Token::Sign(",") {
                break;
            }
            self.token();
        }
        Ok(if any.len() == 1 { any.swap_remove(0) } else { ActorQuery::Or(any) })
    }

    fn uptime(&mut self) -> Result<ActorQuery, ParseError> {
        let make: fn(Duration) -> ActorQuery = match self.token() {
            Token::Sign(">=") => ActorQuery::UptimeAtLeast,
            Token::Sign("<") => ActorQuery::UptimeBelow,
            token => return Err(self.unexpected(&token, "`>=` or `<`")),
        };
        let (at, value) = self.value()?;
        let wrong =
            |_| self.error(at, format!("found {:?}; expected a duration such as 10s or 5m", short(&value)));
        humantime::parse_duration(&value).map(make).map_err(wrong)
    }
}

/// Parses a name and returns an error as text, as the callers need it.
fn named<T: FromStr<Err = NameError>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: NameError| error.to_string())
}

/// The first 64 characters, for error messages.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

fn one_of<T: Copy>(value: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| name(*one) == value);
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
        format!("found {:?}; expected one of {}", short(value), names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Tag;

    fn tag(name: &'static str) -> ActorQuery {
        ActorQuery::Tag(Tag::literal(name))
    }

    #[test]
    fn texts_mean_what_they_say_and_are_written_as_they_are_read() {
        use ActorQuery::{All, And, Metadata, Name, Not, Or, Priority, State, UptimeAtLeast};
        let glob = |text| Pattern::glob(text).expect("a glob");
        let regex = |text| Pattern::regex(text).expect("a regular expression");
        for (text, query) in [
            ("all", All),
            ("tag=chain", tag("chain")),
            ("tag=a, b", Or(vec![tag("a"), tag("b")])),
            ("tag=a and tag=b or tag=c", Or(vec![And(vec![tag("a"), tag("b")]), tag("c")])),
            ("tag=a AND (tag=b OR tag=c)", And(vec![tag("a"), Or(vec![tag("b"), tag("c")])])),
            ("not tag=a", Not(Box::new(tag("a")))),
            ("not not tag=a", tag("a")),
            ("name=link/*", Name(glob("link/*"))),
            (r#"name~"^link/(node-1|node-2)$""#, Name(regex("^link/(node-1|node-2)$"))),
            ("priority=critical", Priority(ActorPriority::Critical)),
            ("state=shutting_down", State(ActorLifecycleState::ShuttingDown)),
            ("uptime>=1m30s", UptimeAtLeast(Duration::from_secs(90))),
            (r#"meta.role="a \"b\" \\ c""#, Metadata("role".into(), glob(r#"a "b" \ c"#))),
        ] {
            assert_eq!(text.parse::<ActorQuery>().as_ref(), Ok(&query), "{text}");
            assert_eq!(query.to_string().parse::<ActorQuery>().as_ref(), Ok(&query), "{query}");
        }
    }

    #[test]
    fn a_wrong_text_is_told_where_and_what_was_expected() {
        for (text, expected) in [
            ("", "at character 0: found the end; expected `not`, `(`"),
            ("colour=red", "at character 0: found \"colour\"; expected name, type, tag"),
            ("tag", "at character 3: found the end; expected `=`"),
            ("tag=", "at character 4: found the end; expected a value"),
            ("tag=A", "at character 4: \"A\" is no name; expected 1 to 64 characters"),
            ("tag=a tag=b", "at character 6: found \"tag\"; expected `and`, `or` or the end"),
            ("(tag=a", "at character 6: found the end; expected `)`, `and` or `or`"),
            ("state=dead", "at character 6: found \"dead\"; expected one of registering, active"),
            ("uptime>=soon", "at character 8: found \"soon\"; expected a duration"),
            ("uptime=5s", "at character 6: found \"=\"; expected `>=` or `<`"),
            ("name~\"(\"", "at character 5: \"(\" is no regular expression"),
            ("name=\"open", "at character 5: found a quote that is not closed; expected a value"),
            ("ñame=x", "at character 0: found \"ñame\"; expected name"),
            ("@nobody", "at character 0: no query is named \"@nobody\""),
            ("tag=\u{7}", "at character 4: found '\\u{7}'; expected a value"),
        ] {
            let error = text.parse::<ActorQuery>().expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn queries_are_bounded_in_length_depth_and_parts() {
        let long = " ".repeat(1 << 20).parse::<ActorQuery>().expect_err("long").to_string();
        assert_eq!(long, "the query is 1048576 bytes long; expected at most 4096");
        for deep in ["(".repeat(2_000), "not ".repeat(1_000)] {
            let error = deep.parse::<ActorQuery>().expect_err("deep").to_string();
            assert!(error.contains("nested more than 32 deep"), "{error}");
        }
        let wide = ["all"; 500].join(" or ").parse::<ActorQuery>().expect_err("wide").to_string();
        assert!(wide.contains("more than 256 parts"), "{wide}");
    }

    #[test]
    fn a_named_query_stands_for_what_its_name_is_given() {
        let named = |name: &str| (name == "mine").then(|| tag("a"));
        let query = parse("@mine and tag=b", &named).expect("a query");
        assert_eq!(query, ActorQuery::And(vec![tag("a"), tag("b")]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = text.parse::<ActorQuery>();
        }

        #[test]
        fn no_sequence_of_words_panics_and_what_is_read_is_written_alike(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "all", "not", "and", "or", "(", ")", "tag", "=", "a", ",", "name", "~", "\"x y\"", "uptime", ">=",
                "5s", "<", "meta.k", "state", "active", "\"", "\\", "@q",
            ]), 0..24),
        ) {
            if let Ok(query) = words.join(" ").parse::<ActorQuery>() {
                proptest::prop_assert_eq!(query.to_string().parse::<ActorQuery>(), Ok(query));
            }
        }
    }
}
