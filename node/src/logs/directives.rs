//! Parses which lines are logged: a level, or a level for each target.

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Libraries that log every message, every vote, and the ends of links, which are events here. They log only if the
/// directives name them.
const QUIET: &str = "ractor=warn,ractor_cluster=error,arc_malachitebft_core_consensus=error,\
                     arc_malachitebft_core_driver=error,informalsystems=error";
/// Maximum length of the text, in bytes.
const LENGTH_MAX: usize = 1_000;
/// Maximum number of directives: each is evaluated once per call site of a log line.
const DIRECTIVES_MAX: usize = 32;

/// Why a text is not a valid set of directives.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadDirective {
    /// One of the directives is not valid.
    #[error(
        "{directive:?} is no directive ({reason}); expected a level such as `info`, or directives such as \
         `info,alys_node=debug`"
    )]
    Directive {
        /// Directive that is not valid.
        directive: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The text is too long, or has too many directives.
    #[error("{length} bytes with {count} directives; expected 1 to {DIRECTIVES_MAX} in at most {LENGTH_MAX}")]
    Size {
        /// Length of the text, in bytes.
        length: usize,
        /// Number of directives.
        count: usize,
    },
}

/// The filter for `text`.
pub fn filter(text: &str) -> Result<EnvFilter, BadDirective> {
    let directives: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let (length, count) = (text.len(), directives.len());
    if length > LENGTH_MAX || !(1..=DIRECTIVES_MAX).contains(&count) {
        return Err(BadDirective::Size { length, count });
    }
    let parse = |text: &str| EnvFilter::builder().with_regex(false).parse(text);
    for directive in &directives {
        let bad = |reason: String| BadDirective::Directive { directive: (*directive).to_owned(), reason };
        // A single word would be parsed as a target: all of its lines would be logged, and nothing else.
        let is_word = !directive.contains(['=', '[']);
        if is_word && directive.parse::<LevelFilter>().is_err() {
            return Err(bad("neither a level nor a target with one".to_owned()));
        }
        parse(directive).map_err(|error| bad(error.to_string()))?;
    }
    parse(&format!("{QUIET},{}", directives.join(",")))
        .map_err(|error| BadDirective::Directive { directive: text.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_with_levels_are_directives_and_libraries_stay_quiet() {
        for text in
            ["info", "TRACE", "off", "info,alys_node=debug", " warn , alys_cluster=trace ", "[round]=debug"]
        {
            let filter = filter(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(filter.to_string().contains("ractor=warn"), "{filter}");
        }
        let loud = filter("info,ractor=trace").expect("directives").to_string();
        assert!(loud.contains("ractor=trace") && !loud.contains("ractor=warn"), "{loud}");
    }

    #[test]
    fn what_is_no_directive_is_named() {
        let expected = "expected a level such as `info`, or directives such as `info,alys_node=debug`";
        for (text, named) in [
            ("verbose", "\"verbose\""),
            ("info,alys_node=loud", "\"alys_node=loud\""),
            ("info,debug trace", "\"debug trace\""),
            ("info,[round", "\"[round\""),
        ] {
            let error = filter(text).expect_err(text).to_string();
            assert!(error.starts_with(named) && error.contains(expected), "{error}");
        }
        for text in ["", " , ", &"info,".repeat(33), &format!("a{}=info", "b".repeat(1_000))] {
            let error = filter(text).expect_err(text).to_string();
            assert!(error.contains("expected 1 to 32 in at most 1000"), "{error}");
        }
    }
}
