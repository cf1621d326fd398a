//! What the shutdown shows: `/shutdown`.

use std::time::Duration;

use alys_cluster::shutdown::Progress;
use alys_cluster::shutdown::state::TaskState;

use super::view::{ShutdownPhaseView, ShutdownTaskView, ShutdownView};

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// The shutdown of `node`.
pub(super) fn view(node: String, progress: Progress) -> ShutdownView {
    let task = |(name, state): (String, TaskState)| {
        let (state, note) = match state {
            TaskState::Waiting => ("waiting", String::new()),
            TaskState::Running => ("running", String::new()),
            TaskState::Done(note) => ("done", note),
            TaskState::Failed(error) => ("failed", error),
        };
        ShutdownTaskView { name, state: state.to_owned(), note }
    };
    let phases = progress.phases.into_iter().map(|(phase, tasks)| ShutdownPhaseView {
        name: phase.name.to_owned(),
        state: phase.state.to_string(),
        deadline_ms: millis(phase.deadline),
        tasks: tasks.into_iter().map(task).collect(),
    });
    ShutdownView {
        node,
        state: progress.state.to_string(),
        reason: progress.reason,
        forced: progress.forced,
        running_for_ms: progress.running_for.map(millis),
        left_ms: progress.left.map(millis),
        refusal: progress.refusal.map(|refusal| refusal.to_string()).unwrap_or_default(),
        phases: phases.collect(),
    }
}
