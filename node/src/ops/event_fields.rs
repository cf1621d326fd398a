//! Converts an event to named fields for programs; the event's sentence is for people.

use std::collections::BTreeMap;

use alys_cluster::event::ClusterEvent;
use serde_json::{Value, json};

/// Returns the fields of an event. `actor`, `child` and `supervisor` name actors, `member` and `through` name members;
/// names of durations end in `_ms`.
pub(super) fn fields(event: &ClusterEvent) -> BTreeMap<String, Value> {
    let Value::Object(fields) = object(event) else { return BTreeMap::new() };
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn object(event: &ClusterEvent) -> Value {
    use ClusterEvent as E;
    match event {
        E::ChildStarted { supervisor, child, restarts } => {
            json!({"supervisor": supervisor.as_str(), "child": child.as_str(), "restarts": restarts})
        }
        E::ChildEnded { supervisor, child, reason } => {
            json!({"supervisor": supervisor.as_str(), "child": child.as_str(), "reason": reason})
        }
        E::RestartDecided { supervisor, record, took } => json!({
            "supervisor": supervisor.as_str(),
            "child": record.child.as_str(),
            "failure": record.failure.kind().kind(),
            "class": record.failure.class().to_string(),
            "decision": record.decision.step.as_str(),
            "halts_consensus": record.decision.halts,
            "delay_ms": ms(record.decision.due.since(record.inputs.now)),
            "obstacle": record.decision.obstacle.map(|obstacle| obstacle.to_string()),
            "attempt": record.inputs.attempt,
            "took_us": u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        }),
        E::SupervisorGaveUp { supervisor, reason } => {
            json!({"supervisor": supervisor.as_str(), "reason": reason})
        }
        E::ActorHealthChanged { actor, status, reason } => {
            json!({"actor": actor.as_str(), "status": status.to_string(), "reason": reason})
        }
        E::RecoveryChanged { actor, stage, note } => {
            json!({"actor": actor.as_str(), "stage": stage, "note": note})
        }
        E::ShutdownChanged { state, reason } => json!({"state": state, "reason": reason}),
        E::ShutdownRefused { reason } => json!({"reason": reason}),
        E::ShutdownTaskEnded { phase, task, is_done, note } => {
            json!({"phase": phase, "task": task, "is_done": is_done, "note": note})
        }
        E::PeerUp { node, incarnation } => json!({"member": node.as_str(), "incarnation": incarnation.0}),
        E::PeerDown { node, reason } | E::PeerLeft { node, reason } => {
            json!({"member": node.as_str(), "reason": reason})
        }
        E::PeerAttested { node, through } => json!({"member": node.as_str(), "through": through.as_str()}),
        E::AttestationRefused { member, from, reason } => {
            json!({"member": member.as_str(), "through": from.as_str(), "reason": reason})
        }
        E::SelfDoubted { begins, reason } => json!({"begins": begins, "reason": reason}),
        E::ClockJudged { is_wrong, error_ms } => json!({"is_wrong": is_wrong, "error_ms": error_ms}),
        E::VerdictChanged { sequence, open, healthy, required, reason } => json!({
            "sequence": sequence, "open": open, "healthy": healthy, "required": required, "reason": reason,
        }),
        E::LinkUp { peer } => json!({"member": peer.as_str()}),
        E::LinkDown { peer, reason } => json!({"member": peer.as_str(), "reason": reason}),
        E::LinkRefused { peer, reason } => json!({"member": peer, "reason": reason}),
        E::HeightCommitted { height, round, adopted, interval, deciding } => json!({
            "height": height.0,
            "round": round,
            "adopted": adopted,
            "interval_ms": interval.map(ms),
            "deciding_ms": deciding.map(ms),
        }),
        E::RoundStarted { height, round } => json!({"height": height.0, "round": round}),
        E::DuplicateMember { member, reason } => json!({"member": member, "reason": reason}),
        E::SignatureRefused { height, reason } => json!({"height": height.0, "reason": reason}),
        E::Equivocated { member, height, round, step } => {
            json!({"member": member.as_str(), "height": height.0, "round": round, "step": step})
        }
        E::SignatureUnknown { height, round, step } => {
            json!({"height": height.0, "round": round, "step": step})
        }
        E::LogLevelChanged { from, to, lasts, by } => {
            json!({"from": from, "to": to, "lasts_ms": lasts.map(ms), "by": by})
        }
    }
}
