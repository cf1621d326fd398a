//! Which level holds: one until somebody changes it, and perhaps another for a time.

use std::time::Duration;

use alys_cluster::clock::Moment;

/// What is to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    standing: String,
    passing: Option<Passing>,
    /// Counts changes, so that a timer that is late is recognised.
    generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Passing {
    directives: String,
    until: Moment,
}

impl Levels {
    /// `standing` until somebody changes it.
    pub fn new(standing: String) -> Self {
        Self { standing, passing: None, generation: 0 }
    }

    /// What holds.
    pub fn current(&self) -> &str {
        self.passing.as_ref().map_or(&self.standing, |passing| &passing.directives)
    }

    /// What it goes back to, and in how long, if it does.
    pub fn reverts(&self, now: Moment) -> Option<(String, Duration)> {
        let passing = self.passing.as_ref()?;
        Some((self.standing.clone(), passing.until.since(now)))
    }

    /// Sets what holds from now on, or until then. Returns the generation that [`Levels::lapse`] is to be told.
    pub fn set(&mut self, directives: String, until: Option<Moment>) -> u64 {
        match until {
            None => (self.standing, self.passing) = (directives, None),
            Some(until) => self.passing = Some(Passing { directives, until }),
        }
        self.generation += 1;
        self.generation
    }

    /// The time of what was set with this generation is over. What held and what holds now, unless somebody else has
    /// changed it since.
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
