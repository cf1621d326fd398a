//! Implements the [`Outbox`] of one actor: encodes messages and sends them on the channel of the addressed peer.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;

use super::codec;
use super::envelope::{Body, Envelope, Lane};
use super::peer_channel::PeerChannels;
use crate::id::{ActorName, NodeId};
use crate::port::Outbox;

/// Sends messages of type `W` to the actor of the same name on other members.
pub struct TypedSender<W> {
    destination: ActorName,
    to: Bytes,
    lane: Lane,
    channels: PeerChannels,
    message: PhantomData<fn(W)>,
}

impl<W> TypedSender<W> {
    /// Creates a sender to `destination` on every member reachable through `channels`.
    pub fn new(destination: ActorName, lane: Lane, channels: PeerChannels) -> Self {
        let to = Bytes::copy_from_slice(destination.as_str().as_bytes());
        Self { destination, to, lane, channels, message: PhantomData }
    }
}

impl<W: Serialize + 'static> Outbox<W> for TypedSender<W> {
    fn send(&self, to: &NodeId, message: W) {
        let Some(line) = self.channels.get(to) else {
            tracing::error!(%to, "no link to this member");
            return;
        };
        let payload = match codec::encode(&message) {
            Ok(payload) => payload.into(),
            Err(error) => {
                tracing::error!(%to, destination = %self.destination, %error, "a message was not sent");
                return;
            }
        };
        let envelope = Envelope::new(Body::Tell { to: self.to.clone(), payload });
        if let Err(error) = line.send(self.lane, envelope) {
            tracing::debug!(%to, %error, "a message was not sent");
        }
    }
}
