//! The [`Outbox`] of one actor: encodes its messages and hands them to the line of whom they are for.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;

use super::codec;
use super::envelope::{Body, Class, Envelope};
use super::line::Lines;
use crate::id::{ActorName, NodeId};
use crate::port::Outbox;

/// Sends messages of type `W` to the actor of the same name on other members.
pub struct Courier<W> {
    destination: ActorName,
    to: Bytes,
    class: Class,
    lines: Lines,
    message: PhantomData<fn(W)>,
}

impl<W> Courier<W> {
    /// A courier to `destination` on every member that `lines` reach.
    pub fn new(destination: ActorName, class: Class, lines: Lines) -> Self {
        let to = Bytes::copy_from_slice(destination.as_str().as_bytes());
        Self { destination, to, class, lines, message: PhantomData }
    }
}

impl<W: Serialize + 'static> Outbox<W> for Courier<W> {
    fn send(&self, to: &NodeId, message: W) {
        let Some(line) = self.lines.get(to) else {
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
        if let Err(error) = line.send(self.class, envelope) {
            tracing::debug!(%to, %error, "a message was not sent");
        }
    }
}
