//! Reports figures with their targets where criterion does not fit: ratios to a peer measured alternately, tail
//! latencies, and measurements in a process of their own.

use std::env;
use std::time::Duration;

/// Options of a bench run.
#[derive(Clone, Debug)]
pub struct Plan {
    filter: Option<String>,
    /// Whether this run only checks that the benches work, as in `cargo test --benches`.
    pub is_test: bool,
}

impl Plan {
    /// Parses the command line, which follows criterion's conventions.
    pub fn of_arguments() -> Self {
        let is_test = !env::args().any(|argument| argument == "--bench");
        // A number is the value of an option.
        let is_word = |argument: &String| !argument.starts_with('-') && argument.parse::<f64>().is_err();
        let filter = env::args().skip(1).find(is_word);
        Self { filter, is_test }
    }

    /// Whether the filter selects `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|filter| name.contains(filter))
    }

    /// `many`, or a small number in a test run.
    pub fn size(&self, many: usize) -> usize {
        if self.is_test { (many / 1_000).max(2) } else { many }
    }
}

/// Prints one line: the measurement, its target, and whether the target is met.
pub fn line(what: &str, figure: &str, target: &str, is_met: bool) {
    println!("{what:<58} {figure:>24}   {target:<22} {}", if is_met { "met" } else { "MISSED" });
}

/// Prints one line without a target.
pub fn note(what: &str, figure: &str) {
    println!("{what:<58} {figure:>24}");
}

/// Median of `values`.
///
/// # Panics
///
/// If `values` is empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Quantile of the sorted durations: the value that the fraction `share` of them does not exceed.
///
/// # Panics
///
/// If `sorted` is empty.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Durations of an operation of this project and of its peer, measured alternately, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    ours: Vec<f64>,
    peers: Vec<f64>,
}

impl Pairs {
    /// Adds one pair, measured one right after the other.
    pub fn add(&mut self, ours: Duration, peers: Duration) {
        self.ours.push(ours.as_secs_f64());
        self.peers.push(peers.as_secs_f64());
    }

    /// Median of our durations, divided by `parts`.
    pub fn ours(&self, parts: usize) -> Duration {
        Duration::from_secs_f64(median(self.ours.clone()) / parts as f64)
    }

    /// Median of the peer's durations, divided by `parts`.
    pub fn peers(&self, parts: usize) -> Duration {
        Duration::from_secs_f64(median(self.peers.clone()) / parts as f64)
    }

    /// Median of the ratios: load on the machine affects both measurements of a pair.
    pub fn ratio(&self) -> f64 {
        median(self.ours.iter().zip(&self.peers).map(|(ours, peers)| ours / peers).collect())
    }
}

/// Rate per second of an operation that takes `each`.
pub fn rate(each: Duration) -> f64 {
    1.0 / each.as_secs_f64()
}
