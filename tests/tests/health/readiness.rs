//! Tests that a member reports whether it is ready, and why not, when blocks stop, clocks are off or a peer lies.

use alys_node::actors::consensus::byzantine::Misbehaviour;
use alys_node::ops::view::{
    ClockRequest, FederationView, GateDecision, GateView, MemberView, MisbehaviourRequest, ReadyView,
};
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};

async fn order(member: &Member, misbehaviour: Option<Misbehaviour>) {
    let request = serde_json::to_string(&MisbehaviourRequest { misbehaviour }).expect("JSON");
    let answer = member.client.post("/faults/consensus", &request).await.expect("an answer");
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Waits until its `/readyz` responds with this status and a reason that contains `reason`.
async fn answers(member: &Member, status: u16, reason: &str) {
    eventually(SOON, &format!("{} answers {status} {reason}", member.name), async || {
        let answer = member.client.send("GET", "/readyz", "", "").await?;
        seen(answer.status == status && answer.body.contains(reason), answer.body)
    })
    .await;
}

async fn metric(member: &Member, name: &str) -> Result<String, String> {
    let metrics = member.client.send("GET", "/metrics", "", "").await?.body;
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let value = line.and_then(|line| line.split_whitespace().next_back());
    value.map(str::to_owned).ok_or_else(|| format!("no {name}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_see_no_block_for_three_slots_with_open_gates_are_not_ready_and_say_why() {
    let federation = Federation::start("stalled", |_| {}).await;
    for member in &federation.members {
        member.reaches(1).await;
        answers(member, 200, "").await;
    }
    // Each sends its messages to at most one other member: no quorum forms, although all members are healthy.
    for member in &federation.members {
        order(member, Some(Misbehaviour::Withholder)).await;
    }
    for member in &federation.members {
        eventually(SOON, "it is not ready behind an open gate", async || {
            let ready: ReadyView = member.client.get("/readyz").await?;
            let gate: GateView = member.client.get("/federation/gate").await?;
            let stalled = |reason: &String| {
                reason.starts_with("no block for ") && reason.ends_with(" s although the gate is open")
            };
            let is_open = gate.decision == GateDecision::Open && gate.healthy == 4;
            let is_told = !ready.ready && ready.reasons.len() == 1 && ready.reasons.iter().any(stalled);
            seen(is_open && is_told, format!("{:?}, gate {}", ready.reasons, gate.reason))
        })
        .await;
        assert_eq!(member.client.status("/readyz").await, Ok(503));
    }
    for member in &federation.members {
        order(member, None).await;
    }
    let height = federation.members[0].height();
    for member in &federation.members {
        member.reaches(height + 2).await;
        answers(member, 200, "").await;
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_clock_that_is_off_by_less_than_half_a_second_is_shown_and_one_by_more_degrades_its_member() {
    let federation = Federation::start("near-clocks", |_| {}).await;
    let (own, peers) = (&federation.members[3], &federation.members[..3]);
    let set = async |ahead_ms| {
        let request = serde_json::to_string(&ClockRequest { ahead_ms }).expect("JSON");
        let answer = own.client.post("/faults/clock", &request).await.expect("an answer");
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    let shown = async |by: &Member, of: &Member| {
        let view: FederationView = by.client.get("/federation/status").await?;
        let found = view.members.into_iter().find(|member| member.name == of.name.as_str());
        found.ok_or_else(|| "it is not shown".to_owned())
    };
    // Peers see the clock's offset; a member whose clock is off reports it itself.
    let off_by = async |ahead_ms: i64, says: &str| {
        for peer in peers {
            eventually(SOON, &format!("{} sees {ahead_ms} ms", peer.name), async || {
                let MemberView { clock_offset_ms, healthy, .. } = shown(peer, own).await?;
                let is_seen = clock_offset_ms.is_some_and(|seen| seen.abs_diff(ahead_ms) <= 50);
                seen(healthy && is_seen, format!("{clock_offset_ms:?}, healthy {healthy}"))
            })
            .await;
        }
        let wrong = if says.is_empty() { "0" } else { "1" };
        eventually(SOON, &format!("it says {says:?} of itself"), async || {
            let told = shown(own, own).await?;
            let metric = metric(own, "federation_clock_wrong").await?;
            let is_told =
                if says.is_empty() { !told.reason.contains("clock") } else { told.reason.contains(says) };
            seen(told.healthy && is_told && metric == wrong, format!("{:?}, {metric}", told.reason))
        })
        .await;
        // It keeps signing: the timestamps of its blocks are within the tolerance.
        answers(own, 200, "").await;
    };
    for (ahead_ms, says) in [
        (400, ""),
        (600, "its clock is 0.6 s ahead of the median of its peers' clocks"),
        // Above 0.4 s the warning stays (hysteresis).
        (450, "ahead of the median of its peers' clocks"),
        (0, ""),
        (-400, ""),
        (-600, "its clock is 0.6 s behind the median of its peers' clocks"),
        (0, ""),
    ] {
        set(ahead_ms).await;
        off_by(ahead_ms, says).await;
        for peer in peers {
            let told = shown(peer, peer).await.expect("it is shown");
            assert!(!told.reason.contains("clock"), "{}: {}", peer.name, told.reason);
        }
    }
    let height = federation.members[0].height();
    own.reaches(height + 1).await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_one_member_lies_about_its_height_the_others_are_ready_and_fetch_nothing() {
    let federation = Federation::start("liar", |_| {}).await;
    let (liar, honest) = (&federation.members[3], &federation.members[..3]);
    for member in honest {
        member.reaches(2).await;
        answers(member, 200, "").await;
    }
    let adopted = async |member: &Member| {
        let metrics = member.client.send("GET", "/metrics", "", "").await.expect("metrics").body;
        let is_adopted =
            |line: &&str| line.starts_with("chain_blocks_total{") && line.contains("origin=\"adopted\"");
        metrics.lines().find(is_adopted).map(str::to_owned)
    };
    let mut before = Vec::new();
    for member in honest {
        before.push(adopted(member).await);
    }
    order(liar, Some(Misbehaviour::LyingHeight)).await;
    for member in honest {
        eventually(SOON, "it hears the lie", async || {
            let view: FederationView = member.client.get("/federation/status").await?;
            let claimed = view.members.iter().find(|member| member.name == liar.name.as_str());
            let claimed = claimed.and_then(|claimed| claimed.height);
            seen(claimed.is_some_and(|height| height >= 1_000_000), format!("{claimed:?}"))
        })
        .await;
    }
    let goal = honest.iter().map(Member::height).max().expect("three") + 8;
    let mut looks = 0;
    eventually(SOON + SOON, "blocks go on", async || {
        for member in honest {
            let answer = member.client.send("GET", "/readyz", "", "").await?;
            assert_eq!(answer.status, 200, "{} at height {}: {}", member.name, member.height(), answer.body);
            looks += 1;
        }
        let lowest = honest.iter().map(Member::height).min().expect("three");
        seen(lowest >= goal, format!("height {lowest}"))
    })
    .await;
    assert!(looks >= 30, "{looks} looks");
    for (member, before) in honest.iter().zip(before) {
        assert_eq!(
            adopted(member).await,
            before,
            "{} fetched blocks that it could decide itself",
            member.name
        );
    }
    federation.stop().await;
}
