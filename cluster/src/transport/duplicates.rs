//! Detects two processes that hold one member's key, and halts the younger one.
//!
//! ```text
//!   node-4 (linked)          node-1                node-4 (a copy, connects)
//!      │ ◄──── question ────── │ ◄───────────────────── │
//!      │ ───── presence ─────► │ ────── presence ─────► │  proof for the copy
//!      │ ◄──── presence ────── │ ◄───── presence ────── │
//!      │ proof for the first   │ reports, keeps elder   │  halts if it is the younger
//! ```
//!
//! [`presence`](super::presence) defines the messages and which process is younger. This module exchanges them and
//! reports the outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::claims::{Claims, LaterStart};
use super::connection::{Connection, Inbound};
use super::envelope::Envelope;
use super::hello::Hello;
use super::identity::CertificateSigner;
use super::peer_channel::Outdated;
use super::presence::{Identity, Instance, Presence};
use crate::clock::{Clock, Moment};
use crate::event::{ClusterEvent, EventBus};
use crate::id::{ActorName, Incarnation, NodeId};
use crate::port::ConsensusHalt;

/// Actor name used as the source when a member halts because an older process holds its key.
pub const IDENTITY: &str = "identity";
/// Minimum interval between two reports of the same member's duplicate processes.
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// Maximum number of presences signed or verified per second: each costs about a millisecond, and peers trigger them.
const WORK_MAX: usize = 32;

/// Identity of this process and the means to prove it.
pub struct Holder {
    /// Name of the member.
    pub member: NodeId,
    /// Incarnation of the member.
    pub incarnation: Incarnation,
    /// Hash of the member's genesis.
    pub federation: [u8; 32],
    /// Number of peers that may be faulty.
    pub tolerated: usize,
    /// Signs with the member's key.
    pub signer: Arc<dyn CertificateSigner>,
    /// Halts the member's consensus.
    pub halt: Arc<dyn ConsensusHalt>,
}

/// What this process knows of other processes that hold its member's key or a peer's. Cheap to clone.
#[derive(Clone)]
pub struct Duplicates(Arc<Shared>);

/// Callers that wait for a presence of one process.
type Waiting = Vec<oneshot::Sender<Presence>>;

struct Shared {
    holder: Holder,
    instance: Instance,
    started: Moment,
    clock: Arc<dyn Clock>,
    events: EventBus,
    halted: OnceLock<String>,
    /// Waiting callers, by peer and by the instance that the peer was asked about.
    asked: Mutex<BTreeMap<(NodeId, Instance), Waiting>>,
    told: Mutex<BTreeMap<NodeId, Moment>>,
    claims: Mutex<Claims>,
    /// Later incarnation that peers are believed to know.
    outdated: watch::Sender<Option<LaterStart>>,
    work: Mutex<VecDeque<Moment>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Duplicates {
    /// Creates the state for a process that starts now.
    pub fn new(holder: Holder, clock: Arc<dyn Clock>, events: EventBus) -> Self {
        let (instance, started) = (Instance::draw(), clock.now());
        let claims = Claims::new(holder.incarnation, holder.tolerated, started);
        Self(Arc::new(Shared {
            holder,
            instance,
            started,
            clock,
            events,
            halted: OnceLock::new(),
            asked: Mutex::default(),
            told: Mutex::default(),
            claims: Mutex::new(claims),
            outdated: watch::Sender::new(None),
            work: Mutex::default(),
        }))
    }

    /// Instance of this process.
    pub fn instance(&self) -> Instance {
        self.0.instance
    }

    /// Why this process was halted, if an older one holds its member's key.
    pub fn halted(&self) -> Option<&str> {
        self.0.halted.get().map(String::as_str)
    }

    /// Waits until credible peers have refused this incarnation because they know a later one, or another process of
    /// the same incarnation; returns the latest that they know.
    pub async fn outdated(&self) -> LaterStart {
        let mut outdated = self.0.outdated.subscribe();
        let found = outdated.wait_for(Option::is_some).await.ok().and_then(|found| *found);
        found.expect("the sender is this object's own")
    }

    /// Records that a peer refused this process.
    fn refused(&self, peer: &NodeId, reason: &str) {
        let own = self.0.holder.incarnation;
        let Some(outdated) = Outdated::parse(reason).filter(|outdated| outdated.incarnation == own) else {
            return;
        };
        let (now, wall) = (self.0.clock.now(), self.0.clock.wall());
        if let Some(newest) = locked(&self.0.claims).hear(now, wall, peer, outdated.newest) {
            self.0.outdated.send_replace(Some(newest));
        }
    }

    /// Adds this process's instance to `hello`.
    pub(super) fn greeting(&self, hello: &Hello) -> Hello {
        Hello { instance: Some(self.0.instance), ..hello.clone() }
    }

    /// Creates and signs this process's presence beside another one.
    fn presence(&self, beside: Instance) -> Presence {
        let Shared { holder, instance, started, clock, .. } = &*self.0;
        let mut presence = Presence {
            member: holder.member.clone(),
            instance: *instance,
            beside,
            incarnation: holder.incarnation,
            uptime: clock.now().since(*started),
            signature: Vec::new(),
        };
        presence.signature = holder.signer.sign(&presence.statement(&holder.federation));
        presence
    }

    /// Whether `presence` is signed by its member.
    pub(super) fn is_signed(&self, presence: &Presence) -> bool {
        let Holder { signer, federation, .. } = &self.0.holder;
        signer.verify(&presence.member, &presence.statement(federation), &presence.signature)
    }

    /// Takes one unit of the signature budget; false if it is spent.
    fn may_work(&self) -> bool {
        let now = self.0.clock.now();
        let mut work = locked(&self.0.work);
        work.retain(|at| now.since(*at) < Duration::from_secs(1));
        let may = work.len() < WORK_MAX;
        if may {
            work.push_back(now);
        }
        may
    }

    /// Asks the process at the other end of `connection` for its presence beside `other`, a process of the same member.
    pub(super) async fn ask(
        &self,
        connection: &Connection,
        other: Instance,
        patience: Duration,
    ) -> Option<Presence> {
        let (answer, answered) = oneshot::channel();
        locked(&self.0.asked).entry((connection.peer().clone(), other)).or_default().push(answer);
        connection.identify(&Identity::Question(other));
        let presence = tokio::select! {
            answered = tokio::time::timeout(patience, answered) => answered.ok()?.ok(),
            () = connection.has_ended() => None,
        };
        // Removes callers that have timed out.
        locked(&self.0.asked).retain(|_, waiting| {
            waiting.retain(|waiting| !waiting.is_closed());
            !waiting.is_empty()
        });
        presence
    }

    /// Reports that two processes of `member` run at the same time.
    pub(super) fn tell(&self, member: &NodeId, stays: &Presence, goes: &str) {
        let reason = format!("{goes} is refused; {stays} stays");
        self.tell_once(member, reason);
    }

    fn tell_once(&self, member: &NodeId, reason: String) {
        let now = self.0.clock.now();
        let mut told = locked(&self.0.told);
        if told.get(member).is_some_and(|at| now.since(*at) < TOLD_EVERY) {
            return;
        }
        told.insert(member.clone(), now);
        drop(told);
        let member = member.clone();
        self.0.events.tell(ClusterEvent::DuplicateMember { member, reason });
    }

    /// Handles an identity frame and answers it.
    fn take(&self, from: &Connection, body: Bytes) -> Result<(), String> {
        match Identity::decode(body)? {
            Identity::Question(beside) if beside == self.0.instance => Ok(()),
            Identity::Question(beside) => {
                if self.may_work() {
                    from.identify(&Identity::Presence(self.presence(beside)));
                }
                Ok(())
            }
            Identity::Presence(presence) if presence.member == self.0.holder.member => {
                if presence.instance == self.0.instance || presence.beside != self.0.instance {
                    return Err("it shows a presence that is not about this process".to_owned());
                }
                if !self.may_work() {
                    return Ok(());
                }
                if !self.is_signed(&presence) {
                    return Err(
                        "it shows a presence in this member's name that its key has not signed".to_owned()
                    );
                }
                let own = self.presence(presence.instance);
                from.identify(&Identity::Presence(own.clone()));
                self.judge(&own, &presence);
                Ok(())
            }
            Identity::Presence(presence) if presence.member == *from.peer() => {
                let waiting = locked(&self.0.asked).remove(&(presence.member.clone(), presence.beside));
                let Some(waiting) = waiting else { return Ok(()) };
                if !self.is_signed(&presence) {
                    return Err("it shows a presence that its key has not signed".to_owned());
                }
                // A caller that has timed out asks again when it needs to.
                for waiting in waiting {
                    drop(waiting.send(presence.clone()));
                }
                Ok(())
            }
            Identity::Presence(presence) => Err(format!("it shows a presence of {}", presence.member)),
        }
    }

    /// Decides which of two processes with this member's key continues: this one or `other`.
    fn judge(&self, own: &Presence, other: &Presence) {
        let member = &self.0.holder.member;
        if own.is_younger_than(other) {
            let reason = format!(
                "another process holds the key of {member}: {other}; this one is the younger, signs nothing and \
                 does not go on"
            );
            if self.0.halted.set(reason.clone()).is_ok() {
                self.0.holder.halt.halt(&ActorName::literal(IDENTITY), &reason);
            }
            self.tell_once(member, reason);
        } else {
            self.tell_once(
                member,
                format!(
                    "another process holds the key of {member}: {other}; this one is the elder and goes on"
                ),
            );
        }
    }
}

/// Handles identity frames and passes everything else on.
pub(super) struct Identified {
    pub(super) duplicates: Option<Duplicates>,
    pub(super) inner: Arc<dyn Inbound>,
}

impl Inbound for Identified {
    fn take(&self, from: &Arc<Connection>, envelope: Envelope) -> Result<(), String> {
        self.inner.take(from, envelope)
    }

    fn refused(&self, peer: &NodeId, reason: &str) {
        if let Some(duplicates) = &self.duplicates {
            duplicates.refused(peer, reason);
        }
    }

    fn identity(&self, from: &Arc<Connection>, body: Bytes) -> Result<(), String> {
        match &self.duplicates {
            Some(duplicates) => duplicates.take(from, body),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_an_earlier_start_is_read_from_its_words() {
        let outdated = Outdated { incarnation: Incarnation(7), newest: Incarnation(9) };
        assert_eq!(Outdated::parse(&outdated.to_string()), Some(outdated));
        for other in
            ["incarnation 7", "incarnation 7 speaks after incarnation x", "the peer's link failed", ""]
        {
            assert_eq!(Outdated::parse(other), None, "{other}");
        }
    }
}
