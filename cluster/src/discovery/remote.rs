//! Implements handles to actors of other members: request, send, and watch.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::task::AbortHandle;

use super::directory::{Directory, RemoteEntry};
use super::exports::{Protocol, bounded};
use crate::event::EventBus;
use crate::id::{ActorName, Incarnation, NodeId};
use crate::port::LinkTarget;
use crate::registry::LookupError;
use crate::trace::{ParentSpan, SpanBuilder, SpanGuard, SpanKind, current, new_trace, span_id, within};
use crate::transport::connection::{Ending, Watching};
use crate::transport::envelope::Body;
use crate::transport::error::AskError;
use crate::transport::{Connection, Lane, PeerChannels, codec};

/// Delay before a watch that a working link had no room for is retried.
const RETRY: Duration = Duration::from_millis(100);

/// Why a request has no answer, or a watch was not started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RemoteError {
    /// Not sent: the handle's incarnation of the member is not up.
    #[error("{actor} of {node} (incarnation {incarnation}) is gone: the member is lost or has started anew")]
    Gone {
        /// Name of the actor.
        actor: ActorName,
        /// Member the actor runs on.
        node: NodeId,
        /// Incarnation of the member.
        incarnation: Incarnation,
    },
    /// The actor can not be watched: its member no longer publishes it.
    #[error("{node} does not publish {actor}")]
    Unpublished {
        /// Name of the actor.
        actor: ActorName,
        /// Member the actor runs on.
        node: NodeId,
    },
    /// Not sent: too many requests are pending, or the request is too large.
    #[error("the question was not sent: {0}")]
    Unsent(String),
    /// The other member declined to answer.
    #[error("{node} refused: {reason}")]
    Refused {
        /// Member that declined.
        node: NodeId,
        /// Reason it gave.
        reason: String,
    },
    /// No answer arrived. Whether the request was handled is unknown.
    #[error("{node} did not answer: {reason}; whether it did what it was asked is not known")]
    Unknown {
        /// Member that did not answer.
        node: NodeId,
        /// Reason, such as the timeout.
        reason: String,
    },
}

/// Sends requests to other members. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct RemoteCaller {
    directory: Directory,
    channels: PeerChannels,
    events: Option<EventBus>,
}

impl RemoteCaller {
    /// Creates a caller that uses `channels` to reach the members in `directory`.
    pub fn new(directory: Directory, channels: PeerChannels) -> Self {
        Self { directory, channels, events: None }
    }

    /// Enables tracing: every request becomes a span, if the tracer is on.
    pub(super) fn tell(&mut self, events: EventBus) {
        self.events = Some(events).filter(|events| events.tracer().is_on());
    }

    /// Starts the span of a request, if tracing is enabled.
    fn asks(&self, target: &Target) -> Option<SpanGuard> {
        let events = self.events.as_ref()?;
        let now = events.clock().now();
        let draft = match current() {
            Some(cause) => SpanBuilder::child(cause.context, span_id(), "ask", now),
            None => SpanBuilder::root(new_trace(), "ask", now),
        };
        let (actor, peer) = (target.actor.to_string(), target.node.to_string());
        let draft = draft.kind(SpanKind::Client).with("rpc.system", "ractor");
        Some(events.begin(draft.with("alys.actor", actor).with("alys.peer", peer)))
    }

    /// Fails the pending requests to a lost member.
    pub(super) fn lost(&self, node: &NodeId) {
        if let Some(connection) = self.channels.get(node).and_then(|channel| channel.connection()) {
            connection.give_up_questions();
        }
    }

    /// Number of pending requests and watches.
    pub fn under_way(&self) -> usize {
        self.channels
            .values()
            .filter_map(|channel| channel.connection())
            .map(|connection| connection.questions())
            .sum()
    }

    /// Waits until this incarnation of the member is not up.
    async fn lost_member(&self, node: &NodeId, incarnation: Incarnation) {
        // Subscribe before reading the directory, so that no later change is missed.
        let mut members = self.directory.changes();
        while self.directory.has(node, incarnation) {
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns the connection to the target's incarnation of the member: what is sent on it reaches no other.
    fn connection(&self, target: &Target) -> Result<Arc<Connection>, RemoteError> {
        let Target { node, incarnation, actor } = target;
        let gone =
            || RemoteError::Gone { actor: actor.clone(), node: node.clone(), incarnation: *incarnation };
        if !self.directory.has(node, *incarnation) {
            return Err(gone());
        }
        let connection = self.channels.get(node).and_then(|channel| channel.connection());
        let connection =
            connection.ok_or_else(|| RemoteError::Unsent(format!("there is no link to {node}")))?;
        if connection.incarnation() == *incarnation { Ok(connection) } else { Err(gone()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    node: NodeId,
    incarnation: Incarnation,
    actor: ActorName,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.actor, self.node)
    }
}

impl Target {
    fn to(&self) -> Bytes {
        Bytes::copy_from_slice(self.actor.as_str().as_bytes())
    }
}

/// Handle to an actor of one incarnation of another member, which speaks the protocol `P`.
pub struct RemoteHandle<P> {
    target: Target,
    caller: RemoteCaller,
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
    /// Creates a handle to a discovered actor; fails if it speaks another protocol.
    pub(super) fn of(found: &RemoteEntry, caller: RemoteCaller) -> Result<Self, LookupError> {
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

    /// Member the actor runs on.
    pub fn node(&self) -> &NodeId {
        &self.target.node
    }

    /// Name of the actor.
    pub fn actor(&self) -> &ActorName {
        &self.target.actor
    }

    /// Sends a request and waits for the answer until the deadline.
    pub async fn call(&self, deadline: Duration, request: P::Request) -> Result<P::Reply, RemoteError> {
        let asking = self.ask(deadline, request);
        let Some(guard) = self.caller.asks(&self.target) else { return asking.await };
        let outcome = within(Some(ParentSpan::local(guard.context())), asking).await;
        guard.over(outcome.as_ref().err().map(ToString::to_string));
        outcome
    }

    async fn ask(&self, deadline: Duration, request: P::Request) -> Result<P::Reply, RemoteError> {
        let node = &self.target.node;
        let question = bounded(&request).map_err(RemoteError::Unsent)?;
        let connection = self.caller.connection(&self.target)?;
        let (to, protocol) = (self.target.to(), Bytes::from_static(P::NAME.as_bytes()));
        let answer = connection.ask(to, protocol, question.into(), deadline);
        let answer = answer.await.map_err(|error| match error {
            AskError::Unsent(error) => RemoteError::Unsent(error.to_string()),
            AskError::Refused(reason) => RemoteError::Refused { node: node.clone(), reason },
            AskError::Unknown(reason) => RemoteError::Unknown { node: node.clone(), reason },
        })?;
        codec::decode(&answer).map_err(|error| RemoteError::Unknown {
            node: node.clone(),
            reason: format!("its answer can not be read: {error}"),
        })
    }

    /// Sends a request without waiting for an answer: `Ok` means that it was queued, nothing more.
    pub fn cast(&self, request: &P::Request) -> Result<(), RemoteError> {
        let question = bounded(request).map_err(RemoteError::Unsent)?;
        let connection = self.caller.connection(&self.target)?;
        let (to, protocol) = (self.target.to(), Bytes::from_static(P::NAME.as_bytes()));
        let order = Body::Ask { id: 0, to, protocol, question: question.into(), patience: Duration::ZERO };
        connection.send(Lane::Request, order).map_err(|error| RemoteError::Unsent(error.to_string()))
    }

    /// Watches the current incarnation of the actor. The watch fires when the actor stops, even if its supervisor
    /// restarts it, and when its member is lost.
    pub fn monitor(&self) -> Result<Monitor, RemoteError> {
        let connection = self.caller.connection(&self.target)?;
        let Target { node, incarnation, actor } = &self.target;
        let life = self
            .caller
            .directory
            .life(node, *incarnation, actor)
            .ok_or_else(|| RemoteError::Unpublished { actor: actor.clone(), node: node.clone() })?;
        let watching = connection.watch(self.target.to(), life);
        let watching = watching.map_err(|error| RemoteError::Unsent(error.to_string()))?;
        Ok(Monitor { target: self.target.clone(), caller: self.caller.clone(), life, watching })
    }

    /// Makes the local `actor` fail when this one goes down, until the guard is dropped; its supervisor decides what
    /// happens next. An actor that is restarting at that moment is not failed: its next incarnation must link itself.
    pub fn link(&self, actor: ActorName, fate: Arc<dyn LinkTarget>) -> Result<Linked, RemoteError> {
        let monitor = self.monitor()?;
        let task = tokio::spawn(async move {
            let (partner, down) = (monitor.target.to_string(), monitor.down().await);
            let remedy = fate.fail(&actor, partner, down.to_string()).await;
            tracing::info!(%actor, %down, ?remedy, "an actor failed with its partner");
        });
        Ok(Linked(task.abort_handle()))
    }
}

/// Why a watched actor went down.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Down {
    /// The actor stopped, as reported by its member.
    #[error("{actor} of {node} ended: {reason}")]
    Ended {
        /// Name of the actor.
        actor: ActorName,
        /// Member the actor ran on.
        node: NodeId,
        /// Reason, as reported by the member.
        reason: String,
    },
    /// The actor's member was lost or has restarted.
    #[error("{actor} of {node} is gone with its member (incarnation {incarnation})")]
    Lost {
        /// Name of the actor.
        actor: ActorName,
        /// Member the actor ran on.
        node: NodeId,
        /// Incarnation of the member.
        incarnation: Incarnation,
    },
    /// The member refused the watch: nothing is known about the actor.
    #[error("{actor} of {node} can not be watched: {reason}")]
    Refused {
        /// Name of the actor.
        actor: ActorName,
        /// Member the actor runs on.
        node: NodeId,
        /// Reason, as reported by the member.
        reason: String,
    },
}

/// A watch on an actor of another member; dropping it ends the watch.
pub struct Monitor {
    target: Target,
    caller: RemoteCaller,
    life: Incarnation,
    watching: Watching,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Target { node, incarnation, actor } = &self.target;
        write!(f, "Monitor({actor} of {node}, incarnation {incarnation}, life {})", self.life)
    }
}

impl Monitor {
    /// Waits until the actor is down. The loss of a link says nothing about the actor: the watch is renewed on the next
    /// link, where the incarnation shows whether the actor stopped meanwhile.
    pub async fn down(self) -> Down {
        let Self { target, caller, life, watching } = self;
        let Target { node, incarnation, actor } = target.clone();
        let Some(channel) = caller.channels.get(&node).cloned() else {
            return Down::Lost { actor, node, incarnation };
        };
        let mut watching = Some(watching);
        loop {
            // Subscribe before using the channel, so that no later change is missed.
            let mut links = channel.changes();
            if let Some(mut watching) = watching.take() {
                tokio::select! {
                    // A reported end takes precedence over the loss of the member.
                    biased;
                    ending = watching.down() => match ending {
                        Some(Ending::Down(reason)) => return Down::Ended { actor, node, reason },
                        Some(Ending::Refused(reason)) => return Down::Refused { actor, node, reason },
                        // The connection ended.
                        None => {}
                    },
                    () = caller.lost_member(&node, incarnation) => {
                        return Down::Lost { actor, node, incarnation };
                    }
                }
            }
            watching = caller.connection(&target).ok().and_then(|link| link.watch(target.to(), life).ok());
            if watching.is_some() {
                continue;
            }
            tokio::select! {
                _ = links.changed() => {}
                // A working link may have had no room for the watch.
                () = tokio::time::sleep(RETRY) => {}
                () = caller.lost_member(&node, incarnation) => {
                    return Down::Lost { actor, node, incarnation };
                }
            }
        }
    }
}

/// Link between a local and a remote actor, until this is dropped or the remote actor is down.
#[derive(Debug)]
pub struct Linked(AbortHandle);

impl Drop for Linked {
    fn drop(&mut self) {
        self.0.abort();
    }
}
