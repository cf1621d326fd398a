//! Tests that four members over real connections build one chain, and what happens when parts of them fail.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_cluster::event::ClusterEvent;
use alys_cluster::federation::HeartbeatConfig;
use alys_cluster::health::HealthConfig;
use alys_cluster::id::ActorName;
use alys_cluster::supervision::decision::{DecisionRecord, decide};
use alys_cluster::supervision::{
    ActorFailureType, EscalationStep, PatternConfig, RestartIntensity, SupervisionConfig,
};
use alys_node::ops::view::{
    AttemptView, BlockView, EventView, FederationView, GateDecision, GateView, LinkView, PatternView,
    PatternsView, ReadyView, SignaturesView, SupervisionMemoryView, SupervisionStatsView, TreeView,
};
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};
use ractor::ActorCell;
use tokio::time::{Instant, sleep};

/// Restart budgets that no test exceeds.
fn generous() -> SupervisionConfig {
    let budget = RestartIntensity { max_restarts: 50, within: Duration::from_mins(30) };
    SupervisionConfig {
        max_restarts: budget.max_restarts,
        within: budget.within,
        bound: budget,
        ..SupervisionConfig::default()
    }
}

/// Checks that all members continue together and none signed twice, and stops them.
async fn are_as_before(federation: Federation) {
    let members = &federation.members;
    let head = members.iter().map(Member::height).max().expect("members");
    agree_on(members, head + 2).await;
    nobody_signed_twice(members).await;
    federation.stop().await;
}

/// Finds a child anywhere in the tree.
fn find<'a>(tree: &'a TreeView, name: &str) -> Option<&'a TreeView> {
    if tree.name == name { Some(tree) } else { tree.children.iter().find_map(|child| find(child, name)) }
}

/// An actor that is about to fail, and its state before. Only the next incarnation counts as its recovery, because on a
/// busy machine an actor may also be restarted for other reasons.
struct Watched<'a> {
    member: &'a Member,
    actor: String,
    cell: ActorCell,
    restarts: u64,
}

impl<'a> Watched<'a> {
    /// Records the state of the running actor.
    async fn of(member: &'a Member, actor: &str) -> Self {
        let (cell, found) = Self::running(member, actor, |cell, _| cell.is_some()).await;
        let cell = cell.expect("it is registered");
        Self { member, actor: actor.to_owned(), cell, restarts: found.restarts }
    }

    /// Kills the current incarnation.
    fn kill(&mut self) {
        let full = format!("{}/{}", self.member.name, self.actor);
        // If a proxy has taken its name meanwhile, the recorded actor is killed.
        self.cell = ractor::registry::where_is(full).unwrap_or_else(|| self.cell.clone());
        self.cell.kill();
    }

    /// Waits until the tree shows the next incarnation running.
    async fn is_back(&self) -> TreeView {
        // A gateway may have lost its name meanwhile: its proxies in the other three members have the same name, and
        // names are global to the process. So this checks that the killed actor is gone, not which one is registered.
        let killed = self.cell.get_id();
        let is_next = |cell: Option<&ActorCell>, restarts: u64| {
            cell.is_none_or(|cell| cell.get_id() != killed) && restarts > self.restarts
        };
        Self::running(self.member, &self.actor, is_next).await.1
    }

    async fn running(
        member: &Member,
        actor: &str,
        is_it: impl Fn(Option<&ActorCell>, u64) -> bool,
    ) -> (Option<ActorCell>, TreeView) {
        let full = format!("{}/{actor}", member.name);
        eventually(SOON, &format!("{full} runs"), async || {
            let tree: TreeView = member.client.get("/supervision/tree").await?;
            let found = find(&tree, actor).ok_or("not in the tree")?;
            let cell = ractor::registry::where_is(full.clone());
            if found.state == "running" && is_it(cell.as_ref(), found.restarts) {
                Ok((cell, found.clone()))
            } else {
                Err(format!("{} after {} restarts, {}", found.state, found.restarts, found.last_failure))
            }
        })
        .await
    }
}

/// Waits until every member has the block at `height`, and checks that it is the same one.
async fn agree_on(members: &[Member], height: u64) -> BlockView {
    let mut hashes = BTreeMap::new();
    let mut last = None;
    for member in members {
        member.reaches(height).await;
        let block: BlockView = member.client.get(&format!("/chain/blocks/{height}")).await.expect("a block");
        hashes.insert(member.name.clone(), block.hash.clone());
        last = Some(block);
    }
    assert_eq!(hashes.values().collect::<BTreeSet<_>>().len(), 1, "height {height}: {hashes:?}");
    last.expect("there are members")
}

/// Checks that no member signed two different values for one height, round and step.
async fn nobody_signed_twice(members: &[Member]) {
    for member in members {
        // A member that started slightly later than the others signs nothing at first.
        let signed = eventually(SOON, &format!("{} has signed", member.name), async || {
            let signed: SignaturesView = member.client.get("/consensus/signatures?from_height=0").await?;
            if signed.signatures.is_empty() { Err("nothing yet".to_owned()) } else { Ok(signed) }
        })
        .await;
        let mut blocks: BTreeMap<(u64, u32, String), BTreeSet<Option<String>>> = BTreeMap::new();
        for signature in signed.signatures {
            let step = (signature.height, signature.round, signature.step);
            blocks.entry(step).or_default().insert(signature.block);
        }
        let twice: Vec<_> = blocks.iter().filter(|(_, blocks)| blocks.len() > 1).collect();
        assert!(twice.is_empty(), "{} signed twice: {twice:?}", member.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_members_make_the_same_blocks_and_include_a_transaction_submitted_to_one() {
    let federation = Federation::start("blocks", |_| {}).await;
    let members = &federation.members;
    for height in 1..=2 {
        let block = agree_on(members, height).await;
        assert!(block.certificate.signers.len() >= 3, "{:?}", block.certificate.signers);
        assert_eq!((block.certificate.block, block.height), (block.hash, height));
    }
    let answer =
        members[2].client.post("/transactions", "{\"payload\":\"c0ffee\"}").await.expect("an answer");
    assert_eq!(answer.status, 202, "{answer:?}");
    let from = members[2].height();
    for member in members {
        eventually(SOON, &format!("{} has the transaction", member.name), async || {
            for height in (from.max(1)..=member.height()).rev() {
                let block: BlockView = member.client.get(&format!("/chain/blocks/{height}")).await?;
                if block.transactions.iter().any(|transaction| transaction == "c0ffee") {
                    return Ok(());
                }
            }
            Err(format!("not in a block up to height {}", member.height()))
        })
        .await;
    }
    let head = members.iter().map(Member::height).max().expect("members");
    agree_on(members, head).await;
    let mut holding = 0;
    for height in 1..=head {
        let block: BlockView =
            members[0].client.get(&format!("/chain/blocks/{height}")).await.expect("a block");
        holding += block.transactions.len();
    }
    assert_eq!(holding, 1, "it is in one block, once");
    // A new engine also remembers the transaction.
    let mut engine = Watched::of(&members[2], "engine").await;
    engine.kill();
    engine.is_back().await;
    let again = members[2].client.post("/transactions", "{\"payload\":\"c0ffee\"}").await;
    assert_eq!(again.expect("an answer").status, 409);
    nobody_signed_twice(members).await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_chain_or_consensus_is_killed_goes_on_and_never_signs_twice() {
    let generous = generous();
    let federation = Federation::start("killed", |config| config.supervision = generous).await;
    let members = &federation.members;
    let hurt = &members[1];

    let mut chain = Watched::of(hurt, "chain").await;
    chain.kill();
    assert_eq!(chain.is_back().await.last_failure, "killed");
    hurt.reaches(hurt.height() + 1).await;

    let mut killed = 0;
    let mut consensus = Watched::of(hurt, "consensus").await;
    let mut events = hurt.node().context().events.listen();
    while killed < 3 {
        let told =
            tokio::time::timeout(SOON, events.recv()).await.expect("rounds go on").expect("not too slow");
        if let ClusterEvent::RoundStarted { .. } = told.event {
            // A little later each time: at the start of the round, and in the middle of it.
            sleep(Duration::from_millis(killed * 8)).await;
            consensus.kill();
            killed += 1;
            consensus.is_back().await;
            consensus = Watched::of(hurt, "consensus").await;
            events = hurt.node().context().events.listen();
        }
    }
    let height = hurt.height() + 2;
    agree_on(members, height).await;
    nobody_signed_twice(members).await;

    // Kill both at once: consensus finds a chain actor that has not restarted yet.
    let (mut chain, mut consensus) = (Watched::of(hurt, "chain").await, consensus);
    chain.kill();
    consensus.kill();
    chain.is_back().await;
    consensus.is_back().await;
    agree_on(members, hurt.height() + 2).await;
    nobody_signed_twice(members).await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_federation_actor_is_killed_closes_its_gate_and_opens_it_again() {
    let federation = Federation::start("watch", |config| config.supervision = generous()).await;
    let hurt = &federation.members[0];
    for _ in 0..3 {
        let closings = |gate: &GateView| {
            gate.history.iter().filter(|record| record.decision == GateDecision::Closed).count()
        };
        let before: GateView = hurt.client.get("/federation/gate").await.expect("a gate");
        let mut watched = Watched::of(hurt, "federation").await;
        watched.kill();
        watched.is_back().await;
        eventually(SOON, "the gate was closed", async || {
            let now: GateView = hurt.client.get("/federation/gate").await?;
            seen(closings(&now) > closings(&before), format!("{:?}", now.history.last()))
        })
        .await;
        hurt.gate_open(4).await;
        hurt.reaches(hurt.height() + 1).await;
    }
    nobody_signed_twice(&federation.members).await;
    federation.stop().await;
}

/// Every link of every member, by direction.
async fn links(members: &[Member]) -> Result<BTreeMap<String, LinkView>, String> {
    let mut links = BTreeMap::new();
    for member in members {
        let view: FederationView = member.client.get("/federation/status").await?;
        links.extend(view.links.into_iter().map(|link| (format!("{} to {}", view.node, link.peer), link)));
    }
    Ok(links)
}

/// Waits until envelopes flow on every link, counted from now.
async fn envelopes_flow(members: &[Member]) {
    let before = eventually(SOON, "every link says how it stands", async || links(members).await).await;
    eventually(SOON, "envelopes flow on every link", async || {
        let now = links(members).await?;
        // More than may have been in transit when counting began.
        let stuck = now.iter().filter(|(way, link)| link.state != "up" || link.sent < before[*way].sent + 30);
        let stuck = stuck
            .map(|(way, link)| format!("{way} is {}: {} sent, {} lost", link.state, link.sent, link.lost));
        let stuck: Vec<_> = stuck.collect();
        seen(stuck.is_empty(), stuck.join("; "))
    })
    .await;
}

/// Kills actors of members, all at once, and checks that the federation recovers.
async fn heals_after_the_deaths_of(tag: &str, victims: &[(usize, &str)]) {
    let federation = Federation::start(tag, |_| {}).await;
    let members = &federation.members;
    let mut watched = Vec::new();
    for (member, actor) in victims {
        watched.push(Watched::of(&members[*member], actor).await);
    }
    watched.iter_mut().for_each(Watched::kill);
    for victim in &watched {
        victim.is_back().await;
    }
    envelopes_flow(members).await;
    for member in members {
        member.gate_open(4).await;
    }
    are_as_before(federation).await;
}

// All others dial the first member; the last member dials all others.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_are_linked_again_after_network_actors_were_killed_on_both_sides() {
    heals_after_the_deaths_of("network", &[(0, "network"), (3, "network")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_are_reached_again_after_their_gateways_were_killed() {
    heals_after_the_deaths_of("gateway", &[(0, "gateway"), (3, "gateway")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_are_linked_again_after_link_actors_were_killed_where_they_dial_and_where_they_are_dialled() {
    heals_after_the_deaths_of("link", &[(0, "link/link-node-2"), (3, "link/link-node-3")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_go_on_after_an_engine_a_sync_actor_a_monitor_and_a_logger_were_killed() {
    let victims = [(0, "engine"), (1, "sync"), (2, "health"), (3, "logging")];
    heals_after_the_deaths_of("others", &victims).await;
}

/// Kills every incarnation of an actor until its tier gives up and is restarted as a whole.
async fn exhaust(member: &Member, actor: &str, tier: &str) {
    let full = format!("{}/{actor}", member.name);
    let mut last = None;
    eventually(SOON, &format!("the {tier} tier of {} is restarted", member.name), async || {
        let target = ractor::registry::where_is(full.clone()).ok_or("being restarted")?;
        let tree = member.client.get("/supervision/tree").await?;
        let restarts = find(&tree, tier).map_or(0, |tier| tier.restarts);
        if restarts == 0 && last != Some(target.get_id()) {
            last = Some(target.get_id());
            target.kill();
        }
        seen(restarts > 0, "no restart")
    })
    .await;
    Watched::of(member, tier).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_go_on_after_a_whole_tier_was_restarted() {
    let federation = Federation::start("tiers", |_| {}).await;
    let members = &federation.members;
    exhaust(&members[0], "engine", "critical").await;
    exhaust(&members[1], "consensus", "high").await;
    exhaust(&members[3], "sync", "normal").await;
    envelopes_flow(members).await;
    for member in members {
        member.gate_open(4).await;
    }
    are_as_before(federation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_over_every_budget_ends_with_its_reason_and_the_other_three_go_on() {
    let frugal = SupervisionConfig {
        max_restarts: 1,
        within: Duration::from_mins(1),
        halt_for: Duration::ZERO,
        ..SupervisionConfig::default()
    };
    let mut federation = Federation::start("budget", |config| config.supervision = frugal).await;
    let mut node = federation.members[3].take();
    let addresses = node.context().addresses.clone();
    let killing = tokio::spawn(async move {
        let mut last = None;
        loop {
            let target = addresses.chain.target().expect("the chain was started");
            // Each start of the chain is killed once, but only after the engine, which reads from it, has started;
            // otherwise the tier would give up because of the engine's failed start.
            let engine = addresses.engine.target().map(|engine| engine.get_status());
            if engine == Some(ractor::ActorStatus::Running) && last != Some(target.get_id()) {
                last = Some(target.get_id());
                target.kill();
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    let reason = tokio::time::timeout(SOON, node.ended()).await.expect("the node ends by itself");
    killing.abort();
    for part in ["the root supervisor gave up", "restart intensity exceeded", "killed"] {
        assert!(reason.contains(part), "{part:?} in {reason:?}");
    }
    drop(node);

    let lost = federation.members[3].name.clone();
    let height = federation.members[0].height();
    for member in &federation.members[..3] {
        eventually(SOON, &format!("{} counts three", member.name), async || {
            let gate: GateView = member.client.get("/federation/gate").await?;
            let three = gate.healthy == 3 && gate.decision == GateDecision::Open;
            seen(three && gate.reason.contains(lost.as_str()), format!("{} {}", gate.decision, gate.reason))
        })
        .await;
    }
    agree_on(&federation.members[..3], height + 3).await;
    federation.stop().await;
}

/// Makes the chain of `member` panic each time it runs, until the member halts because of it.
async fn halts_when_its_chain_panics_for_ever(member: &Member) -> GateView {
    let chain = &member.node().context().addresses.chain;
    eventually(SOON * 2, &format!("{} halts", member.name), async || {
        let gate: GateView = member.client.get("/federation/gate").await?;
        // Consensus may have halted the member before, after waiting for the chain in vain.
        if gate.reason.contains("halted by its supervision") && gate.would_change.contains("critical") {
            return Ok(gate);
        }
        // An actor that is down gets the panic once it is back.
        let _ = chain.inject_panic("the disk is on fire");
        Err(gate.reason)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_chain_does_not_recover_halts_says_why_and_goes_on_when_an_operator_starts_the_tier() {
    let frugal = SupervisionConfig {
        bound: RestartIntensity { max_restarts: 2, within: Duration::from_mins(5) },
        patterns: PatternConfig { repeat_after: 2, ..PatternConfig::default() },
        ..SupervisionConfig::default()
    };
    let federation = Federation::start("halted", |config| config.supervision = frugal).await;
    let members = &federation.members;
    let hurt = &members[3];

    let gate = halts_when_its_chain_panics_for_ever(hurt).await;
    assert_eq!(gate.decision, GateDecision::Closed);
    for part in ["critical", "chain", "the disk is on fire", "the whole tree's restart budget is exceeded"] {
        assert!(gate.reason.contains(part), "{part:?} in {:?}", gate.reason);
    }
    assert!(gate.would_change.contains("critical"), "{}", gate.would_change);
    let patterns: PatternsView = hurt.client.get("/supervision/patterns").await.expect("patterns");
    let is_chains = |pattern: &&PatternView| pattern.kind == "repeat" && pattern.actors == ["chain"];
    let repeat = patterns.patterns.iter().find(is_chains).expect("a repeat");
    assert!(repeat.evidence.iter().all(|failure| failure.message == "the disk is on fire"), "{repeat:?}");
    // Newest first; consensus may have failed before and after.
    let escalated = |actor: &str, decision: &str| {
        let is_it = |told: &AttemptView| told.failure.actor == actor && told.decision == decision;
        patterns.escalations.iter().position(is_it).unwrap_or_else(|| panic!("{:?}", patterns.escalations))
    };
    assert!(escalated("critical", "stop_node") < escalated("chain", "raise_to_parent"));
    let stats: SupervisionStatsView = hurt.client.get("/supervision/stats").await.expect("stats");
    assert_eq!(stats.bound.left, 0, "{:?}", stats.bound);
    let memory: SupervisionMemoryView = hurt.client.get("/supervision/memory").await.expect("memory");
    let chain = memory.history.iter().find(|history| history.name == "chain").expect("it failed");
    let is_ours = |attempt: &AttemptView| attempt.failure.message == "the disk is on fire";
    assert!(chain.attempts.iter().all(is_ours), "{chain:?}");
    // The chain has used up both restarts of critical actors. Consensus, which waits for the chain with a decided
    // block, may have used some of its own.
    let restarts = stats.actors.iter().find(|actor| actor.name == "chain").map(|actor| actor.restarts);
    assert_eq!(restarts, Some(2), "{stats:?}");
    assert_eq!(chain.attempts.len(), 3, "{chain:?}");
    let tree: TreeView = hurt.client.get("/supervision/tree").await.expect("a tree");
    assert_eq!(find(&tree, "critical").expect("a tier").state, "halted");

    // The other three continue without it.
    let height = members[0].height();
    agree_on(&members[..3], height + 3).await;

    // The tier is halted, not gone: an operator can restart it, and the gate opens again. If a block had been decided
    // when the chain failed, consensus also halts after its wait.
    eventually(SOON * 2, "an operator opens the gate", async || {
        let tree: TreeView = hurt.client.get("/supervision/tree").await?;
        for tier in ["critical", "high"] {
            if find(&tree, tier).is_some_and(|tier| tier.state == "halted") {
                let started = hurt.node().supervision().start_stopped(&ActorName::literal(tier)).await;
                started.map_err(|error| error.to_string())?;
            }
        }
        let gate: GateView = hurt.client.get("/federation/gate").await?;
        seen(gate.decision == GateDecision::Open && gate.healthy == 4, gate.reason)
    })
    .await;
    are_as_before(federation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consensus_fatal_failure_halts_its_member_at_once_and_the_others_count_without_it() {
    let federation = Federation::start("fatal", |_| {}).await;
    let members = &federation.members;
    let hurt = &members[1];
    let (high, error_code) = (ActorName::literal("high"), "two certificates for one height".to_owned());
    let fatal = ActorFailureType::ConsensusFailure { error_code };
    let decision = hurt.node().supervision().handle_actor_failure(&high, fatal).await.expect("a decision");
    assert_eq!((decision.step, decision.halts), (EscalationStep::StopNode, true));
    let gate = hurt.gate_closed().await;
    assert!(
        gate.reason.contains("high: consensus failed: two certificates for one height"),
        "{}",
        gate.reason
    );
    assert!(hurt.client.get::<SignaturesView>("/consensus/signatures").await.is_err(), "consensus is down");
    // Its federation actor still runs and reports to the others that the member is unhealthy.
    let others = [&members[0], &members[2], &members[3]];
    for member in others {
        eventually(SOON, &format!("{} counts three", member.name), async || {
            let gate: GateView = member.client.get("/federation/gate").await?;
            let three = gate.healthy == 3 && gate.decision == GateDecision::Open;
            seen(three, format!("{} {}", gate.decision, gate.reason))
        })
        .await;
    }
    for member in others {
        member.reaches(hurt.height() + 3).await;
    }
    hurt.node().supervision().start_stopped(&high).await.expect("the tier starts");
    hurt.gate_open(4).await;
    are_as_before(federation).await;
}

/// Decisions that were emitted: three on a machine that is not too busy.
#[derive(Clone, Copy, Default)]
struct Counted {
    decisions: u64,
    /// Restarts by the critical tier.
    critical: u64,
    /// Restarts of the chain after an injected panic.
    on_purpose: u64,
}

impl Counted {
    fn add(&mut self, supervisor: &ActorName, record: &DecisionRecord) {
        self.decisions += 1;
        let is_restart = record.decision.step.is_restart();
        self.critical += u64::from(is_restart && supervisor.as_str() == "critical");
        self.on_purpose += u64::from(is_restart && is_on_purpose(record));
    }
}

fn is_on_purpose(record: &DecisionRecord) -> bool {
    record.child.as_str() == "chain" && record.failure.message() == "on purpose"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_panicking_chain_is_back_with_the_next_slot_by_decisions_that_can_be_replayed_and_are_counted() {
    let federation = Federation::start("boundary", |config| config.supervision = generous()).await;
    let members = &federation.members;
    let hurt = &members[2];
    let mut events = hurt.node().context().events.listen();
    let mut counted = Counted::default();
    for _ in 0..3 {
        hurt.reaches(hurt.height() + 1).await;
        let watched = Watched::of(hurt, "chain").await;
        hurt.node().context().addresses.chain.inject_panic("on purpose").expect("the chain runs");
        let record = loop {
            let told =
                tokio::time::timeout(SOON, events.recv()).await.expect("in time").expect("not too slow");
            if let ClusterEvent::RestartDecided { supervisor, record, .. } = &told.event {
                counted.add(supervisor, record);
                if is_on_purpose(record) {
                    break record.clone();
                }
            }
        };
        let inputs = &record.inputs;
        let slots = inputs.slots.expect("blocks were made, so that slots are known");
        assert_eq!(record.decision.due, slots.next_boundary(inputs.now), "with the next slot");
        assert!(record.decision.due.since(inputs.now) <= slots.block_time);
        assert_eq!(decide(inputs), record.decision, "the decision can be replayed");
        watched.is_back().await;
        hurt.reaches(hurt.height() + 1).await;
    }
    let node = &hurt.name;
    eventually(SOON, "the restarts are counted", async || {
        while let Ok(told) = events.try_recv() {
            if let ClusterEvent::RestartDecided { supervisor, record, .. } = &told.event {
                counted.add(supervisor, record);
            }
        }
        let Counted { decisions, critical, on_purpose } = counted;
        assert_eq!(on_purpose, 3);
        let restarts = format!(
            "supervision_restart_attempts_total{{actor_type=\"chain\",reason=\"panic\",strategy=\"immediate\",node=\"{node}\"}} 3"
        );
        let left = 50 - critical;
        let budget = format!("supervision_budget_left{{supervisor=\"critical\",node=\"{node}\"}} {left}");
        let decisions = format!("supervision_decision_seconds_count{{node=\"{node}\"}} {decisions}");
        let metrics = hurt.client.send("GET", "/metrics", "text/plain", String::new()).await?.body;
        let missing: Vec<_> =
            [&restarts, &budget, &decisions].into_iter().filter(|line| !metrics.contains(*line)).collect();
        seen(missing.is_empty(), format!("no {missing:?} in {metrics}"))
    })
    .await;
    nobody_signed_twice(members).await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_members_alone_close_their_gates_stay_alive_and_make_no_block_until_a_third_returns() {
    let mut federation = Federation::start("halt", |_| {}).await;
    federation.members[0].reaches(2).await;
    let missing: Vec<_> = federation.members[2..].iter().map(|member| member.name.clone()).collect();
    for index in [2, 3] {
        assert!(federation.members[index].take().stop().await, "it stops in time");
    }
    let halted = &federation.members[..2];
    for member in halted {
        let gate = eventually(SOON, &format!("{} misses both", member.name), async || {
            let gate = member.gate_closed().await;
            if gate.healthy == 2 { Ok(gate) } else { Err(gate.reason) }
        })
        .await;
        assert_eq!(gate.required, 3);
        for name in &missing {
            assert!(gate.reason.contains(name.as_str()), "{name} in {:?}", gate.reason);
            assert!(gate.would_change.contains(name.as_str()), "{name} in {:?}", gate.would_change);
        }
    }
    // Both get every block decided before: a member that is behind fetches blocks even with a closed gate.
    let heights = eventually(SOON, "both stand at one height", async || {
        let heights: Vec<_> = halted.iter().map(Member::height).collect();
        if heights[0] == heights[1] { Ok(heights) } else { Err(format!("{heights:?}")) }
    })
    .await;
    // Wait for three slots: that nothing happens can only be observed.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        for (member, height) in halted.iter().zip(&heights) {
            assert_eq!(member.height(), *height, "{} made a block", member.name);
            assert_eq!(member.client.status("/livez").await, Ok(200));
            let ready: ReadyView = member.client.get("/readyz").await.expect("an answer");
            assert_eq!((member.client.status("/readyz").await, ready.ready), (Ok(503), false));
            assert!(ready.reasons.iter().any(|reason| reason.contains("the gate is closed")), "{ready:?}");
            assert!(ready.reasons.iter().any(|reason| reason.contains(missing[0].as_str())), "{ready:?}");
        }
        sleep(Duration::from_millis(100)).await;
    }
    let submitted =
        halted[0].client.post("/transactions", "{\"payload\":\"0badcafe\"}").await.expect("an answer");
    assert_eq!(submitted.status, 202, "a halted member still takes transactions: {submitted:?}");
    assert!(submitted.body.contains("\"hash\""), "{submitted:?}");

    federation.start_member(2).await;
    federation.members[2].gate_open(3).await;
    let back: FederationView =
        federation.members[2].client.get("/federation/status").await.expect("a status");
    assert!(back.incarnation > 1, "{}", back.incarnation);
    let highest = *heights.iter().max().expect("two");
    agree_on(&federation.members[..3], highest + 2).await;
    nobody_signed_twice(&federation.members[..3]).await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_happened_is_told_and_counted_also_where_those_who_tell_and_count_were_killed() {
    let mut federation = Federation::prepare("told", |config| config.supervision = generous()).await;
    federation.start_member(0).await;
    let member = &federation.members[0];
    // One after the other, so that the second decision includes the restart of the first.
    for actor in ["logging", "metrics"] {
        let mut watched = Watched::of(member, actor).await;
        watched.kill();
        watched.is_back().await;
    }
    eventually(SOON, "the events tell of it all", async || {
        let events: Vec<EventView> = member.client.get("/events").await?;
        let told = |part: &str| events.iter().any(|event| event.message.contains(part));
        let parts = [
            "root started critical",
            "background decided: logging failed (killed, transient): restart",
            "background decided: metrics failed (killed, transient): restart",
            "background restarted logging (restart 1)",
        ];
        let missing: Vec<_> = parts.into_iter().filter(|part| !told(part)).collect();
        let inputs =
            ["class transient", "strategy Immediate", "attempt 1", "restarts 0 of 50", "circuit closed"];
        // Which failure the supervisor sees first is random; the first one uses none of its budget yet.
        let explained = events.iter().filter(|event| event.message.contains("failed (killed"));
        let explained = explained.filter_map(|event| event.inputs.as_ref());
        let holds = explained.clone().any(|told| inputs.iter().all(|input| told.contains(input)));
        seen(missing.is_empty() && holds, format!("no {missing:?} or {inputs:?} in {events:#?}"))
    })
    .await;
    eventually(SOON, "the restarts are counted", async || {
        let metrics = member.client.send("GET", "/metrics", "text/plain", String::new()).await?.body;
        let counted = |actor: &str| {
            metrics.contains(&format!(
                "supervision_restart_attempts_total{{actor_type=\"{actor}\",reason=\"killed\""
            ))
        };
        seen(counted("logging") && counted("metrics"), metrics.clone())
    })
    .await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_chain_or_monitor_hangs_stops_counting_until_it_is_replaced() {
    let federation = Federation::start("hung", |config| {
        config.supervision = generous();
        config.heartbeat = HeartbeatConfig::default();
        config.health = HealthConfig::default();
        config.health.recovery.monitor_patience = Duration::from_secs(3);
    })
    .await;
    let others = &federation.members[..3];
    let hurt = &federation.members[3];
    for (actor, reason) in [("chain", "chain is unhealthy"), ("health", "its actors were last checked")] {
        let watched = Watched::of(hurt, actor).await;
        let begun = Instant::now();
        let order = format!("{{\"actor\":\"{actor}\",\"fault\":\"hang\"}}");
        let taken = hurt.client.post("/faults", &order).await.expect("an answer");
        assert_eq!(taken.status, 202, "{taken:?}");
        for other in others {
            eventually(SOON, &format!("{} hears of {actor}", other.name), async || {
                let view: FederationView = other.client.get("/federation/status").await?;
                let fourth = &view.members[3];
                let holds = !fourth.healthy && fourth.state == "up" && fourth.reason.contains(reason);
                seen(holds, format!("{} {} {}", fourth.healthy, fourth.state, fourth.reason))
            })
            .await;
        }
        println!("{actor}: with every other after {:?}", begun.elapsed());
        let gate: GateView = others[0].client.get("/federation/gate").await.expect("a gate");
        assert_eq!((gate.decision, gate.healthy), (GateDecision::Open, 3), "{}", gate.reason);
        watched.is_back().await;
        others[0].gate_open(4).await;
    }
    are_as_before(federation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_loop_in_the_background_leaves_the_monitor_of_health_up_and_the_rest_its_restarts() {
    let federation = Federation::start("tiers", |_| {}).await;
    for member in &federation.members {
        member.gate_open(4).await;
    }
    let hurt = &federation.members[0];
    let addresses = &hurt.node().context().addresses;
    let state = async |actor: &str| -> Result<String, String> {
        let tree: TreeView = hurt.client.get("/supervision/tree").await?;
        let found = find(&tree, actor).ok_or_else(|| format!("{actor} is not in the tree"))?;
        Ok(found.state.clone())
    };
    // Repeat until its tier is given up.
    eventually(SOON * 3, "the background stays down", async || {
        let _ = addresses.metrics.inject_panic("on purpose");
        let state = state("background").await?;
        seen(state == "stopped", state)
    })
    .await;
    assert_eq!(state("health").await.as_deref(), Ok("running"));
    // A critical actor that fails now is still restarted, and the member takes part.
    addresses.chain.inject_panic("on purpose").expect("it runs");
    hurt.gate_open(4).await;
    hurt.reaches(federation.members[1].height() + 3).await;
    assert_eq!(state("health").await.as_deref(), Ok("running"));
    assert_eq!(state("background").await.as_deref(), Ok("stopped"));
    federation.stop().await;
}
