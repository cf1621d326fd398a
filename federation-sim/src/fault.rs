//! Injects faults into an actor of a member and checks how its supervision reacts.

use alys_node::ops::view::{
    ActorStatsView, FaultKind, FaultRequest, GateDecision, GateView, PatternsView, SupervisionStatsView,
};

use crate::client::Client;
use crate::step::FaultEnd;

/// A fault injection in progress.
#[derive(Debug)]
pub(crate) struct FaultInjection {
    order: FaultRequest,
    until: FaultEnd,
    /// Number of recoveries before the first injection; `None` until it has been read.
    recoveries: Option<u64>,
    /// Number of failures before the latest injection.
    failures: u64,
    strikes: u64,
    /// Polls since the latest injection.
    looks: u32,
}

/// Number of polls after which an injection counts as lost, because the actor stopped before it processed the message.
const LOST_AFTER: u32 = 100;

impl FaultInjection {
    /// Creates an injection that has not started.
    pub(crate) fn new(actor: &str, fault: FaultKind, until: FaultEnd) -> Self {
        let order = FaultRequest { actor: actor.to_owned(), fault };
        Self { order, until, recoveries: None, failures: 0, strikes: 0, looks: 0 }
    }

    /// Polls the member: returns `Ok` once the required result is reached; otherwise injects the fault again if needed
    /// and returns what is missing.
    pub(crate) fn look(&mut self, client: &Client) -> Result<(), String> {
        let (failures, recoveries) = counts(client, &self.order.actor)?;
        self.looks += 1;
        let before = *self.recoveries.get_or_insert(recoveries);
        // Only one injection at a time, so that each causes a separate failure.
        let is_time = self.strikes == 0 || failures > self.failures || self.looks > LOST_AFTER;
        match self.until {
            FaultEnd::Running if self.strikes == 0 => self.strike(client, failures)?,
            FaultEnd::Running if recoveries > before => return Ok(()),
            FaultEnd::Running => {}
            FaultEnd::Halted => match self.halted(client) {
                Ok(()) => return Ok(()),
                Err(_) if is_time => self.strike(client, failures)?,
                Err(seen) => return Err(seen),
            },
        }
        Err(format!("{} strikes, {failures} failures, {recoveries} recoveries", self.strikes))
    }

    fn strike(&mut self, client: &Client, failures: u64) -> Result<(), String> {
        client.fault(&self.order)?;
        (self.failures, self.looks) = (failures, 0);
        self.strikes += 1;
        Ok(())
    }

    fn halted(&self, client: &Client) -> Result<(), String> {
        let gate: GateView = client.get("/federation/gate")?;
        if gate.decision == GateDecision::Open || !gate.reason.contains("halted by its supervision") {
            return Err(format!("the gate is {}: {}", gate.decision, gate.reason));
        }
        let patterns: PatternsView = client.get("/supervision/patterns")?;
        let repeats = |actors: &[String]| actors.contains(&self.order.actor);
        let is_repeat = patterns.patterns.iter().any(|p| p.kind == "repeat" && repeats(&p.actors));
        let is_told = patterns.escalations.iter().any(|attempt| attempt.failure.actor == self.order.actor);
        if is_repeat && is_told {
            Ok(())
        } else {
            Err(format!("the patterns do not tell of {}: {patterns:?}", self.order.actor))
        }
    }
}

/// Number of failures and recoveries of an actor.
fn counts(client: &Client, actor: &str) -> Result<(u64, u64), String> {
    let stats: SupervisionStatsView = client.get("/supervision/stats")?;
    let of = |stats: &ActorStatsView| (stats.failures, stats.recoveries);
    Ok(stats.actors.iter().find(|stats| stats.name == actor).map_or((0, 0), of))
}
