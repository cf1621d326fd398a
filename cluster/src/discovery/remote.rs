//! Handles of actors of other members: asked, told, and watched.

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

/// How long a watch waits that a link which stands has no room for.
const RETRY: Duration = Duration::from_millis(100);

/// Why a question has no answer, or a watch was not begun.
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
    /// It can not be watched: its member publishes it no longer.
    #[error("{node} does not publish {actor}")]
    Unpublished {
        /// The actor.
        actor: ActorName,
        /// Its member.
        node: NodeId,
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

/// Asks other members. Shared; cheap to clone.
#[derive(Clone)]
pub struct RemoteCaller {
    directory: Directory,
    channels: PeerChannels,
    events: Option<EventBus>,
}

impl RemoteCaller {
    /// Asks on `channels` who is in `directory`.
    pub fn new(directory: Directory, channels: PeerChannels) -> Self {
        Self { directory, channels, events: None }
    }

    /// Every question is a span from here on, if anybody listens.
    pub(super) fn tell(&mut self, events: EventBus) {
        self.events = Some(events).filter(|events| events.tracer().is_on());
    }

    /// A question that is asked now.
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

    /// A member was lost, and whoever waits for it waits in vain.
    pub(super) fn lost(&self, node: &NodeId) {
        if let Some(connection) = self.channels.get(node).and_then(|channel| channel.connection()) {
            connection.give_up_questions();
        }
    }

    /// Questions and watches under way.
    pub fn under_way(&self) -> usize {
        self.channels
            .values()
            .filter_map(|channel| channel.connection())
            .map(|connection| connection.questions())
            .sum()
    }

    /// Waits until this incarnation of the member is not there any more.
    async fn lost_member(&self, node: &NodeId, incarnation: Incarnation) {
        // Before the look at the directory, so that no change after it is missed.
        let mut members = self.directory.changes();
        while self.directory.has(node, incarnation) {
            if members.changed().await.is_err() {
                return;
            }
        }
    }

    /// The connection to the incarnation of the member that is meant: what is sent on it reaches no other.
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

/// An actor of one incarnation of another member, asked in the protocol `P`.
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
    /// A handle of what was discovered; an error if that is asked in another protocol.
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

    /// Has it done, and waits for nothing: `Ok` says that it was queued, and no more.
    pub fn cast(&self, request: &P::Request) -> Result<(), RemoteError> {
        let question = bounded(request).map_err(RemoteError::Unsent)?;
        let connection = self.caller.connection(&self.target)?;
        let (to, protocol) = (self.target.to(), Bytes::from_static(P::NAME.as_bytes()));
        let order = Body::Ask { id: 0, to, protocol, question: question.into(), patience: Duration::ZERO };
        connection.send(Lane::Request, order).map_err(|error| RemoteError::Unsent(error.to_string()))
    }

    /// Watches the life that the actor leads now. It is over when the actor ends, though its supervisor may bring it
    /// back; and when its member is lost.
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

    /// Has the local `actor` fail when this one is down, until the guard is dropped; its supervisor decides what
    /// follows. An actor that is being restarted just then is left alone: its next life links itself, or does not.
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

/// Why a watched actor is no more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Down {
    /// It ended, and its member says why.
    #[error("{actor} of {node} ended: {reason}")]
    Ended {
        /// The actor.
        actor: ActorName,
        /// Its member.
        node: NodeId,
        /// Why, in its member's words.
        reason: String,
    },
    /// Its member is lost, or has started anew.
    #[error("{actor} of {node} is gone with its member (incarnation {incarnation})")]
    Lost {
        /// The actor.
        actor: ActorName,
        /// Its member.
        node: NodeId,
        /// The member's incarnation.
        incarnation: Incarnation,
    },
    /// Its member does not let it be watched: nothing is known of it.
    #[error("{actor} of {node} can not be watched: {reason}")]
    Refused {
        /// The actor.
        actor: ActorName,
        /// Its member.
        node: NodeId,
        /// Why, in its member's words.
        reason: String,
    },
}

/// A watch on an actor of another member, until it is down or this is dropped.
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
    /// Waits until the actor is down. A link that is lost says nothing about it: the watch is taken up again on the
    /// next one, where an actor that ended meanwhile is known by its life.
    pub async fn down(self) -> Down {
        let Self { target, caller, life, watching } = self;
        let Target { node, incarnation, actor } = target.clone();
        let Some(channel) = caller.channels.get(&node).cloned() else {
            return Down::Lost { actor, node, incarnation };
        };
        let mut watching = Some(watching);
        loop {
            // Before the look at the line, so that no change after it is missed.
            let mut links = channel.changes();
            if let Some(mut watching) = watching.take() {
                tokio::select! {
                    // What the member still said of the actor goes before its loss.
                    biased;
                    ending = watching.down() => match ending {
                        Some(Ending::Down(reason)) => return Down::Ended { actor, node, reason },
                        Some(Ending::Refused(reason)) => return Down::Refused { actor, node, reason },
                        // With its connection.
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
                // A link that stands may have had no room.
                () = tokio::time::sleep(RETRY) => {}
                () = caller.lost_member(&node, incarnation) => {
                    return Down::Lost { actor, node, incarnation };
                }
            }
        }
    }
}

/// Two actors that share a fate, until this is dropped or the remote one is down.
#[derive(Debug)]
pub struct Linked(AbortHandle);

impl Drop for Linked {
    fn drop(&mut self) {
        self.0.abort();
    }
}
