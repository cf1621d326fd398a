//! Figures beside their targets, where criterion does not fit: ratios against a peer taken in turns, tails of a
//! distribution, processes of their own.

use std::env;
use std::time::Duration;

/// What this run of the bench is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    filter: Option<String>,
    /// Only whether everything works: `cargo test --benches` says so.
    pub is_test: bool,
}

impl Plan {
    /// As the command line says it, in the words of criterion.
    pub fn of_arguments() -> Self {
        let is_test = !env::args().any(|argument| argument == "--bench");
        // A number is the value of an option.
        let is_word = |argument: &String| !argument.starts_with('-') && argument.parse::<f64>().is_err();
        let filter = env::args().skip(1).find(is_word);
        Self { filter, is_test }
    }

    /// Whether `name` is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| name.contains(filter))
    }

    /// `many`, or little enough for a test.
    pub fn size(&self, many: usize) -> usize {
        if self.is_test { (many / 1_000).max(2) } else { many }
    }
}

/// One line: what was measured, and the bound it should keep.
pub fn line(what: &str, figure: &str, target: &str, is_met: bool) {
    println!("{what:<58} {figure:>24}   {target:<22} {}", if is_met { "met" } else { "MISSED" });
}

/// One line without a bound.
pub fn note(what: &str, figure: &str) {
    println!("{what:<58} {figure:>24}");
}

/// The value that half of `values` do not exceed.
///
/// # Panics
///
/// If there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that this share of the sorted `values` does not exceed.
///
/// # Panics
///
/// If there are none.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// What an actor of this project takes, and what its peer takes, measured in turns.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    ours: Vec<f64>,
    peers: Vec<f64>,
}

impl Pairs {
    /// One more pair, taken one right after the other.
    pub fn add(&mut self, ours: Duration, peers: Duration) {
        self.ours.push(ours.as_secs_f64());
        self.peers.push(peers.as_secs_f64());
    }

    /// The median of ours, divided among `parts`.
    pub fn ours(&self, parts: usize) -> Duration {
        Duration::from_secs_f64(median(self.ours.clone()) / parts as f64)
    }

    /// The median of the peer's, divided among `parts`.
    pub fn peers(&self, parts: usize) -> Duration {
        Duration::from_secs_f64(median(self.peers.clone()) / parts as f64)
    }

    /// The median of the ratios: a machine that was busy for a while was so for both of a pair.
    pub fn ratio(&self) -> f64 {
        median(self.ours.iter().zip(&self.peers).map(|(ours, peers)| ours / peers).collect())
    }
}

/// How often a second something happens that takes `each`.
pub fn rate(each: Duration) -> f64 {
    1.0 / each.as_secs_f64()
}
