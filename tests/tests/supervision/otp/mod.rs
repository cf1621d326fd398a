//! Tests that the supervisor behaves like Erlang/OTP's `supervisor`: its test cases, on real actors.
//!
//! Every test runs on a paused clock, so that deadlines and delays cost no time and their times are exact. The whole
//! sequence of events is compared, as a [`story`]: `+a1 -a1 !a2 +a3` means "a started, stopped, failed to start, and
//! started".

mod administration;
mod cycles;
mod delays;
mod detached;
mod dynamic;
mod escalation;
mod failing_restarts;
mod hostile_ends;
mod intensity;
mod restart_types;
mod shutdown;
mod significant;

use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::id::{ActorName, ActorPriority};
use alys_cluster::supervision::failure::ActorFailureType;
use alys_cluster::supervision::message::ChildCounts;
use alys_cluster::supervision::{
    AdminError, AutoShutdown, ChildSpec, EnhancedSupervision, EscalationStep, EscalationTable,
    ExponentialBackoffConfig, FixedDelayConfig, RestartIntensity, RestartStrategy, RestartType, Shutdown,
    SlotTiming, SupervisionStrategy, SupervisorSpec,
};
use alys_tests::tree::{Order, Root, ScriptedActor, Stage, Start};
use alys_tests::{eventually, seen};

use RestartType::{Permanent, Temporary, Transient};
use SupervisionStrategy::{OneForAll, OneForOne, RestForOne};

const GROUPS: [SupervisionStrategy; 3] = [OneForOne, OneForAll, RestForOne];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Lets everything happen that is due within a minute. The clock is paused: it advances only when no task has anything
/// to do.
async fn settle() {
    tokio::time::sleep(secs(60)).await;
}

/// Lets everything happen that is due now.
async fn shortly() {
    tokio::time::sleep(ms(1)).await;
}

fn token(line: &str) -> String {
    line.replace("started ", "+").replace("stopped ", "-").replace("failed ", "!").replace(' ', "")
}

/// The whole record in short form.
fn story(stage: &Stage) -> String {
    stage.record.lines().iter().map(|line| token(line)).collect::<Vec<_>>().join(" ")
}

/// The whole record in short form, with milliseconds since `origin`.
fn moments(stage: &Stage, origin: Moment) -> Vec<(u128, String)> {
    let after = |(at, line): (Moment, String)| (at.since(origin).as_millis(), token(&line));
    stage.record.timed().into_iter().map(after).collect()
}

/// A way in which an actor ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    End,
    Fail,
    Panic,
    Kill,
}

impl Exit {
    const ALL: [Self; 4] = [Self::End, Self::Fail, Self::Panic, Self::Kill];

    /// Makes the actor end this way.
    fn befall(self, puppet: &ScriptedActor) {
        match self {
            Self::End => puppet.order(Order::End),
            Self::Fail => puppet.order(Order::Fail),
            Self::Panic => puppet.order(Order::Panic),
            Self::Kill => puppet.kill(),
        }
    }
}

/// Starts a root with this strategy.
async fn raise(
    stage: &Stage,
    group: SupervisionStrategy,
    max_restarts: u32,
    children: Vec<ChildSpec>,
) -> Root {
    let spec = stage.spec("root", max_restarts, children);
    stage.raise(SupervisorSpec { group, ..spec }).await.expect("the tree starts")
}

/// The children and their phases, in order.
async fn standing(face: &EnhancedSupervision) -> String {
    let list = face.list_children().await.expect("the supervisor answers");
    list.iter().map(|child| format!("{} {}", child.name, child.phase.as_str())).collect::<Vec<_>>().join(", ")
}

/// Waits until no actor of the stage is left.
async fn nobody_left(stage: &Stage) {
    eventually(secs(20), "no actor of the tree is left", async || {
        let known = stage.known();
        seen(known.is_empty(), known.join(", "))
    })
    .await;
}

/// The error as text.
fn told<T>(outcome: Result<T, AdminError>) -> String {
    outcome.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

fn fixed(delay: Duration, max_attempts: Option<usize>) -> RestartStrategy {
    RestartStrategy::FixedDelay(FixedDelayConfig { delay, max_attempts, ..FixedDelayConfig::default() })
}
