//! Tests a proxy between two members that changes, repeats, reorders and drops bytes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use alys_node::ops::view::{FederationView, LinkView};
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::tampering_proxy::{TamperingProxy, Trick};
use alys_tests::{eventually, seen};

use super::{Calm, tells};

/// Time after which a trick without effect is repeated.
const AGAIN: Duration = Duration::from_secs(3);

async fn link(member: &Member, peer: &str) -> Result<LinkView, String> {
    let view: FederationView = member.client.get("/federation/status").await?;
    view.links.into_iter().find(|link| link.peer == peer).ok_or_else(|| format!("no link to {peer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bytes_changed_repeated_reordered_or_lost_on_the_way_end_a_connection_that_comes_back() {
    let tampering_proxy = TamperingProxy::start().await;
    let upstream = Mutex::new(None);
    let federation = Federation::start("wire", |config| {
        for peer in &mut config.link.peers {
            if config.identity.name.as_str() == "wire-node-4" && peer.name.as_str() == "wire-node-1" {
                *upstream.lock().expect("one thread") = Some(peer.address);
                tampering_proxy.lead(peer.address);
                peer.address = tampering_proxy.address();
            }
        }
    })
    .await;
    assert!(upstream.lock().expect("one thread").is_some());
    let calm = Calm::of(&federation, &[1, 2, 3]).await;
    let (dialled, dialler) = (&federation.members[0], &federation.members[3]);
    for (number, trick) in Trick::ALL.into_iter().cycle().take(15).enumerate() {
        let before = link(dialler, "wire-node-1").await.expect("a link").sessions;
        tampering_proxy.play(trick);
        let mut since = Instant::now();
        eventually(
            SOON,
            &format!("trick {number}, {trick:?}, ends a connection that comes back"),
            async || {
                let now = link(dialler, "wire-node-1").await?;
                let is_back = now.sessions > before && now.state == "up";
                // A trick applied to the last bytes of a closing connection has no effect.
                if !is_back && since.elapsed() > AGAIN {
                    tampering_proxy.play(trick);
                    since = Instant::now();
                }
                seen(is_back, format!("{} {}", now.state, now.sessions))
            },
        )
        .await;
        dialled.linked().await;
    }
    assert!(tampering_proxy.played() >= 15, "each was played");
    // Either side may detect it first.
    let told = ["decrypt", "handshake failed", "the connection failed"];
    eventually(SOON, "one of them tells why", async || {
        let mut reasons = Vec::new();
        for (member, peer) in [(dialled, "wire-node-4"), (dialler, "wire-node-1")] {
            reasons.push(link(member, peer).await?.last_loss);
        }
        seen(
            reasons.iter().any(|reason| told.iter().any(|part| reason.contains(part))),
            format!("{reasons:?}"),
        )
    })
    .await;
    tells(dialled, "link_down", &["wire-node-4"]).await;
    for member in &federation.members {
        member.gate_open(4).await;
    }
    calm.holds(&federation).await;
    federation.stop().await;
}
