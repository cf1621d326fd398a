//! Tests that a member survives input from unauthenticated peers, Byzantine members and tampering proxies, reports what
//! was wrong, and keeps serving all others.

mod bytes;
mod certificates;
mod ops;
mod turned;
mod wire;

use std::collections::BTreeMap;

use alys_node::ops::view::{EventView, FederationView};
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};

/// Deterministic random bytes.
fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Whether an event of this kind contains all `parts`; if not, the latest events.
async fn told(member: &Member, kind: &str, parts: &[&str]) -> Result<(), String> {
    let events: Vec<EventView> = member.client.get("/events").await?;
    let is_it =
        |event: &EventView| event.kind == kind && parts.iter().all(|part| event.message.contains(part));
    let last = events.iter().rev().take(8).map(|event| format!("{}: {}", event.kind, event.message));
    seen(events.iter().any(is_it), last.collect::<Vec<_>>().join("\n"))
}

/// Waits until such an event is recorded.
async fn tells(member: &Member, kind: &str, parts: &[&str]) {
    let what = format!("{} tells {kind} of {parts:?}", member.name);
    eventually(SOON, &what, async || told(member, kind, parts).await).await;
}

/// State of honest members before an attack.
struct Calm {
    honest: Vec<usize>,
    sessions: BTreeMap<(String, String), u64>,
    height: u64,
}

impl Calm {
    /// Waits until these members work, and records their state.
    async fn of(federation: &Federation, honest: &[usize]) -> Self {
        let honest = honest.to_vec();
        let members: Vec<_> = honest.iter().map(|index| &federation.members[*index]).collect();
        for member in &members {
            member.gate_open(members.len()).await;
        }
        let (sessions, height) = (Self::sessions(&members).await, members[0].height());
        Self { honest, sessions, height }
    }

    /// Checks that no link between them was lost, and that they keep making blocks together.
    async fn holds(&self, federation: &Federation) {
        let members: Vec<_> = self.honest.iter().map(|index| &federation.members[*index]).collect();
        for member in &members {
            member.gate_open(members.len()).await;
            member.reaches(self.height + 2).await;
        }
        assert_eq!(Self::sessions(&members).await, self.sessions, "no link was lost");
    }

    async fn sessions(members: &[&Member]) -> BTreeMap<(String, String), u64> {
        let names: Vec<_> = members.iter().map(|member| member.name.to_string()).collect();
        let mut sessions = BTreeMap::new();
        for member in members {
            let view = eventually(SOON, "every honest link is up", async || {
                let view: FederationView = member.client.get("/federation/status").await?;
                let down = view.links.iter().find(|link| names.contains(&link.peer) && link.state != "up");
                down.map_or(Ok(()), |link| Err(format!("{} is {}", link.peer, link.state)))?;
                Ok::<_, String>(view)
            })
            .await;
            let links = view.links.into_iter().filter(|link| names.contains(&link.peer));
            sessions.extend(links.map(|link| ((view.node.clone(), link.peer), link.sessions)));
        }
        sessions
    }
}
