//! Implements the phi accrual failure detector: suspicion that grows with silence.
//!
//! Instead of using one fixed timeout, it learns the distribution of heartbeat intervals and computes how unlikely the
//! present silence is: phi = −log10 P(a later heartbeat), assuming normally distributed intervals. At phi 8 the chance
//! of a false alarm is one in 10⁸ heartbeats, as long as the network does not change.
//!
//! Hayashibara et al., "The φ accrual failure detector" (2004), in the form of Akka's `PhiAccrualFailureDetector`: an
//! acceptable pause is added to the mean, the deviation has a floor, and a logistic function approximates the tail of
//! the normal distribution. Here the tail is computed from its logarithm, so that it does not underflow to infinity.
//! Running sums make the cost of phi independent of the window; they use whole microseconds so that they do not drift.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::{FieldError, require, require_between};

/// Parameters of the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccrualConfig {
    /// Interval assumed before the first one is measured.
    pub expected_interval: Duration,
    /// Silence beyond the mean interval that raises no suspicion.
    pub acceptable_pause: Duration,
    /// Lower bound of the standard deviation, so that very regular heartbeats do not make the detector oversensitive.
    pub min_std_deviation: Duration,
    /// Number of intervals in the window.
    pub window: usize,
}

impl AccrualConfig {
    /// Checks ranges: phi is undefined without an interval, a deviation and a window.
    pub fn validate(&self) -> Result<(), FieldError> {
        let (ms, ten_secs) = (Duration::from_millis(1), Duration::from_secs(10));
        let expected = "between 1ms and 10s";
        require_between("expected_interval", self.expected_interval, (ms, ten_secs), expected)?;
        let range = (Duration::ZERO, Duration::from_mins(1));
        require_between("acceptable_pause", self.acceptable_pause, range, "at most 60s")?;
        require_between("min_std_deviation", self.min_std_deviation, (ms, ten_secs), expected)?;
        require((2..=10_000).contains(&self.window), "window", self.window, "2 to 10000")
    }
}

/// Suspicion of one source of heartbeats.
#[derive(Clone, Debug)]
pub struct PhiAccrual {
    config: AccrualConfig,
    intervals_us: VecDeque<u64>,
    sum_us: u128,
    sum_of_squares: u128,
    last: Option<Moment>,
}

impl PhiAccrual {
    /// Creates a detector without samples.
    pub fn new(config: AccrualConfig) -> Self {
        Self { config, intervals_us: VecDeque::new(), sum_us: 0, sum_of_squares: 0, last: None }
    }

    /// Records a heartbeat.
    pub fn heartbeat(&mut self, now: Moment) {
        match self.last {
            // Two samples around the expected interval give an initial mean and deviation.
            None => {
                let expected = micros(self.config.expected_interval);
                self.remember(expected - expected / 4);
                self.remember(expected + expected / 4);
            }
            Some(last) => self.remember(micros(now.since(last))),
        }
        self.last = Some(now);
    }

    fn remember(&mut self, interval_us: u64) {
        let square = |us: u64| u128::from(us).pow(2);
        if self.intervals_us.len() >= self.config.window
            && let Some(oldest) = self.intervals_us.pop_front()
        {
            self.sum_us -= u128::from(oldest);
            self.sum_of_squares -= square(oldest);
        }
        self.intervals_us.push_back(interval_us);
        self.sum_us += u128::from(interval_us);
        self.sum_of_squares += square(interval_us);
    }

    /// Clears the window: an interval that spans an outage says nothing about the time after it.
    pub fn reset(&mut self) {
        self.intervals_us.clear();
        self.sum_us = 0;
        self.sum_of_squares = 0;
        self.last = None;
    }

    /// Time of the last heartbeat, if any.
    pub fn last(&self) -> Option<Moment> {
        self.last
    }

    /// Current phi; 0 before the first heartbeat.
    pub fn phi(&self, now: Moment) -> f64 {
        self.phi_excusing(now, Duration::ZERO)
    }

    /// Current phi if `excused` of the silence is due to a pause of this process itself.
    pub fn phi_excusing(&self, now: Moment, excused: Duration) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let n = self.intervals_us.len() as u128;
        let mean = self.sum_us as f64 / n as f64 / 1_000.0;
        // n² × the population variance, a whole number that is never negative.
        let spread = (n * self.sum_of_squares).saturating_sub(self.sum_us.pow(2));
        let deviation =
            ((spread as f64).sqrt() / n as f64 / 1_000.0).max(millis(self.config.min_std_deviation));
        let silence = now.since(last).saturating_sub(excused);
        let y = (millis(silence) - mean - millis(self.config.acceptable_pause)) / deviation;
        // P(later) ≈ 1 / (1 + e^x) with x = y(1.5976 + 0.070566 y²); −log10 of it is ln(1 + e^x) / ln 10.
        let x = y * (1.5976 + 0.070_566 * y * y);
        let ln_one_plus_exp = if x > 30.0 { x } else { x.exp().ln_1p() };
        ln_one_plus_exp / std::f64::consts::LN_10
    }
}

/// Converts to whole microseconds; intervals are capped at one day.
fn micros(duration: Duration) -> u64 {
    duration.min(Duration::from_hours(24)).as_micros() as u64
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn detector() -> PhiAccrual {
        PhiAccrual::new(AccrualConfig {
            expected_interval: Duration::from_millis(250),
            acceptable_pause: Duration::from_millis(500),
            min_std_deviation: Duration::from_millis(50),
            window: 100,
        })
    }

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn after_regular_heartbeats() -> PhiAccrual {
        let mut detector = detector();
        (0..200).for_each(|n| detector.heartbeat(at(n * 250)));
        detector
    }

    #[test]
    fn without_a_heartbeat_there_is_no_suspicion() {
        assert!(detector().phi(at(1_000_000)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_silent_peer_is_found_in_about_a_second_and_not_before_the_pause() {
        let detector = after_regular_heartbeats();
        let last = 199 * 250;
        let crossing = (0..60_000).find(|ms| detector.phi(at(last + ms)) >= 8.0).expect("phi grows");
        assert!((950..=1_050).contains(&crossing), "{crossing} ms");
    }

    #[test]
    fn one_lost_heartbeat_is_no_suspicion() {
        assert!(after_regular_heartbeats().phi(at(199 * 250 + 500)) < 1.0);
    }

    #[test]
    fn a_silence_of_a_day_is_finite() {
        let phi = after_regular_heartbeats().phi(at(86_400_000));
        assert!(phi.is_finite() && phi > 1e6, "{phi}");
    }

    #[test]
    fn silence_that_the_listener_slept_through_is_no_suspicion() {
        let (detector, last) = (after_regular_heartbeats(), 199 * 250);
        let excused = Duration::from_millis(250);
        assert!(detector.phi(at(last + 1_050)) > 8.0);
        assert!(detector.phi_excusing(at(last + 1_050), excused) < 2.0);
        let both = [detector.phi_excusing(at(last + 1_250), excused), detector.phi(at(last + 1_000))];
        assert!((both[0] - both[1]).abs() < f64::EPSILON, "{both:?}");
    }

    #[test]
    fn a_detector_that_could_not_compute_is_refused_by_the_field() {
        let right = detector().config;
        assert_eq!(right.validate(), Ok(()));
        let zero = Duration::ZERO;
        for (config, field) in [
            (AccrualConfig { expected_interval: zero, ..right }, "expected_interval"),
            (AccrualConfig { acceptable_pause: Duration::MAX, ..right }, "acceptable_pause"),
            (AccrualConfig { min_std_deviation: zero, ..right }, "min_std_deviation"),
            (AccrualConfig { window: 0, ..right }, "window"),
            (AccrualConfig { window: 1, ..right }, "window"),
        ] {
            assert_eq!(config.validate().expect_err("out of range").field, field);
        }
    }

    #[test]
    fn no_window_makes_the_memory_grow() {
        for window in [0, 1, 2] {
            let mut detector = PhiAccrual::new(AccrualConfig { window, ..detector().config });
            (0..1_000).for_each(|n| detector.heartbeat(at(n * 250)));
            assert!(detector.intervals_us.len() <= window.max(1), "window {window}");
        }
    }

    #[test]
    fn a_reset_forgets_the_silence() {
        let mut detector = after_regular_heartbeats();
        detector.reset();
        detector.heartbeat(at(1_000_000));
        detector.heartbeat(at(1_000_250));
        assert!(detector.phi(at(1_000_500)) < 1.0);
        assert!(detector.phi(at(1_002_000)) > 8.0);
    }

    proptest! {
        /// Compares with the definition, over the last hundred intervals.
        #[test]
        fn the_sums_are_those_of_the_window(intervals in prop::collection::vec(1u64..100_000, 99..300)) {
            let mut detector = detector();
            detector.heartbeat(at(0));
            let mut now = 0;
            for interval in &intervals {
                now += interval;
                detector.heartbeat(at(now));
            }
            let all: Vec<f64> =
                [187.5, 312.5].into_iter().chain(intervals.iter().map(|ms| *ms as f64)).collect();
            let last = &all[all.len() - 100..];
            let mean = last.iter().sum::<f64>() / 100.0;
            let variance = last.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / 100.0;
            let deviation = variance.sqrt().max(50.0);
            let y = (200_000.0 - mean - 500.0) / deviation;
            let x = y * (1.5976 + 0.070_566 * y * y);
            let expected = (if x > 30.0 { x } else { x.exp().ln_1p() }) / std::f64::consts::LN_10;
            let phi = detector.phi(at(now + 200_000));
            prop_assert!((phi - expected).abs() <= expected * 1e-9 + 1e-12, "{phi} is not {expected}");
        }

        #[test]
        fn phi_never_falls_while_silence_lasts(
            intervals in prop::collection::vec(1u64..2_000, 0..150),
            silences in prop::collection::vec(0u64..100_000, 2..20),
        ) {
            let mut detector = detector();
            let mut now = 0;
            detector.heartbeat(at(now));
            for interval in intervals {
                now += interval;
                detector.heartbeat(at(now));
            }
            let mut silences = silences;
            silences.sort_unstable();
            let phis: Vec<_> = silences.iter().map(|s| detector.phi(at(now + s))).collect();
            prop_assert!(phis.windows(2).all(|w| w[0] <= w[1] && w[1].is_finite()), "{phis:?}");
        }
    }
}
