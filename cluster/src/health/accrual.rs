//! The phi accrual failure detector: suspicion that grows with silence.
//!
//! Instead of one time-out, it learns how regularly heartbeats come and says how unlikely the present silence
//! is: phi = −log10 P(a later heartbeat), with intervals taken as normally distributed. At phi 8 the chance
//! of a false alarm is one in 10⁸ heartbeats, if the network stays as it was.
//!
//! Hayashibara et al., "The φ accrual failure detector" (2004), in the form of Akka's
//! `PhiAccrualFailureDetector`: an acceptable pause is added to the mean, the deviation has a floor, and a
//! logistic function stands in for the normal distribution's tail. Here the tail is computed from its
//! logarithm, so that it does not underflow to infinity.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;

/// What the detector is told about the heartbeats it will see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccrualConfig {
    /// The interval to assume before one was seen.
    pub expected_interval: Duration,
    /// Silence beyond the mean interval that means nothing.
    pub acceptable_pause: Duration,
    /// The least standard deviation to assume, so that regular heartbeats do not make the detector nervous.
    pub min_std_deviation: Duration,
    /// Intervals remembered.
    pub window: usize,
}

/// Suspicion of one source of heartbeats.
#[derive(Clone, Debug)]
pub struct PhiAccrual {
    config: AccrualConfig,
    intervals_ms: VecDeque<f64>,
    last: Option<Moment>,
}

impl PhiAccrual {
    /// A detector that has seen nothing.
    pub fn new(config: AccrualConfig) -> Self {
        Self { config, intervals_ms: VecDeque::new(), last: None }
    }

    /// Records a heartbeat.
    pub fn heartbeat(&mut self, now: Moment) {
        match self.last {
            // Two samples around the expectation give a first mean and deviation.
            None => {
                let expected = millis(self.config.expected_interval);
                self.intervals_ms.extend([expected * 0.75, expected * 1.25]);
            }
            Some(last) => self.intervals_ms.push_back(millis(now.since(last))),
        }
        while self.intervals_ms.len() > self.config.window {
            self.intervals_ms.pop_front();
        }
        self.last = Some(now);
    }

    /// Forgets everything: the interval across a silence says nothing about the time after it.
    pub fn reset(&mut self) {
        self.intervals_ms.clear();
        self.last = None;
    }

    /// The last heartbeat, if there was one.
    pub fn last(&self) -> Option<Moment> {
        self.last
    }

    /// Suspicion now; 0 before the first heartbeat.
    pub fn phi(&self, now: Moment) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let n = self.intervals_ms.len() as f64;
        let mean = self.intervals_ms.iter().sum::<f64>() / n;
        let variance = self.intervals_ms.iter().map(|i| (i - mean).powi(2)).sum::<f64>() / n;
        let deviation = variance.sqrt().max(millis(self.config.min_std_deviation));
        let y = (millis(now.since(last)) - mean - millis(self.config.acceptable_pause)) / deviation;
        // P(later) ≈ 1 / (1 + e^x) with x = y(1.5976 + 0.070566 y²); −log10 of it is ln(1 + e^x) / ln 10.
        let x = y * (1.5976 + 0.070_566 * y * y);
        let ln_one_plus_exp = if x > 30.0 { x } else { x.exp().ln_1p() };
        ln_one_plus_exp / std::f64::consts::LN_10
    }
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
    fn a_reset_forgets_the_silence() {
        let mut detector = after_regular_heartbeats();
        detector.reset();
        detector.heartbeat(at(1_000_000));
        detector.heartbeat(at(1_000_250));
        assert!(detector.phi(at(1_000_500)) < 1.0);
        assert!(detector.phi(at(1_002_000)) > 8.0);
    }

    proptest! {
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
