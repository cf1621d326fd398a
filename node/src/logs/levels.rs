//! Keeps the log level: a permanent one, and optionally a temporary one.

use std::time::Duration;

use alys_cluster::clock::Moment;

/// The permanent and the temporary directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    standing: String,
    passing: Option<Passing>,
    /// Number of changes, by which an outdated timer is recognized.
    generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Passing {
    directives: String,
    until: Moment,
}

impl Levels {
    /// Creates levels with the permanent directives `standing`.
    pub fn new(standing: String) -> Self {
        Self { standing, passing: None, generation: 0 }
    }

    /// Directives in effect.
    pub fn current(&self) -> &str {
        self.passing.as_ref().map_or(&self.standing, |passing| &passing.directives)
    }

    /// The permanent directives and the time until they apply again, if temporary ones are in effect.
    pub fn reverts(&self, now: Moment) -> Option<(String, Duration)> {
        let passing = self.passing.as_ref()?;
        Some((self.standing.clone(), passing.until.since(now)))
    }

    /// Sets the directives permanently, or until a time. Returns the generation to pass to [`Levels::lapse`].
    pub fn set(&mut self, directives: String, until: Option<Moment>) -> u64 {
        match until {
            None => (self.standing, self.passing) = (directives, None),
            Some(until) => self.passing = Some(Passing { directives, until }),
        }
        self.generation += 1;
        self.generation
    }

    /// Ends the temporary directives of this generation. Returns the directives before and after, or `None` if they
    /// were changed since.
    pub fn lapse(&mut self, generation: u64) -> Option<(String, String)> {
        let passing = self.passing.take_if(|_| generation == self.generation)?;
        Some((passing.directives, self.standing.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_level_for_a_time_goes_back_to_the_one_that_stands() {
        let mut levels = Levels::new("info".to_owned());
        let first = levels.set("debug".to_owned(), Some(at(10)));
        let second = levels.set("trace".to_owned(), Some(at(20)));
        assert_eq!(levels.current(), "trace");
        assert_eq!(levels.reverts(at(5)), Some(("info".to_owned(), Duration::from_secs(15))));
        assert_eq!(levels.lapse(first), None, "another was set since");
        assert_eq!(levels.lapse(second), Some(("trace".to_owned(), "info".to_owned())));
        assert_eq!((levels.current(), levels.reverts(at(5))), ("info", None));
        assert_eq!(levels.lapse(second), None, "once");
    }

    #[test]
    fn a_level_for_good_ends_one_for_a_time() {
        let mut levels = Levels::new("info".to_owned());
        let passing = levels.set("debug".to_owned(), Some(at(10)));
        levels.set("warn".to_owned(), None);
        assert_eq!(levels.lapse(passing), None);
        assert_eq!(levels.current(), "warn");
    }
}
