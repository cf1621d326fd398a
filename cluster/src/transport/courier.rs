//! The [`Outbox`] of one actor: encodes its messages and hands them to the link of whom they are for.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use super::codec;
use super::envelope::{Class, Envelope};
use super::message::LinkMessage;
use super::trace::TraceContext;
use crate::id::{ActorName, Incarnation, NodeId};
use crate::mailbox::Address;
use crate::port::Outbox;

/// The links of a node, by peer.
pub type Links = Arc<BTreeMap<NodeId, Address<LinkMessage>>>;

/// Sends messages of type `W` to the actor of the same name on other members.
pub struct Courier<W> {
    source: NodeId,
    incarnation: Incarnation,
    destination: ActorName,
    class: Class,
    links: Links,
    message: PhantomData<fn(W)>,
}

impl<W> Courier<W> {
    /// A courier from `source` to `destination` on every member that `links` reach.
    pub fn new(
        source: NodeId,
        incarnation: Incarnation,
        destination: ActorName,
        class: Class,
        links: Links,
    ) -> Self {
        Self { source, incarnation, destination, class, links, message: PhantomData }
    }
}

impl<W: Serialize + 'static> Outbox<W> for Courier<W> {
    fn send(&self, to: &NodeId, message: W) {
        let Some(link) = self.links.get(to) else {
            tracing::error!(%to, "no link to this member");
            return;
        };
        let payload = match codec::encode(&message) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(%to, destination = %self.destination, %error, "a message was not sent");
                return;
            }
        };
        let envelope = Envelope {
            source: self.source.clone(),
            incarnation: self.incarnation,
            destination: self.destination.clone(),
            trace: TraceContext::default(),
            payload,
        };
        if let Err(error) = link.cast(LinkMessage::Send(self.class, envelope)) {
            tracing::debug!(%to, %error, "a message was dropped before its link");
        }
    }
}
