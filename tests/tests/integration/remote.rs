//! Tests that messages to actors of other members, death watches and links behave as their handle says, and that a peer
//! that reads nothing or asks too much costs no more than the bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alys_cluster::clock::{Clock, Moment, SystemClock};
use alys_cluster::discovery::advert::{Actors, Advert, Advertised};
use alys_cluster::discovery::exports::{SERVED_BYTES_MAX, SERVED_MAX};
use alys_cluster::discovery::{
    Discovery, Down, Exports, Monitor, Protocol, RemoteError, RemoteHandle, RequestHandler,
};
use alys_cluster::event::EventBus;
use alys_cluster::id::{ActorName, Incarnation, NodeId};
use alys_cluster::port::PeerChange;
use alys_cluster::registry::ActorLifecycleState;
use alys_cluster::supervision::TreeRestartRequester;
use alys_cluster::trace::{ParentSpan, SpanKind, Tracer, new_trace, within};
use alys_cluster::transport::connection::{Inbound, UNDER_WAY_MAX};
use alys_cluster::transport::envelope::{Body, Envelope};
use alys_cluster::transport::error::Unsent;
use alys_cluster::transport::frame::{HEADER_BYTES, Kind};
use alys_cluster::transport::statistics::Count;
use alys_cluster::transport::{Bounds, Connection, InboundRouter, Lane, Routes};
use alys_node::discovery::ChainProtocol;
use alys_tests::collector::Memory;
use alys_tests::federation::{Federation, Member, SOON, name};
use alys_tests::tree::{Order, Root, ScriptedActor, Stage};
use alys_tests::wire::{BOUNDS, End, Wire};
use alys_tests::{eventually, seen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

/// A protocol whose calls wait until they are dropped, or until the member is told to answer.
struct WaitProtocol;

impl Protocol for WaitProtocol {
    const NAME: &'static str = "wait/1";
    type Request = Vec<u8>;
    type Reply = usize;
}

/// Size of a request whose handler panics, in bytes.
const UNLUCKY: usize = 13;

/// Counters of the calls that reached the other member.
#[derive(Clone)]
struct Questions {
    begun: Arc<AtomicUsize>,
    over: Arc<AtomicUsize>,
    answer: watch::Sender<bool>,
}

/// Counts a call whose answer is no longer computed, for any reason.
struct Over(Arc<AtomicUsize>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Questions {
    fn new() -> Self {
        Self { begun: Arc::default(), over: Arc::default(), answer: watch::Sender::new(false) }
    }

    fn exports(&self, actor: &ActorName) -> Exports {
        let questions = self.clone();
        Exports::default().with::<WaitProtocol, _>(actor.clone(), move |_, question| {
            questions.begun.fetch_add(1, Ordering::SeqCst);
            let (over, mut answer) = (Over(questions.over.clone()), questions.answer.subscribe());
            async move {
                let _over = over;
                let answered = answer.wait_for(|answer| *answer).await;
                assert_ne!(question.len(), UNLUCKY, "on purpose");
                answered.map(|_| question.len()).map_err(|error| error.to_string())
            }
        })
    }

    /// Waits until `begun` calls have started and `over` of them have ended.
    async fn are(&self, begun: usize, over: usize) {
        eventually(SOON, &format!("{begun} questions, {over} of them over"), async || {
            let found = (self.begun.load(Ordering::SeqCst), self.over.load(Ordering::SeqCst));
            seen(found == (begun, over), format!("{found:?}"))
        })
        .await;
    }
}

/// Two members: one is the caller, the other has an actor under a supervisor.
struct Pair {
    clock: Arc<dyn Clock>,
    asker: End,
    discovery: Discovery,
    other: End,
    stage: Stage,
    puppet: ScriptedActor,
    root: Root,
    questions: Questions,
    router: Arc<InboundRouter>,
    versions: AtomicUsize,
    traces: Arc<Memory>,
}

impl Pair {
    async fn start(prefix: &'static str) -> Self {
        let stage = Stage::new(prefix);
        let puppet = stage.puppet("worker");
        let hidden = stage.puppet("hidden");
        let children = vec![stage.child(&puppet), stage.child(&hidden)];
        let root = stage.raise(stage.spec("root", 99, children)).await.expect("it starts");
        let questions = Questions::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let traces = Arc::<Memory>::default();
        let events = EventBus::new(clock.clone()).traced(Tracer::to(traces.clone()));
        let (one, two) = (name("node-1"), name("node-2"));
        let asker = End::new(&one, 1, &[&two], clock.clone(), &events);
        let other = End::new(&two, 7, &[&one], clock.clone(), &events);
        let board = stage.context.tree.clone();
        let requests = RequestHandler::new(
            questions.exports(puppet.address.name()),
            stage.context.registry.clone(),
            Arc::new(move |actor| board.last_words(actor)),
            events.clone(),
        );
        let router = Arc::new(InboundRouter { routes: Routes::default(), answers: Arc::new(requests) });
        let discovery = Discovery::new(asker.channels.clone()).traced(&events);
        let pair = Self {
            clock,
            asker,
            discovery,
            other,
            stage,
            puppet,
            root,
            questions,
            router,
            versions: AtomicUsize::new(0),
            traces,
        };
        pair.up(7);
        pair.publish(7, &["worker", "hidden"]);
        pair
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn up(&self, incarnation: u64) {
        let node = self.other.hello.node.clone();
        self.discovery.peer(&PeerChange::Up { node, incarnation: Incarnation(incarnation) });
    }

    fn down(&self) {
        let (node, reason) = (self.other.hello.node.clone(), "silent".to_owned());
        self.discovery.peer(&PeerChange::Down { node, reason });
    }

    /// The other member publishes the current entries of these actors.
    fn publish(&self, incarnation: u64, names: &[&str]) {
        let version = self.versions.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        let actors = names.iter().map(|name| {
            let entry =
                self.stage.context.registry.entry(&name.parse().expect("a name")).expect("registered");
            Advertised::of(self.now(), &entry, WaitProtocol::NAME)
        });
        let advert =
            Advert { incarnation: Incarnation(incarnation), version, actors: Actors(actors.collect()) };
        let published = self.discovery.directory.publish(self.now(), &self.other.hello.node, advert);
        assert_eq!(published, Ok(true));
    }

    fn link(&self) -> Wire {
        Wire::between((&self.asker, self.router.clone()), (&self.other, self.router.clone()))
    }

    fn handle(&self, actor: &str) -> RemoteHandle<WaitProtocol> {
        let actor = actor.parse().expect("a name");
        self.discovery.remote(&self.other.hello.node, &actor).expect("it is published")
    }

    /// Waits until the actor runs with this incarnation.
    async fn lives(&self, life: u64) {
        eventually(SOON, &format!("life {life}"), async || {
            let standing = self.stage.context.registry.standing(self.puppet.address.name());
            let lives = standing.is_some_and(|standing| {
                standing.incarnation.0 == life && standing.state == ActorLifecycleState::Active
            });
            seen(lives, format!("{standing:?}"))
        })
        .await;
    }

    /// Waits until the other member serves this many death watches on the link.
    async fn watched(&self, wire: &Wire, count: usize) {
        eventually(SOON, &format!("{count} watches are served"), async || {
            let watched = wire.connections[1].watched();
            seen(watched == count, format!("{watched}"))
        })
        .await;
    }
}

async fn told(monitor: Monitor) -> Down {
    tokio::time::timeout(SOON, monitor.down()).await.expect("it is told in time")
}

/// Checks that nothing is reported within 5 s.
async fn is_silent(watch: &mut tokio::task::JoinHandle<Down>) {
    let told = tokio::time::timeout(Duration::from_secs(5), watch).await;
    assert!(told.is_err(), "{told:?}");
}

fn reason(down: &Down) -> &str {
    match down {
        Down::Ended { reason, .. } | Down::Refused { reason, .. } => reason,
        Down::Lost { .. } => panic!("{down:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_is_a_span_here_and_its_answer_a_part_of_it_there() {
    let pair = Pair::start("remote-trace").await;
    let handle = pair.handle("worker");
    let refused = handle.call(SOON, vec![1]).await.expect_err("no link").to_string();
    let _wire = pair.link();
    pair.questions.answer.send_replace(true);
    assert_eq!(handle.call(SOON, vec![1]).await, Ok(1));
    let caller = new_trace();
    assert_eq!(within(Some(ParentSpan::local(caller)), handle.call(SOON, vec![1, 2])).await, Ok(2));

    // A call that times out is traced as well, on both sides; such calls are the interesting ones.
    pair.questions.answer.send_replace(false);
    let late = handle.call(Duration::from_secs(1), vec![1]).await.expect_err("no answer").to_string();
    let mut spans = eventually(SOON, "both are told", async || {
        let spans = pair.traces.spans();
        if spans.len() == 7 { Ok(spans) } else { Err(format!("{spans:#?}")) }
    })
    .await;
    let mut told: Vec<_> =
        spans.split_off(5).into_iter().map(|span| (span.name, span.error.unwrap_or_default())).collect();
    told.sort();
    assert_eq!(told, [("answer".into(), "it was cut short".to_owned()), ("ask".into(), late)]);
    let names: Vec<_> = spans.iter().map(|span| (span.name.as_ref(), span.kind)).collect();
    let (ask, answer) = (("ask", SpanKind::Client), ("answer", SpanKind::Server));
    assert_eq!(names, [ask, answer, ask, answer, ask]);
    assert_eq!((spans[0].parent, spans[0].error.as_deref()), (None, Some(refused.as_str())));
    for (parent, pair) in [(None, &spans[1..3]), (Some(caller.span_id), &spans[3..5])] {
        let [answer, ask] = pair else { panic!("{pair:#?}") };
        assert_eq!((ask.parent, answer.parent), (parent, Some(ask.context.span_id)));
        assert_eq!(ask.context.trace_id, answer.context.trace_id);
        assert_eq!((&ask.error, &answer.error), (&None, &None));
        assert!(ask.started <= answer.started && answer.ended <= ask.ended);
    }
    assert_eq!(spans[4].context.trace_id, caller.trace_id);
}

#[tokio::test(start_paused = true)]
async fn an_order_is_carried_out_without_an_answer_and_is_refused_when_the_queue_is_full() {
    let pair = Pair::start("remote-cast").await;
    let handle = pair.handle("worker");
    let none = handle.cast(&vec![1]).expect_err("no link").to_string();
    assert_eq!(none, "the question was not sent: there is no link to node-2");
    let wire = pair.link();
    assert_eq!(handle.cast(&vec![1]), Ok(()));
    pair.questions.are(1, 0).await;
    pair.questions.answer.send_replace(true);
    pair.questions.are(1, 1).await;
    assert_eq!(wire.connections[0].questions(), 0, "nobody waits for anything");
    drop(wire);

    // The other end does not read.
    let bounds = Bounds { frames_max: 16, ..BOUNDS };
    let narrow = End { bounds, ..pair.asker.clone() };
    let (near, _far) = tokio::io::duplex(64);
    let (connection, _session) = narrow.connect(&pair.other.hello, near, pair.router.clone());
    let mut queued = 0;
    let refused = loop {
        match handle.cast(&vec![0; 100]) {
            Ok(()) => queued += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!((queued, connection.waiting().0), (16, 16));
    let expected = "the question was not sent: the queue to node-2 is full; expected at most 16 messages of 16777216 \
                    bytes together";
    assert_eq!(refused, expected);
    let asked = handle.call(SOON, vec![0; 100]).await;
    assert_eq!(asked, Err(RemoteError::Unsent(expected["the question was not sent: ".len()..].to_owned())));
    assert_eq!(connection.questions(), 0, "what was not sent is not waited for");
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_panics_is_told_as_a_refusal_and_disturbs_no_other() {
    let pair = Pair::start("remote-panic").await;
    let wire = pair.link();
    let handle = pair.handle("worker");
    let (doomed, other, ()) =
        tokio::join!(handle.call(SOON, vec![0; UNLUCKY]), handle.call(SOON, vec![0; 14]), async {
            pair.questions.are(2, 0).await;
            pair.questions.answer.send_replace(true);
        });
    let reason = "answering it panicked".to_owned();
    assert_eq!(doomed, Err(RemoteError::Refused { node: pair.other.hello.node.clone(), reason }));
    assert_eq!(other, Ok(14));
    assert_eq!(handle.call(SOON, vec![0; 2]).await, Ok(2), "the link stands");
    drop(wire);
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_not_worked_on_longer() {
    let pair = Pair::start("remote-patience").await;
    let wire = pair.link();
    let handle = pair.handle("worker");
    let patience = Duration::from_millis(300);
    let begun = pair.now();
    let asked = handle.call(patience, vec![1]).await;
    assert!(matches!(asked, Err(RemoteError::Unknown { .. })), "{asked:?}");
    pair.questions.are(1, 1).await;
    let worked = pair.now().since(begun);
    assert!(worked < patience * 2, "worked for {worked:?} when {patience:?} were wanted");

    // The handler also stops when the caller is disconnected.
    let asked = tokio::spawn({
        let handle = handle.clone();
        async move { handle.call(SOON, vec![2]).await }
    });
    pair.questions.are(2, 1).await;
    drop(wire);
    let unknown = asked.await.expect("no panic").expect_err("cut off").to_string();
    assert_eq!(
        unknown,
        "node-2 did not answer: the link was lost; whether it did what it was asked is not known"
    );
    pair.questions.are(2, 2).await;
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_member_s_questions_under_way_are_bounded_in_number_and_in_bytes() {
    let pair = Pair::start("remote-served").await;
    let wire = pair.link();
    let handle = pair.handle("worker");
    let ask = |bytes: usize| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.call(Duration::from_secs(4), vec![0; bytes]).await })
    };
    let many: Vec<_> = (0..SERVED_MAX).map(|_| ask(1)).collect();
    pair.questions.are(SERVED_MAX, 0).await;
    let refused = ask(1).await.expect("no panic").expect_err("one too many").to_string();
    let expected =
        format!("node-2 refused: {SERVED_MAX} questions of {} bytes are under way", 2 * SERVED_MAX);
    assert!(refused.starts_with(&expected), "{expected:?} in {refused:?}");
    pair.questions.answer.send_replace(true);
    for asked in many {
        assert_eq!(asked.await.expect("no panic"), Ok(1));
    }
    pair.questions.answer.send_replace(false);

    let large = 1024 * 1024;
    let count = SERVED_BYTES_MAX / (large + 5);
    let many: Vec<_> = (0..count).map(|_| ask(large)).collect();
    pair.questions.are(SERVED_MAX + count, SERVED_MAX).await;
    let refused = ask(large).await.expect("no panic").expect_err("too many bytes").to_string();
    assert!(refused.contains("of at most 16777216 bytes together"), "{refused}");
    pair.questions.answer.send_replace(true);
    for asked in many {
        assert_eq!(asked.await.expect("no panic"), Ok(large));
    }
    assert_eq!(ask(1).await.expect("no panic"), Ok(1), "what is over is not counted");
    assert_eq!(wire.connections[0].questions(), 0);
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_once_why_the_actor_ended_and_not_of_its_next_life() {
    let pair = Pair::start("remote-monitor").await;
    let wire = pair.link();
    let handle = pair.handle("worker");
    for (life, hurt, expected) in [
        (1, Order::Panic, "panics on purpose (at "),
        (2, Order::Fail, "fails on purpose"),
        (3, Order::End, "ends on purpose"),
    ] {
        let (monitor, second) = (handle.monitor().expect("watched"), handle.monitor().expect("watched"));
        pair.watched(&wire, 2).await;
        pair.puppet.order(hurt);
        for monitor in [monitor, second] {
            let down = told(monitor).await;
            assert!(reason(&down).starts_with(expected), "{expected:?} in {down:?}");
        }
        pair.watched(&wire, 0).await;
        pair.lives(life + 1).await;

        // A watch of the incarnation that has ended reports at once; a watch of the next one, once it is published,
        // reports nothing.
        let late = handle.monitor().expect("watched");
        assert!(reason(&told(late).await).starts_with(expected));
        pair.publish(7, &["worker"]);
        let mut next = tokio::spawn(handle.monitor().expect("watched").down());
        is_silent(&mut next).await;
        next.abort();
        pair.watched(&wire, 0).await;
    }
    // Stopped by its supervisor.
    let monitor = handle.monitor().expect("watched");
    pair.watched(&wire, 1).await;
    pair.root.face.stop_child(pair.puppet.address.name()).await.expect("stopped");
    assert_eq!(reason(&told(monitor).await), "its supervisor stops it");
    assert_eq!(wire.connections[0].questions(), 0);
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_whose_member_is_lost_or_starts_anew_is_lost_and_told_so_once() {
    let pair = Pair::start("remote-lost").await;
    let handle = pair.handle("worker");
    for is_anew in [false, true] {
        let wire = pair.link();
        let before = handle.monitor().expect("watched");
        let mut watch = tokio::spawn(handle.monitor().expect("watched").down());
        pair.watched(&wire, 2).await;
        // A lost link alone is not reported.
        drop(wire);
        is_silent(&mut watch).await;
        if is_anew {
            pair.up(8);
        } else {
            pair.down();
        }
        let lost = watch.await.expect("no panic");
        let (node, actor) = (pair.other.hello.node.clone(), pair.puppet.address.name().clone());
        assert_eq!(lost, Down::Lost { actor, node, incarnation: Incarnation(7) });
        assert_eq!(told(before).await, lost, "though nobody looked when it was lost");
        let gone = handle.monitor().expect_err("gone").to_string();
        assert!(gone.starts_with("worker of node-2 (incarnation 7) is gone"), "{gone}");
        if !is_anew {
            pair.up(7);
            pair.publish(7, &["worker"]);
        }
    }
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_breaks_and_comes_back_loses_no_end_and_invents_none() {
    let pair = Pair::start("remote-broken").await;
    let handle = pair.handle("worker");
    let mut seed = 1u64;
    let mut life = 1;
    let mut wire = pair.link();
    for round in 0..30 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pair.publish(7, &["worker"]);
        let mut watch = tokio::spawn(handle.monitor().expect("watched").down());
        for _ in 0..(seed >> 40) % 3 {
            drop(wire);
            wire = pair.link();
            is_silent(&mut watch).await;
        }
        match (seed >> 33) % 3 {
            // While the link is up.
            0 => pair.puppet.order(Order::Panic),
            // While there is no link.
            1 => {
                drop(wire);
                pair.puppet.order(Order::Panic);
                pair.lives(life + 1).await;
                wire = pair.link();
            }
            // Concurrently with the loss of the link.
            _ => {
                pair.puppet.order(Order::Panic);
                drop(wire);
                wire = pair.link();
            }
        }
        let down = tokio::time::timeout(SOON, watch).await.expect("in time").expect("no panic");
        assert!(reason(&down).starts_with("panics on purpose"), "round {round}: {down:?}");
        life += 1;
        pair.lives(life).await;
    }
    pair.watched(&wire, 0).await;
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_may_not_or_can_not_be_watched_is_told_so_and_what_is_dropped_is_forgotten() {
    let pair = Pair::start("remote-refused").await;
    let wire = pair.link();
    let hidden = told(pair.handle("hidden").monitor().expect("sent")).await;
    let expected = "hidden of node-2 can not be watched: hidden may not be watched from outside";
    assert_eq!(hidden.to_string(), expected);
    let handle = pair.handle("worker");
    pair.publish(7, &["hidden"]);
    let gone = handle.monitor().expect_err("not published").to_string();
    assert_eq!(gone, "node-2 does not publish worker");
    pair.publish(7, &["worker"]);

    let (kept, dropped) = (handle.monitor().expect("watched"), handle.monitor().expect("watched"));
    pair.watched(&wire, 2).await;
    drop(dropped);
    pair.watched(&wire, 1).await;
    let mut many: Vec<_> = (1..UNDER_WAY_MAX).map(|_| handle.monitor().expect("there is room")).collect();
    pair.watched(&wire, UNDER_WAY_MAX).await;
    let full = handle.monitor().expect_err("full").to_string();
    assert_eq!(full, "the question was not sent: 4096 questions and watches are under way; expected fewer");
    let last = many.pop().expect("many");
    drop(many);
    pair.watched(&wire, 2).await;
    pair.puppet.order(Order::Panic);
    assert!(reason(&told(kept).await).starts_with("panics on purpose"));
    assert!(reason(&told(last).await).starts_with("panics on purpose"));

    // The end of a link also ends its watches.
    pair.lives(2).await;
    pair.publish(7, &["worker"]);
    let _kept = handle.monitor().expect("watched");
    pair.watched(&wire, 1).await;
    let there = wire.connections[1].clone();
    drop(wire);
    assert_eq!(there.watched(), 0);

    // A member of the previous link version.
    let mut old = pair.other.clone();
    old.hello.version_max = 1;
    let _wire = Wire::between((&pair.asker, pair.router.clone()), (&old, pair.router.clone()));
    let unknown = handle.monitor().expect_err("it does not know watches").to_string();
    let expected = "the question was not sent: node-2 speaks version 1 of the link; expected at least 2";
    assert_eq!(unknown, expected);
    assert_eq!(handle.cast(&vec![1]), Ok(()), "what it knows is sent");
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_watch_and_an_end_of_a_question_are_neither() {
    let pair = Pair::start("remote-crossed").await;
    let wire = pair.link();
    let mut watch = tokio::spawn(pair.handle("worker").monitor().expect("watched").down());
    let asked = tokio::spawn({
        let handle = pair.handle("worker");
        async move { handle.call(Duration::from_secs(4), vec![1]).await }
    });
    pair.questions.are(1, 0).await;
    pair.watched(&wire, 1).await;
    for id in 0..8 {
        let answer = Body::Answer { id, outcome: Ok(vec![9; 9].into()) };
        let down = Body::Down { id, reason: "a lie".to_owned() };
        // An answer of the expected kind would be accepted; only the other kind is sent here.
        let (is_watch, is_question) = (id == 1, id == 2);
        if !is_question {
            wire.connections[1].send(Lane::Request, answer).expect("sent");
        }
        if !is_watch {
            wire.connections[1].send(Lane::Request, down).expect("sent");
        }
    }
    let received = || pair.asker.line(&pair.other.hello.node).counters().get(Count::EnvelopesReceived);
    eventually(SOON, "all of it arrived", async || seen(received() == 14, received())).await;
    assert_eq!(wire.connections[0].questions(), 2, "both are still under way");
    pair.questions.answer.send_replace(true);
    assert_eq!(asked.await.expect("no panic"), Ok(1));
    is_silent(&mut watch).await;
    pair.puppet.order(Order::Panic);
    assert!(reason(&watch.await.expect("no panic")).starts_with("panics on purpose"));
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_none_of_what_it_watches_is_given_up() {
    let pair = Pair::start("remote-notices").await;
    let (near, _far) = tokio::io::duplex(64);
    let (connection, _session) = pair.asker.connect(&pair.other.hello, near, pair.router.clone());
    let handle = pair.handle("worker");
    let mut watches = 0;
    while connection.ended().is_none() {
        drop(handle.monitor());
        watches += 1;
        assert!(watches < 10_000, "it is not given up");
    }
    assert_eq!(connection.ended(), Some("it takes none of 4096 notices"));
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_watches_without_end_is_refused_and_one_that_hears_no_refusal_is_given_up() {
    let pair = Pair::start("remote-watchers").await;
    let wire = pair.link();
    let (here, there) = (&wire.connections[0], &wire.connections[1]);
    let refused = || pair.other.line(&pair.asker.hello.node).counters().get(Count::EnvelopesRefused);
    let watch = |id: usize, to: &'static str| Body::Watch { id: id as u64, to: to.into(), incarnation: 1 };
    for id in 0..UNDER_WAY_MAX {
        here.send(Lane::Request, watch(id, "worker")).expect("sent");
    }
    pair.watched(&wire, UNDER_WAY_MAX).await;
    assert_eq!(refused(), 0);
    here.send(Lane::Request, watch(UNDER_WAY_MAX, "worker")).expect("sent");
    eventually(SOON, "one more is refused", async || seen(refused() == 1, refused())).await;
    assert_eq!(there.watched(), UNDER_WAY_MAX);
    let subscriptions = pair.stage.context.registry.stats().subscriptions;
    assert_eq!(subscriptions, 1, "one serves all watches");
    drop(wire);

    // A peer that watches an actor it may not watch, and reads nothing.
    let (near, mut far) = tokio::io::duplex(64);
    let (connection, _session) = pair.asker.connect(&pair.other.hello, near, pair.router.clone());
    let written = tokio::spawn(async move {
        for id in 0..100_000 {
            let frame = Envelope::new(watch(id, "hidden")).frame().expect("small");
            if let Err(error) = far.write_all(&frame).await {
                return error.to_string();
            }
        }
        "all of it".to_owned()
    });
    tokio::time::timeout(SOON, connection.has_ended()).await.expect("it is given up");
    assert_eq!(connection.ended(), Some("it takes none of 4096 notices"));
    assert_eq!(tokio::time::timeout(SOON, written).await.expect("in time").expect("no panic"), "broken pipe");
    pair.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_fails_with_its_partner_and_its_supervisor_decides() {
    let pair = Pair::start("remote-link").await;
    let wire = pair.link();
    let here = Stage::new("remote-link-here");
    let dependent = here.puppet("dependent");
    let children = vec![here.child(&dependent)];
    let root = here.raise(here.spec("root", 9, children)).await.expect("it starts");
    let fate = Arc::new(TreeRestartRequester { context: here.context.clone() });
    let actor = dependent.address.name().clone();
    let handle = pair.handle("worker");

    let linked = handle.link(actor.clone(), fate.clone()).expect("linked");
    pair.watched(&wire, 1).await;
    pair.puppet.order(Order::Panic);
    eventually(SOON, "the dependent is restarted", async || {
        seen(dependent.who().await == Ok(2), format!("{:?}", here.record.lines()))
    })
    .await;
    let history = here.context.memory.history(&actor).expect("it failed");
    assert_eq!(history.statistics.failures, 1);
    let failure = history.attempts.back().expect("one").failure.to_string();
    let expected = "worker of node-2 does not serve: worker of node-2 ended: panics on purpose (at ";
    assert!(failure.starts_with(expected), "{failure}");
    let words = here.context.tree.last_words(&actor).expect("it ended");
    assert_eq!(words, failure, "whoever watches the dependent hears of the cause");
    drop(linked);

    // A dependent that is no longer linked keeps running.
    pair.lives(2).await;
    pair.publish(7, &["worker"]);
    let unlinked = handle.link(actor.clone(), fate.clone()).expect("linked");
    pair.watched(&wire, 1).await;
    drop(unlinked);
    pair.watched(&wire, 0).await;
    pair.puppet.order(Order::Panic);
    pair.lives(3).await;
    pair.publish(7, &["worker"]);

    // A linked dependent fails when the member is lost.
    let _linked = handle.link(actor.clone(), fate).expect("linked");
    pair.watched(&wire, 1).await;
    assert_eq!(dependent.who().await, Ok(2));
    pair.down();
    eventually(SOON, "the dependent is restarted", async || {
        seen(dependent.who().await == Ok(3), format!("{:?}", here.record.lines()))
    })
    .await;
    let words = here.context.tree.last_words(&actor).expect("it ended");
    assert!(words.ends_with("worker of node-2 is gone with its member (incarnation 7)"), "{words}");
    root.stop().await;
    pair.root.stop().await;
}

/// Discards every envelope.
struct Deaf;

impl Inbound for Deaf {
    fn take(&self, _: &Arc<Connection>, _: Envelope) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_million_messages_of_each_class_to_a_peer_that_reads_nothing_cost_what_the_queue_may_hold() {
    const MILLION: u64 = 1_000_000;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let events = EventBus::new(clock.clone());
    let (one, two) = (name("node-1"), name("node-2"));
    let bounds = Bounds { frames_max: 4_096, bytes_max: 4 * 1024 * 1024, ..BOUNDS };
    let end = End { bounds, ..End::new(&one, 1, &[&two], clock.clone(), &events) };
    let other = End::new(&two, 1, &[&one], clock, &events);
    let (near, mut far) = tokio::io::duplex(64);
    let (connection, _session) = end.connect(&other.hello, near, Arc::new(Deaf));
    let line = end.line(&two);
    let body = |number: u64| {
        let mut payload = vec![0; 1_100];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        Body::Tell { to: "worker".into(), payload: payload.into() }
    };
    let dropped = |class: Lane| line.counters().dropped()[class as usize].1;
    let frame = Envelope::new(body(0)).frame().expect("small").len();
    let room = (bounds.bytes_max / frame) as u64;
    let mut unsent = 0;
    // From the lowest priority to the highest: each displaces the one before.
    for class in [Lane::Bulk, Lane::Request, Lane::Consensus, Lane::Heartbeat] {
        for number in 0..MILLION {
            match line.send(class, Envelope::new(body(number))) {
                Ok(()) => {}
                Err(Unsent::Full { peer, frames_max: 4_096, bytes_max }) => {
                    assert_eq!((&peer, bytes_max, class), (&two, bounds.bytes_max, Lane::Request));
                    unsent += 1;
                }
                Err(other) => panic!("{class:?}: {other}"),
            }
            if number % 1_000 == 0 {
                let (frames, bytes) = connection.waiting();
                assert!(
                    frames <= bounds.frames_max && bytes <= bounds.bytes_max,
                    "{frames} of {bytes} bytes"
                );
            }
        }
        let (frames, bytes) = connection.waiting();
        assert_eq!((frames as u64, bytes), (room, frames * frame), "{class:?}");
    }
    // Everything was dropped except what is still queued: the newest heartbeats.
    for class in Lane::ALL {
        let waiting = if class == Lane::Heartbeat { room } else { 0 };
        assert_eq!(dropped(class), MILLION - waiting, "{class:?}");
    }
    assert_eq!(unsent, MILLION - room, "whoever asks is told when there is no room");
    assert!(connection.ended().is_none(), "the link stands");

    // The peer reads again.
    for expected in MILLION - room..MILLION {
        let body = loop {
            let mut header = [0; HEADER_BYTES];
            far.read_exact(&mut header).await.expect("the link stands");
            let mut body = vec![0; u32::from_be_bytes(header[..4].try_into().expect("four")) as usize - 1];
            far.read_exact(&mut body).await.expect("the link stands");
            if header[4] == Kind::Envelope as u8 {
                break body;
            }
        };
        let Body::Tell { payload, .. } = Envelope::decode(body.into(), 2).expect("an envelope").body else {
            panic!("only such were sent");
        };
        assert_eq!(payload[..8], expected.to_be_bytes(), "the newest, in order");
    }
}

/// Waits until the member knows this incarnation of the chain of `owner`, and watches it.
async fn watch_of(member: &Member, owner: &NodeId, life: u64) -> Monitor {
    let context = member.node().context();
    let chain = context.addresses.chain.name();
    eventually(SOON, &format!("{} watches life {life} of the chain of {owner}", member.name), async || {
        let found = context.discovery.directory.find(owner, chain).ok_or("not published")?;
        let published = found.entry.standing.incarnation.0;
        seen(published == life, format!("life {published}"))?;
        let handle = context.discovery.handle::<ChainProtocol>(&found).map_err(|error| error.to_string())?;
        handle.monitor().map_err(|error| error.to_string())
    })
    .await
}

/// Incarnation and state of the member's chain in its registry.
fn life(member: &Member) -> (u64, ActorLifecycleState) {
    let context = member.node().context();
    let standing = context.supervision.registry.standing(context.addresses.chain.name()).expect("registered");
    (standing.incarnation.0, standing.state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_watch_each_other_s_actors_through_failing_links_until_they_end() {
    let mut federation = Federation::start("watched", |_| {}).await;
    let hurt = federation.members[3].name.clone();
    let mut seed = 5u64;
    for round in 0..3 {
        let mut watches = Vec::new();
        let (current, _) = life(&federation.members[3]);
        for member in &federation.members[..3] {
            let monitor = watch_of(member, &hurt, current).await;
            watches.push(tokio::spawn(monitor.down()));
        }
        // Links break in random order, on either side.
        for _ in 0..6 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let member = &federation.members[(seed >> 33) as usize % 3];
            let (from, to) =
                if seed >> 63 == 0 { (member, &hurt) } else { (&federation.members[3], &member.name) };
            if let Some(connection) = from.node().context().channels[to].connection() {
                connection.end("on purpose");
            }
        }
        assert!(
            watches.iter().all(|watch| !watch.is_finished()),
            "round {round}: a link says nothing of an actor"
        );
        let chain = &federation.members[3].node().context().addresses.chain;
        chain.inject_panic(&format!("on purpose, for the {round}. time")).expect("it runs");
        for watch in watches {
            let down = tokio::time::timeout(SOON, watch).await.expect("in time").expect("no panic");
            let expected = format!("on purpose, for the {round}. time");
            assert!(reason(&down).contains(&expected), "{expected:?} in {down:?}");
        }
        eventually(SOON, "the chain is back", async || {
            let found = life(&federation.members[3]);
            seen(found == (current + 1, ActorLifecycleState::Active), format!("{found:?}"))
        })
        .await;
        for member in &federation.members {
            member.linked().await;
        }
    }

    // When their member is lost, all watches report it.
    let mut watches = Vec::new();
    let (current, _) = life(&federation.members[3]);
    for member in &federation.members[..3] {
        watches.push(tokio::spawn(watch_of(member, &hurt, current).await.down()));
    }
    assert!(federation.members[3].take().stop().await, "it stops in time");
    for watch in watches {
        let down = tokio::time::timeout(SOON, watch).await.expect("in time").expect("no panic");
        assert!(matches!(down, Down::Lost { .. }), "{down:?}");
    }
    federation.stop().await;
}
