//! Questions to actors of other members that are under way.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use super::directory::{Directory, RemoteEntry};
use super::exports::{Protocol, bounded};
use super::wire::DiscoveryWire;
use crate::id::{ActorName, Incarnation, NodeId};
use crate::port::Outbox;
use crate::registry::LookupError;
use crate::transport::codec;

/// Questions that may be under way at once; more are refused.
pub const UNDER_WAY_MAX: usize = 1_024;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RemoteError {
    /// It was not asked: the handle's incarnation of the member is not there.
    #[error("{actor} of {node} (incarnation {incarnation}) is gone: the member is lost or has started anew")]
    Gone {
        /// The actor.
        actor: ActorName,
        /// Its member.
        node: NodeId,
        /// The member's incarnation.
        incarnation: Incarnation,
    },
    /// It was not asked: too many questions are under way, or it is too long.
    #[error("the question was not sent: {0}")]
    Unsent(String),
    /// The other member answered that it does not answer.
    #[error("{node} refused: {reason}")]
    Refused {
        /// The member.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// No answer came. Whether the question was dealt with is not known.
    #[error("{node} did not answer: {reason}; whether it did what it was asked is not known")]
    Unknown {
        /// The member.
        node: NodeId,
        /// What was waited for.
        reason: String,
    },
}

struct Waiting {
    node: NodeId,
    answer: oneshot::Sender<Result<Vec<u8>, String>>,
}

/// Asks other members, and takes their answers. Shared; cheap to clone.
#[derive(Clone)]
pub struct Caller(Arc<Shared>);

struct Shared {
    directory: Directory,
    outbox: Arc<dyn Outbox<DiscoveryWire>>,
    last_id: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

/// Removes a question that nobody waits for any more.
struct Question<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.id);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller {
    /// Asks through `outbox` who is in `directory`, for this incarnation of its own member: an answer that comes too
    /// late, to a question of an earlier one, is no answer to a new question.
    pub fn new(
        directory: Directory,
        incarnation: Incarnation,
        outbox: Arc<dyn Outbox<DiscoveryWire>>,
    ) -> Self {
        let (last_id, waiting) = (AtomicU64::new(incarnation.0 << 32), Mutex::default());
        Self(Arc::new(Shared { directory, outbox, last_id, waiting }))
    }

    /// Takes an answer. One that nobody waits for, or that another member gives, is dropped.
    pub(super) fn answered(&self, from: &NodeId, id: u64, outcome: Result<Vec<u8>, String>) {
        let mut waiting = self.0.waiting();
        if waiting.get(&id).is_some_and(|question| question.node == *from)
            && let Some(question) = waiting.remove(&id)
        {
            // A caller that gave up meanwhile does not hear it.
            let _ = question.answer.send(outcome);
        }
    }

    /// A member was lost, and whoever waits for it waits in vain.
    pub(super) fn lost(&self, node: &NodeId) {
        self.0.waiting().retain(|_, question| question.node != *node);
    }

    /// Questions under way.
    pub fn under_way(&self) -> usize {
        self.0.waiting().len()
    }

    async fn ask(
        &self,
        target: &Target,
        protocol: &str,
        question: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let Target { node, incarnation, actor } = target.clone();
        let (answer, answered) = oneshot::channel();
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut waiting = self.0.waiting();
            if waiting.len() >= UNDER_WAY_MAX {
                let reason = format!("{UNDER_WAY_MAX} questions are under way; expected fewer");
                return Err(RemoteError::Unsent(reason));
            }
            waiting.insert(id, Waiting { node: node.clone(), answer });
        }
        let _question = Question { shared: &self.0, id };
        // After it waits, so that a loss in between is not missed.
        if !self.0.directory.has(&node, incarnation) {
            return Err(RemoteError::Gone { actor, node, incarnation });
        }
        let protocol = protocol.to_owned();
        self.0.outbox.send(&node, DiscoveryWire::Request { id, incarnation, actor, protocol, question });
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(reason))) => Err(RemoteError::Refused { node, reason }),
            Ok(Err(_)) => Err(RemoteError::Unknown { node, reason: "the member was lost".to_owned() }),
            Err(_) => {
                let reason = format!("no answer within {deadline:?}");
                Err(RemoteError::Unknown { node, reason })
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    node: NodeId,
    incarnation: Incarnation,
    actor: ActorName,
}

/// An actor of one incarnation of another member, asked in the protocol `P`.
pub struct RemoteHandle<P> {
    target: Target,
    caller: Caller,
    protocol: PhantomData<fn(P)>,
}

impl<P> Clone for RemoteHandle<P> {
    fn clone(&self) -> Self {
        Self { target: self.target.clone(), caller: self.caller.clone(), protocol: PhantomData }
    }
}

impl<P> std::fmt::Debug for RemoteHandle<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Target { node, incarnation, actor } = &self.target;
        write!(f, "RemoteHandle({actor} of {node}, incarnation {incarnation})")
    }
}

impl<P: Protocol> RemoteHandle<P> {
    /// A handle of what was discovered; an error if that is asked in another protocol.
    pub(super) fn of(found: &RemoteEntry, caller: Caller) -> Result<Self, LookupError> {
        let actor = found.entry.name().clone();
        if *found.protocol != *P::NAME {
            let (expected, asked) = (found.protocol.to_string(), P::NAME);
            return Err(LookupError::WrongProtocol {
                name: actor,
                node: found.node.clone(),
                expected,
                asked,
            });
        }
        let target = Target { node: found.node.clone(), incarnation: found.incarnation, actor };
        Ok(Self { target, caller, protocol: PhantomData })
    }

    /// The member.
    pub fn node(&self) -> &NodeId {
        &self.target.node
    }

    /// The actor.
    pub fn actor(&self) -> &ActorName {
        &self.target.actor
    }

    /// Asks, and waits for the answer until the deadline.
    pub async fn call(&self, deadline: Duration, request: P::Request) -> Result<P::Reply, RemoteError> {
        let question = bounded(&request).map_err(RemoteError::Unsent)?;
        let answer = self.caller.ask(&self.target, P::NAME, question, deadline).await?;
        codec::decode(&answer).map_err(|error| RemoteError::Unknown {
            node: self.target.node.clone(),
            reason: format!("its answer can not be read: {error}"),
        })
    }
}
