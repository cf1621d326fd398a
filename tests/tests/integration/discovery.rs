//! Tests that actors are discovered, reached and found missing, within one member and across the federation.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::{Clock, SystemClock};
use alys_cluster::discovery::{
    Discovery, DiscoveryActor, DiscoveryMessage, DiscoveryWire, Exports, Protocol, RemoteError, RemoteHandle,
    RequestHandler,
};
use alys_cluster::event::{ClusterEvent, EventBus};
use alys_cluster::id::{ActorName, Incarnation, NodeId};
use alys_cluster::mailbox::Address;
use alys_cluster::port::PeerChange;
use alys_cluster::registry::{ActorLifecycleState, ActorQuery, LookupError};
use alys_cluster::supervision::spawn;
use alys_cluster::transport::error::AskError;
use alys_cluster::transport::{InboundRouter, Lane, RejectionLog, Routes, TypedSender};
use alys_node::discovery::{ChainAnswer, ChainProtocol, ChainQuestion, GateProtocol};
use alys_node::ops::view::{ActorView, ActorsView, Problem, RegistryStatsView};
use alys_tests::federation::{Federation, Member, SOON, name};
use alys_tests::tree::Stage;
use alys_tests::wire::{End, Wire};
use alys_tests::{eventually, seen};

fn query(text: &str) -> ActorQuery {
    text.parse().expect(text)
}

/// Percent-encodes text for a URL.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

async fn listed(member: &Member, text: &str) -> Result<ActorsView, String> {
    member.client.get(&format!("/registry/actors?{text}")).await
}

async fn actor(member: &Member, who: &str) -> Result<ActorView, String> {
    let view = listed(member, &format!("query={}", escaped(&format!("name={who}")))).await?;
    view.actors.into_iter().next().ok_or_else(|| format!("no {who}"))
}

/// Handles of the chain actors of other members.
fn chains(member: &Member) -> Vec<RemoteHandle<ChainProtocol>> {
    let context = member.node().context();
    context.discovery.discover(context.clock.now(), &query("tag=storage and state=active"))
}

/// Waits until the member finds the chain actors of `count` other members.
async fn finds_chains(member: &Member, count: usize) -> Vec<RemoteHandle<ChainProtocol>> {
    eventually(SOON, &format!("{} finds {count} chains", member.name), async || {
        let found = chains(member);
        let known = member.node().context().discovery.directory.members();
        if found.len() == count { Ok(found) } else { Err(format!("{found:?} of {known:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_actor_of_a_member_is_listed_and_its_deaths_are_followed() {
    let federation = Federation::start("listed", |_| {}).await;
    let member = &federation.members[0];
    let all: ActorsView = listed(member, "").await.expect("a listing");
    let names: Vec<_> = all.actors.iter().map(|actor| actor.name.as_str()).collect();
    let links: Vec<_> = federation.members[1..].iter().map(|peer| format!("link/{}", peer.name)).collect();
    let mut expected = vec![
        "background",
        "chain",
        "consensus",
        "critical",
        "discovery",
        "engine",
        "federation",
        "gateway",
        "health",
        "high",
        "links",
        "logging",
        "metrics",
        "network",
        "normal",
        "recovery",
        "root",
        "sync",
    ];
    expected.extend(links.iter().map(String::as_str));
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(all.actors.iter().all(|actor| actor.state == "active" && actor.member == member.name.as_str()));
    let stats: RegistryStatsView = member.client.get("/registry/stats").await.expect("numbers");
    assert_eq!((stats.actors, all.matched, all.next), (expected.len(), expected.len(), None));

    eventually(SOON, "its critical actors are known to be healthy", async || {
        let text =
            format!("query={}", escaped("@consensus-critical and priority=critical and health=healthy"));
        let found = listed(member, &text).await?;
        let names: Vec<_> = found.actors.iter().map(|actor| actor.name.clone()).collect();
        seen(names == ["chain", "engine", "federation"], format!("{names:?}"))
    })
    .await;

    let before = actor(member, "engine").await.expect("it is listed");
    member.node().context().addresses.engine.inject_panic("on purpose").expect("it runs");
    eventually(SOON, "its next incarnation is active and healthy", async || {
        let now = actor(member, "engine").await?;
        let is_next = now.incarnation == before.incarnation + 1 && now.failures == before.failures + 1;
        seen(is_next && now.state == "active" && now.health == "healthy", format!("{now:?}"))
    })
    .await;

    // Two pages in order of priority, with the query plan.
    let first = listed(member, "order=priority&limit=3&explain=true").await.expect("a page");
    assert_eq!(
        first.actors.iter().map(|actor| actor.name.as_str()).collect::<Vec<_>>(),
        ["chain", "critical", "engine"]
    );
    assert!(first.plan.expect("a plan").starts_with("begin with everybody"));
    let next = first.next.expect("there are more");
    let second =
        listed(member, &format!("order=priority&limit=3&after={}", escaped(&next))).await.expect("a page");
    assert_eq!(second.actors[0].name, "federation");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_actor_of_another_member_is_found_by_tag_and_asked_and_gone_with_its_member() {
    let mut federation = Federation::start("remote", |_| {}).await;
    for member in &federation.members {
        member.reaches(1).await;
        assert_eq!(finds_chains(member, 3).await.len(), 3);
    }
    let asker = &federation.members[0];
    let own = asker.node().context().addresses.chain.clone();
    let own = own.ask(SOON, |reply| alys_node::actors::chain::ChainMessage::Block(1, reply)).await;
    let own = own.expect("it answers").expect("its store is well").expect("a block");
    let handles = chains(asker);
    for handle in &handles {
        let answer = handle.call(SOON, ChainQuestion::Block(1)).await.expect("it answers");
        let ChainAnswer::Block(Some(found)) = answer else { panic!("{answer:?}") };
        assert_eq!(found.0, own.block, "the same block");
        assert_eq!(handle.call(SOON, ChainQuestion::Block(9_999)).await, Ok(ChainAnswer::Block(None)));
    }
    let gates = asker.node().context();
    let gates = gates.discovery.discover::<GateProtocol>(gates.clock.now(), &query("tag=federation-health"));
    assert_eq!(gates.len(), 3);
    assert!(gates[0].call(SOON, ()).await.expect("it answers").open);

    // One listing contains the actors of the whole federation.
    let view = listed(asker, &format!("scope=federation&query={}", escaped("tag=storage")))
        .await
        .expect("a listing");
    let members: Vec<_> = view.actors.iter().map(|actor| actor.member.as_str()).collect();
    let all: Vec<_> = federation.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(members, all);

    // A fault injected in one member is visible on another.
    let hurt = federation.members[3].name.clone();
    federation.members[3].node().context().addresses.federation.inject_panic("on purpose").expect("it runs");
    eventually(SOON, "its next incarnation is published", async || {
        let text = format!("scope=federation&query={}", escaped("name=federation"));
        let view = listed(&federation.members[0], &text).await?;
        let there = view.actors.into_iter().find(|actor| actor.member == hurt.as_str()).ok_or("not there")?;
        seen(there.incarnation == 2 && there.state == "active", format!("{there:?}"))
    })
    .await;

    // When a member is lost, its actors disappear everywhere, and stale handles are rejected, even after the member
    // returns.
    finds_chains(&federation.members[0], 3).await;
    let of_lost = |handle: &&RemoteHandle<ChainProtocol>| *handle.node() == hurt;
    let stale = chains(&federation.members[0]);
    let stale = stale.iter().find(of_lost).expect("it was found").clone();
    assert!(federation.members[3].take().stop().await, "it stops in time");
    for member in &federation.members[..3] {
        finds_chains(member, 2).await;
    }
    let gone = |outcome| matches!(outcome, Err(RemoteError::Gone { .. }));
    assert!(gone(stale.call(SOON, ChainQuestion::Block(1)).await));
    federation.start_member(3).await;
    for member in &federation.members {
        finds_chains(member, 3).await;
    }
    assert!(gone(stale.call(SOON, ChainQuestion::Block(1)).await), "a handle of an earlier incarnation");
    let fresh = chains(&federation.members[0]);
    let fresh = fresh.iter().find(of_lost).expect("it is found again");
    assert!(fresh.call(SOON, ChainQuestion::Block(1)).await.is_ok());
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listing_that_can_not_be_given_is_refused_with_the_field_and_what_was_expected() {
    let mut federation = Federation::prepare("refused", |_| {}).await;
    federation.start_member(0).await;
    let member = &federation.members[0];
    let long = "a".repeat(5_000);
    let deep = "(".repeat(500);
    let control = escaped("name=\u{7}");
    let bomb = escaped("name~((a{900}){900}){900}").replace("name%7E", "name~%22") + "%22";
    for (text, expected) in [
        (
            "query=colour%3Dred".to_owned(),
            "field `query`: at character 0: found \"colour\"; expected name, type",
        ),
        (format!("query={long}"), "field `query`: the query is 5000 bytes long; expected at most 4096"),
        (format!("query={deep}"), "nested more than 32 deep"),
        (format!("query={control}"), "field `query`: at character 5: found '\\u{7}'; expected a value"),
        (format!("query={bomb}"), "compiles to more than"),
        ("order=colour".to_owned(), "field `order`: the order is \"colour\"; expected name, priority"),
        ("limit=many".to_owned(), "field `limit`: found \"many\"; expected a whole number"),
        ("limit=0".to_owned(), "field `limit`: the limit is 0; expected 1 to 1000"),
        ("limit=1001".to_owned(), "field `limit`: the limit is 1001; expected 1 to 1000"),
        (
            "after=nobody".to_owned(),
            "field `after`: the cursor is \"nobody\"; expected one that an earlier page",
        ),
        ("explain=perhaps".to_owned(), "field `explain`: found \"perhaps\"; expected true or false"),
        ("scope=galaxy".to_owned(), "field `scope`: found \"galaxy\"; expected member or federation"),
        ("colour=red".to_owned(), "colour"),
    ] {
        let path = format!("/registry/actors?{text}");
        assert_eq!(member.client.status(&path).await, Ok(400), "{expected}");
        let problem: Problem = member.client.get(&path).await.expect("a problem");
        assert!(problem.detail.contains(expected), "{expected:?} in {:?}", problem.detail);
    }
    // A request larger than the HTTP server reads.
    let megabyte = member.client.status(&format!("/registry/actors?query={}", "a".repeat(1 << 20))).await;
    assert!(matches!(megabyte, Ok(414 | 431) | Err(_)), "{megabyte:?}");
    assert_eq!(member.client.status("/livez").await, Ok(200));
    federation.stop().await;
}

// Tests with the discovery actors of two members and only a wire between them.

struct EchoProtocol;

impl Protocol for EchoProtocol {
    const NAME: &'static str = "echo/1";
    type Request = (String, u64);
    type Reply = String;
}

/// Another protocol version of the same actor.
struct OtherProtocol;

impl Protocol for OtherProtocol {
    const NAME: &'static str = "echo/2";
    type Request = String;
    type Reply = String;
}

struct Side {
    node: NodeId,
    actor: DiscoveryActor,
    end: End,
    router: Arc<InboundRouter>,
    events: EventBus,
}

impl Side {
    async fn start(
        stage: &Stage,
        node: &'static str,
        peer: &'static str,
        incarnation: u64,
        exports: Exports,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let events = EventBus::new(clock.clone());
        let (node, address) = (name(node), Address::new(ActorName::literal("discovery"), 64));
        let end = End::new(&node, incarnation, &[&name(peer)], clock.clone(), &events);
        let board = stage.context.tree.clone();
        let requests = RequestHandler::new(
            exports.clone(),
            stage.context.registry.clone(),
            Arc::new(move |actor| board.last_words(actor)),
            events.clone(),
        );
        let to = address.clone();
        let routes = Routes::default()
            .with(address.name().clone(), move |from, wire| to.cast(DiscoveryMessage::Wire(from, wire)));
        let router = Arc::new(InboundRouter { routes, answers: Arc::new(requests) });
        let channels = end.channels.clone();
        let actor = DiscoveryActor {
            outbox: Arc::new(TypedSender::new(address.name().clone(), Lane::Bulk, channels.clone())),
            address,
            incarnation: Incarnation(incarnation),
            registry: stage.context.registry.clone(),
            exports,
            discovery: Discovery::new(channels),
            rejections: RejectionLog::new(clock.clone(), events.clone()),
            clock,
        };
        spawn(None, &actor.address, actor.clone(), ()).await.expect("it starts");
        Self { node, actor, end, router, events }
    }

    fn linked(&self, other: &Self) -> Wire {
        Wire::between((&self.end, self.router.clone()), (&other.end, other.router.clone()))
    }

    fn hears(&self, change: &PeerChange) {
        self.actor.discovery.peer(change);
    }

    fn up(&self) -> PeerChange {
        PeerChange::Up { node: self.node.clone(), incarnation: self.actor.incarnation }
    }

    fn find<P: Protocol>(&self, text: &str) -> Vec<RemoteHandle<P>> {
        self.actor.discovery.discover(self.actor.clock.now(), &query(text))
    }
}

/// An actor that answers after the requested number of milliseconds.
fn echo(stage: &Stage) -> (alys_tests::tree::ScriptedActor, Exports) {
    let puppet = stage.puppet("echo");
    let exports = Exports::default().with::<EchoProtocol, _>(
        puppet.address.name().clone(),
        |from, (text, ms)| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            if text == "no" {
                Err("it does not like that".to_owned())
            } else {
                Ok(format!("{from} said {text}"))
            }
        },
    );
    (puppet, exports)
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_refused_or_of_unknown_outcome_and_never_left_behind() {
    let stage = Stage::new("discovery-wire");
    let (puppet, exports) = echo(&stage);
    let child = stage.child(&puppet).tags(["echo".parse().expect("a tag")]);
    let root = stage.raise(stage.spec("root", 9, vec![child])).await.expect("it starts");
    let elsewhere = Stage::new("discovery-elsewhere");
    let asker = Side::start(&elsewhere, "node-1", "node-2", 1, Exports::default()).await;
    let other = Side::start(&stage, "node-2", "node-1", 7, exports).await;
    let _wire = asker.linked(&other);
    asker.hears(&other.up());
    other.hears(&asker.up());
    let handle = eventually(SOON, "the echo is found", async || {
        asker.find::<EchoProtocol>("tag=echo and state=active").pop().ok_or("not found")
    })
    .await;
    assert_eq!(format!("{handle:?}"), "RemoteHandle(echo of node-2, incarnation 7)");
    let ask = |text: &str, ms| handle.call(SOON, (text.to_owned(), ms));
    assert_eq!(ask("hello", 0).await, Ok("node-1 said hello".to_owned()));
    let refused = ask("no", 0).await.expect_err("refused").to_string();
    assert_eq!(refused, "node-2 refused: it does not like that");
    // The other side times out before the caller does.
    let late = ask("hello", 60_000).await.expect_err("too late").to_string();
    assert_eq!(late, "node-2 refused: it was not answered within 5s");
    // The caller times out before the other side does.
    let impatient = handle.call(Duration::from_millis(100), ("hello".to_owned(), 1_000)).await;
    let impatient = impatient.expect_err("impatient").to_string();
    assert!(
        impatient.contains("no answer within 100ms; whether it did what it was asked is not known"),
        "{impatient}"
    );

    // With another protocol the actor is not found, and a handle names the protocol the actor supports.
    assert_eq!(asker.find::<OtherProtocol>("tag=echo").len(), 0);
    let found = asker.actor.discovery.discover_in_federation(asker.actor.clock.now(), &query("tag=echo"));
    let wrong = asker.actor.discovery.handle::<OtherProtocol>(&found[0]).map(drop);
    assert!(matches!(wrong, Err(LookupError::WrongProtocol { .. })), "{wrong:?}");

    // The receiver rejects requests that are not allowed.
    let connection = asker.end.line(&other.node).connection().expect("a link");
    for (actor, protocol, expected) in [
        ("root", "echo/1", "root may not be reached from outside"),
        ("echo", "echo/9", "echo is asked in echo/1; found \"echo/9\""),
        ("echo", "echo/1", "the message could not be decoded"),
    ] {
        let question = vec![0xff; 3].into();
        let asked = connection.ask(actor.into(), protocol.into(), question, SOON).await;
        let Err(AskError::Refused(reason)) = &asked else { panic!("{asked:?}") };
        assert!(reason.starts_with(expected), "{expected:?} in {reason:?}");
    }

    // A member is lost while a call is in progress: the outcome is unknown, and the call ends at once.
    let (asked, lost) = tokio::join!(ask("hello", 1_000), async {
        eventually(SOON, "it is asked", async || {
            seen(asker.actor.discovery.caller.under_way() == 1, "nothing is under way")
        })
        .await;
        asker.hears(&PeerChange::Down { node: other.node.clone(), reason: "silent".to_owned() });
        asker.find::<EchoProtocol>("all").len()
    });
    assert!(matches!(asked, Err(RemoteError::Unknown { .. })), "{asked:?}");
    assert_eq!(lost, 0, "its actors are gone at once");
    assert_eq!(asker.actor.discovery.caller.under_way(), 0);
    let gone = ask("hello", 0).await.expect_err("gone").to_string();
    assert!(gone.starts_with("echo of node-2 (incarnation 7) is gone"), "{gone}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_the_question_of_an_earlier_incarnation_is_no_answer_to_a_new_one() {
    let stage = Stage::new("discovery-reborn");
    let (puppet, exports) = echo(&stage);
    let child = stage.child(&puppet);
    let root = stage.raise(stage.spec("root", 9, vec![child])).await.expect("it starts");
    let elsewhere = Stage::new("discovery-reborn-elsewhere");
    let other = Side::start(&stage, "node-2", "node-1", 7, exports).await;
    let mut answers = Vec::new();
    for incarnation in [1, 2] {
        // The incarnation before is gone, with its call in progress.
        let asker = Side::start(&elsewhere, "node-1", "node-2", incarnation, Exports::default()).await;
        let _wire = asker.linked(&other);
        asker.hears(&other.up());
        other.hears(&asker.up());
        let handle = eventually(SOON, "the echo is found", async || {
            asker.find::<EchoProtocol>("all").pop().ok_or("not found")
        })
        .await;
        let patience = if incarnation == 1 { Duration::from_millis(500) } else { SOON };
        answers.push(handle.call(patience, (format!("question {incarnation}"), 2_000)).await);
    }
    assert!(matches!(answers[0], Err(RemoteError::Unknown { .. })), "{answers:?}");
    assert_eq!(answers[1], Ok("node-1 said question 2".to_owned()));
    root.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_lost_while_the_federation_actor_is_restarted_is_missed_all_the_same() {
    let mut federation = Federation::start("unseen", |_| {}).await;
    finds_chains(&federation.members[0], 3).await;
    let lost = tokio::spawn(federation.members[3].take().stop());
    let asker = &federation.members[0];
    // Panic before it could detect the loss.
    asker.node().context().addresses.federation.inject_panic("on purpose").expect("it runs");
    lost.await.expect("no panic");
    finds_chains(asker, 2).await;
    federation.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_published_follows_the_actor_and_a_liar_is_refused_with_an_event() {
    let stage = Stage::new("discovery-follow");
    let (puppet, exports) = echo(&stage);
    let child = stage.child(&puppet);
    let hidden = stage.puppet("hidden");
    let children = vec![child, stage.child(&hidden)];
    let root = stage.raise(stage.spec("root", 9, children)).await.expect("it starts");
    let elsewhere = Stage::new("discovery-follow-elsewhere");
    let asker = Side::start(&elsewhere, "node-1", "node-2", 1, Exports::default()).await;
    let other = Side::start(&stage, "node-2", "node-1", 7, exports).await;
    let _wire = asker.linked(&other);
    asker.hears(&other.up());
    other.hears(&asker.up());
    let shows = async |expected: Option<(ActorLifecycleState, u64)>| {
        eventually(SOON, &format!("published: {expected:?}"), async || {
            let found =
                asker.actor.discovery.discover_in_federation(asker.actor.clock.now(), &ActorQuery::All);
            let standing = found.iter().map(|found| found.entry.standing);
            let standing: Vec<_> =
                standing.map(|standing| (standing.state, standing.incarnation.0)).collect();
            seen(standing == expected.into_iter().collect::<Vec<_>>(), format!("{standing:?}"))
        })
        .await;
    };
    shows(Some((ActorLifecycleState::Active, 1))).await;
    puppet.kill();
    shows(Some((ActorLifecycleState::Active, 2))).await;
    root.face.suspend_child(puppet.address.name()).await.expect("suspended");
    shows(Some((ActorLifecycleState::Suspended, 2))).await;
    root.face.resume_child(puppet.address.name()).await.expect("resumed");
    shows(Some((ActorLifecycleState::Active, 3))).await;

    // A restarted actor knows no peers and asks for their actors again.
    asker.actor.address.target().expect("it runs").kill();
    asker
        .actor
        .discovery
        .directory
        .peer(&PeerChange::Down { node: other.node.clone(), reason: "x".to_owned() });
    asker.actor.discovery.directory.peer(&other.up());
    spawn(None, &asker.actor.address, asker.actor.clone(), ()).await.expect("it starts");
    shows(Some((ActorLifecycleState::Active, 3))).await;

    let mut events = asker.events.listen();
    let stale = alys_cluster::discovery::advert::Advert {
        incarnation: Incarnation(6),
        version: u64::MAX,
        actors: alys_cluster::discovery::advert::Actors::default(),
    };
    let lies = |count: usize| {
        for _ in 0..count {
            let wire = DiscoveryWire::Advert(stale.clone());
            asker.actor.address.cast(DiscoveryMessage::Wire(other.node.clone(), wire)).expect("it runs");
        }
    };
    lies(1);
    let told = tokio::time::timeout(SOON, events.recv()).await.expect("in time").expect("not too slow");
    let ClusterEvent::LinkRefused { peer, reason } = &told.event else { panic!("{told:?}") };
    assert_eq!(
        (peer.as_str(), reason.as_str()),
        ("node-2", "incarnation 6 publishes its actors after incarnation 7")
    );
    // Repeated lies do not fill the log.
    lies(50);
    eventually(SOON, "all are refused", async || {
        let refused = asker.actor.rejections.total();
        seen(refused == 51, refused)
    })
    .await;
    let mut told = 0;
    while events.try_recv().is_ok() {
        told += 1;
    }
    assert!((1..=19).contains(&told), "{told}");
    shows(Some((ActorLifecycleState::Active, 3))).await;
    root.face.stop_child(puppet.address.name()).await.expect("stopped");
    root.face.delete_child(puppet.address.name()).await.expect("deleted");
    shows(None).await;
    root.stop().await;
}
