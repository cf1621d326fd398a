//! Computes trends of the checks of an actor or a member over its last samples: rates, means, slopes, and a forecast of
//! when it becomes too slow.
//!
//! Windows are counted in samples, not in time, so that an actor checked once a minute has as much data as one checked
//! twice a second. Slopes are those of a least-squares line over time. A forecast is given only if the line explains
//! most of the variance, because noise has slopes, too.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::id::ActorPriority;
use crate::ping::HealthStatus;

/// Maximum number of samples kept per source.
pub const SAMPLES_MAX: usize = 64;
/// Minimum number of samples before a slope is computed or a threshold adapts.
const SAMPLES_MIN: usize = 8;
/// Number of standard deviations above the mean that still count as usual.
const DEVIATIONS: f64 = 6.0;
/// Minimum share of the variance that a line must explain before it is extrapolated.
const EXPLAINED_MIN: f64 = 0.5;
/// Maximum range of a forecast.
const FORECAST_MAX: Duration = Duration::from_hours(24);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at: Moment,
    /// Response time in milliseconds; `None` if there was no answer.
    response: Option<f32>,
    score: f32,
}

/// Last samples of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trend {
    samples: VecDeque<Sample>,
}

/// Summary of the samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Number of samples.
    pub samples: usize,
    /// Time from the first sample to the last.
    pub span: Duration,
    /// Share of samples without an answer, from 0 to 1.
    pub failure_rate: f64,
    /// Mean response time.
    pub response_mean: Duration,
    /// Longest response time.
    pub response_max: Duration,
    /// Slope of the response time, in milliseconds per second.
    pub response_slope: f64,
    /// Mean score, from 0 (never works) to 1 (healthy).
    pub score: f64,
    /// Slope of the score, per second.
    pub score_slope: f64,
    /// Forecast time until the response time reaches the limit; zero if it has. `None` if it does not rise, is too
    /// irregular, or does not reach the limit within a day.
    pub crosses_in: Option<Duration>,
}

/// Score of a status, from 0 to 1.
pub fn score(status: HealthStatus) -> f64 {
    match status {
        HealthStatus::Healthy => 1.0,
        HealthStatus::Degraded => 0.5,
        HealthStatus::Recovering => 0.25,
        HealthStatus::Unknown | HealthStatus::Unhealthy | HealthStatus::ShuttingDown => 0.0,
    }
}

/// Weight of an actor of this priority in the score of its node.
pub fn weight(priority: ActorPriority) -> f64 {
    match priority {
        ActorPriority::Critical => 8.0,
        ActorPriority::High => 4.0,
        ActorPriority::Normal => 2.0,
        ActorPriority::Background => 1.0,
    }
}

/// Score of a node: the weighted mean of its actors' scores, from 0 to 1 (specification, "System Health Score"). Actors
/// that were never checked do not count; if there are no others, the score is 0.
pub fn node_score(actors: impl Iterator<Item = (ActorPriority, HealthStatus)>) -> f64 {
    let known = actors.filter(|(_, status)| *status != HealthStatus::Unknown);
    let (sum, weights) = known.fold((0.0, 0.0), |(sum, weights), (priority, status)| {
        (sum + weight(priority) * score(status), weights + weight(priority))
    });
    if weights == 0.0 { 0.0 } else { sum / weights }
}

/// Fits a least-squares line; returns its value at the last point, its slope, and the share of variance it explains.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64, f64)> {
    if points.len() < SAMPLES_MIN {
        return None;
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum()
    };
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if xx <= 0.0 {
        return None;
    }
    let slope = xy / xx;
    let explained = if yy > 0.0 { xy * xy / (xx * yy) } else { 0.0 };
    let last = points.last().map_or(mean_x, |point| point.0);
    Some((mean_y + slope * (last - mean_x), slope, explained))
}

fn from_ms(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms.max(0.0) / 1_000.0).unwrap_or(Duration::MAX)
}

impl Trend {
    /// Adds the outcome of a check: the response time, if there was an answer, and the resulting status.
    pub fn record(&mut self, at: Moment, response: Option<Duration>, status: HealthStatus) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let response = response.map(|time| (time.as_secs_f64() * 1_000.0) as f32);
        self.samples.push_back(Sample { at, response, score: score(status) as f32 });
    }

    fn answers(&self) -> impl Iterator<Item = f64> {
        self.samples.iter().filter_map(|sample| sample.response).map(f64::from)
    }

    /// Response time above which an answer is slow: adapts to the source within the given limits. The upper limit until
    /// there are enough samples.
    pub fn threshold(&self, (least, most): (Duration, Duration)) -> Duration {
        let count = self.answers().count();
        if count < SAMPLES_MIN {
            return most;
        }
        let mean = self.answers().sum::<f64>() / count as f64;
        let variance = self.answers().map(|ms| (ms - mean).powi(2)).sum::<f64>() / count as f64;
        from_ms(mean + DEVIATIONS * variance.sqrt()).clamp(least, most)
    }

    /// Summarises the samples and forecasts when the response time reaches `limit`.
    pub fn summary(&self, limit: Duration) -> Summary {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return Summary::default();
        };
        let count = self.samples.len();
        let since = |sample: &Sample| sample.at.since(first.at).as_secs_f64();
        let answered: Vec<_> = self
            .samples
            .iter()
            .filter_map(|sample| sample.response.map(|ms| (since(sample), f64::from(ms))))
            .collect();
        let scores: Vec<_> =
            self.samples.iter().map(|sample| (since(sample), f64::from(sample.score))).collect();
        let mean = answered.iter().map(|(_, ms)| ms).sum::<f64>() / answered.len().max(1) as f64;
        let most = answered.iter().map(|(_, ms)| *ms).fold(0.0, f64::max);
        let response = line(&answered);
        let crosses_in = response.filter(|(.., explained)| *explained >= EXPLAINED_MIN);
        let crosses_in = crosses_in
            .filter(|(_, slope, _)| *slope > 0.0)
            .map(|(now, slope, _)| from_ms((limit.as_secs_f64() * 1_000.0 - now) / slope * 1_000.0));
        Summary {
            samples: count,
            span: last.at.since(first.at),
            failure_rate: (count - answered.len()) as f64 / count as f64,
            response_mean: from_ms(mean),
            response_max: from_ms(most),
            response_slope: response.map_or(0.0, |(_, slope, _)| slope),
            score: scores.iter().map(|(_, score)| score).sum::<f64>() / count as f64,
            score_slope: line(&scores).map_or(0.0, |(_, slope, _)| slope),
            crosses_in: crosses_in.filter(|within| *within <= FORECAST_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn of(responses: impl IntoIterator<Item = Option<u64>>) -> Trend {
        let mut trend = Trend::default();
        for (secs, ms) in (0..).zip(responses) {
            let status = if ms.is_some() { HealthStatus::Healthy } else { HealthStatus::Degraded };
            trend.record(at(secs), ms.map(Duration::from_millis), status);
        }
        trend
    }

    #[test]
    fn a_response_time_that_rises_has_a_slope_and_a_forecast() {
        // 10 ms more every second, 100 ms at the end.
        let summary = of((1..=10).map(|n| Some(n * 10))).summary(Duration::from_secs(1));
        assert!((summary.response_slope - 10.0).abs() < 1e-3, "{summary:?}");
        assert_eq!(summary.crosses_in.map(|within| within.as_secs_f64().round()), Some(90.0));
        assert_eq!((summary.samples, summary.span), (10, Duration::from_secs(9)));
        let over = of((1..=10).map(|n| Some(n * 200))).summary(Duration::from_secs(1));
        assert_eq!(over.crosses_in, Some(Duration::ZERO), "it has crossed it already");
    }

    #[test]
    fn noise_and_quiet_have_no_forecast() {
        let noise = of([10, 90, 20, 80, 15, 95, 12, 88, 30, 85].map(Some)).summary(Duration::from_secs(1));
        assert_eq!(noise.crosses_in, None, "{noise:?}");
        let quiet = of([Some(5); 20]).summary(Duration::from_secs(1));
        assert_eq!((quiet.crosses_in, quiet.response_slope.abs() < 1e-9), (None, true));
        assert_eq!(Trend::default().summary(Duration::from_secs(1)), Summary::default());
    }

    #[test]
    fn failures_are_a_rate_and_lower_the_score() {
        let summary = of([Some(5), None, Some(5), None]).summary(Duration::from_secs(1));
        assert!((summary.failure_rate - 0.5).abs() < 1e-9 && (summary.score - 0.75).abs() < 1e-9);
        let falling = of((0..20).map(|n| (n < 10).then_some(5))).summary(Duration::from_secs(1));
        assert!(falling.score_slope < 0.0, "{falling:?}");
    }

    #[test]
    fn the_threshold_follows_what_is_usual_within_its_limits() {
        assert_eq!(of([Some(1); 3]).threshold(LIMITS), LIMITS.1, "nothing is usual yet");
        assert_eq!(of([Some(1); 20]).threshold(LIMITS), LIMITS.0, "not more nervous than this");
        assert_eq!(of([Some(100), Some(900)].repeat(10)).threshold(LIMITS), LIMITS.1);
        let usual = of([Some(90), Some(110)].repeat(10)).threshold(LIMITS);
        assert_eq!(usual.as_millis(), 160, "100 ms and six deviations of 10 ms");
    }

    #[test]
    fn the_score_of_a_node_weighs_its_critical_actors_most() {
        use ActorPriority::{Background, Critical};
        use HealthStatus::{Healthy, Unhealthy, Unknown};
        let table = [
            (vec![(Critical, Healthy), (Background, Unhealthy)], 8.0 / 9.0),
            (vec![(Critical, Unhealthy), (Background, Healthy)], 1.0 / 9.0),
            (vec![(Critical, Healthy), (Critical, Unknown)], 1.0),
            (vec![], 0.0),
        ];
        for (actors, expected) in table {
            let found = node_score(actors.iter().copied());
            assert!((found - expected).abs() < 1e-9, "{actors:?}: {found}");
        }
    }

    proptest! {
        #[test]
        fn every_figure_is_finite_and_in_its_range(
            responses in prop::collection::vec(prop::option::of(0u64..10_000), 0..200),
        ) {
            let trend = of(responses);
            let summary = trend.summary(Duration::from_secs(1));
            prop_assert!(summary.samples <= SAMPLES_MAX);
            prop_assert!((0.0..=1.0).contains(&summary.failure_rate) && (0.0..=1.0).contains(&summary.score));
            prop_assert!(summary.response_slope.is_finite() && summary.score_slope.is_finite());
            prop_assert!(summary.crosses_in.is_none_or(|within| within <= FORECAST_MAX));
            let threshold = trend.threshold(LIMITS);
            prop_assert!(LIMITS.0 <= threshold && threshold <= LIMITS.1);
        }
    }
}
