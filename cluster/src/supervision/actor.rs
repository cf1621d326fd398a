//! The supervisor as an actor: it hears of exits, asks [`SupervisorState`] and does what it says.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::board::{SupervisorRow, TreeBoard};
use super::intensity::RestartWindow;
use super::message::SupervisorMessage;
use super::spec::{ChildSpec, SupervisorSpec};
use super::state::{Effect, Exit, Input, SupervisorState};
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};

/// What every supervisor of a node shares.
#[derive(Clone)]
pub struct Context {
    /// Begins the ractor name of every actor of the node.
    pub prefix: Arc<str>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of starts and exits.
    pub events: EventBus,
    /// Shows the tree.
    pub board: TreeBoard,
}

/// Supervises the children of a [`SupervisorSpec`], one for one.
pub struct Supervisor {
    context: Context,
}

/// The shell's memory: the decisions' state, and which actor each child is now.
pub struct Shell {
    spec: SupervisorSpec,
    state: SupervisorState,
    cells: Vec<Option<ActorCell>>,
    gave_up: Option<String>,
}

impl Supervisor {
    /// A supervisor in `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn post(&self, shell: &Shell) {
        let names = shell.spec.children.iter().map(|child| child.name.clone());
        let children = names.zip(shell.state.children().iter().cloned()).collect();
        let (intensity, gave_up) = (shell.spec.intensity, shell.gave_up.clone());
        self.context.board.post(&shell.spec.name, SupervisorRow { intensity, children, gave_up });
    }

    async fn start(
        &self,
        me: &ActorRef<SupervisorMessage>,
        shell: &mut Shell,
        index: usize,
    ) -> Result<(), String> {
        let child: &ChildSpec = &shell.spec.children[index];
        let attempt = tokio::time::timeout(child.start_deadline, (child.start)(me.get_cell()));
        let cell = match attempt.await {
            Ok(Ok(cell)) => cell,
            Ok(Err(error)) => return Err(format!("failed to start: {}", start_failure(error))),
            Err(_) => return Err(format!("failed to start within {:?}", child.start_deadline)),
        };
        shell.cells[index] = Some(cell);
        shell.state.handle(self.context.clock.now(), Input::Started(index));
        self.context.events.tell(ClusterEvent::ChildStarted {
            supervisor: shell.spec.name.clone(),
            child: shell.spec.children[index].name.clone(),
            restarts: shell.state.children()[index].restarts,
        });
        self.post(shell);
        Ok(())
    }

    fn ended(&self, me: &ActorRef<SupervisorMessage>, shell: &mut Shell, index: usize, exit: Exit) {
        shell.cells[index] = None;
        self.context.events.tell(ClusterEvent::ChildEnded {
            supervisor: shell.spec.name.clone(),
            child: shell.spec.children[index].name.clone(),
            reason: exit.reason().to_owned(),
        });
        match shell.state.handle(self.context.clock.now(), Input::Ended(index, exit)) {
            // A message, not a call: between two attempts the supervisor answers and obeys a stop.
            Some(Effect::Start(index)) => drop(me.cast(SupervisorMessage::Start(index))),
            Some(Effect::GiveUp(reason)) => {
                let supervisor = shell.spec.name.clone();
                self.context
                    .events
                    .tell(ClusterEvent::SupervisorGaveUp { supervisor, reason: reason.clone() });
                me.stop(Some(format!("shutdown: {reason}")));
                shell.gave_up = Some(reason);
            }
            None => {}
        }
        self.post(shell);
    }

    /// Stops the children in reverse start order, each within its own deadline, killing those that exceed it.
    async fn stop_children(shell: &mut Shell) {
        for (child, cell) in shell.spec.children.iter().zip(&mut shell.cells).rev() {
            let Some(cell) = cell.take() else { continue };
            let reason = Some("its supervisor stops".to_owned());
            if cell.stop_and_wait(reason, Some(child.stop_deadline)).await.is_err() {
                tracing::warn!(child = %child.name, deadline = ?child.stop_deadline, "killed: it did not stop in time");
                // Nothing more can be done about a task that does not even yield to a kill.
                let _ = cell.kill_and_wait(Some(Duration::from_millis(200))).await;
            }
        }
    }
}

/// Why an actor did not start, in its own words: ractor calls every failure to start a panic.
pub fn start_failure(error: SpawnErr) -> String {
    match error {
        SpawnErr::StartupFailed(reason) => reason.to_string(),
        other => other.to_string(),
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = Shell;
    type Arguments = SupervisorSpec;

    /// Starts every child in order. If one fails, those before it are stopped and the supervisor fails to
    /// start.
    async fn pre_start(
        &self,
        me: ActorRef<SupervisorMessage>,
        spec: SupervisorSpec,
    ) -> Result<Shell, ActorProcessingErr> {
        let window = RestartWindow::new(spec.intensity);
        let state = SupervisorState::new(spec.children.iter().map(|child| child.restart), window);
        let cells = vec![None; spec.children.len()];
        let mut shell = Shell { spec, state, cells, gave_up: None };
        for index in 0..shell.spec.children.len() {
            if let Err(reason) = self.start(&me, &mut shell, index).await {
                let reason = format!("child {} {reason}", shell.spec.children[index].name);
                Self::stop_children(&mut shell).await;
                return Err(reason.into());
            }
        }
        Ok(shell)
    }

    async fn handle(
        &self,
        me: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisorMessage::Start(index) = message;
        if let Err(reason) = self.start(&me, shell, index).await {
            self.ended(&me, shell, index, Exit::Abnormal(reason));
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, exit) = match event {
            // ractor reports a kill as a termination with this reason.
            SupervisionEvent::ActorTerminated(cell, _, Some(reason)) if reason == "killed" => {
                (cell, Exit::Abnormal(reason))
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, Exit::Normal(reason.unwrap_or_else(|| "ended by itself".to_owned())))
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell, Exit::Abnormal(error.to_string())),
            _ => return Ok(()),
        };
        // An actor that is no child any more is one that was replaced, or failed to start in time.
        let child = shell.cells.iter().position(|c| c.as_ref().is_some_and(|c| c.get_id() == cell.get_id()));
        if let Some(index) = child {
            self.ended(&me, shell, index, exit);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<SupervisorMessage>,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        // ractor would kill them without their `post_stop`.
        Self::stop_children(shell).await;
        Ok(())
    }
}
