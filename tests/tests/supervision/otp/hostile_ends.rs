//! Tests that the supervisor keeps its guarantees when children end in difficult ways.
//!
//! These are states that are slow to drop or panic in `drop`, kills during a graceful stop, two decisions at the same
//! time, and children that are gone before their commands are processed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::{Clock, SystemClock, WallTime};
use alys_cluster::event::ClusterEvent;
use alys_cluster::mailbox::Address;
use alys_cluster::port::ConsensusHalt;
use alys_cluster::supervision::decision::Obstacle;
use ractor::ActorProcessingErr;

use super::*;

/// A resource that only one incarnation at a time may hold, such as a file.
#[derive(Default)]
struct Treasure {
    holders: Mutex<u32>,
    taken: Condvar,
    was_shared: AtomicBool,
}

/// What happens when a [`Hold`] is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drops {
    /// It waits a while for a start that does not wait for it.
    Slowly,
    /// It panics.
    WithAPanic,
}

/// The state of a [`Holder`]: it holds the resource until it is dropped.
struct Hold {
    treasure: Arc<Treasure>,
    drops: Drops,
}

impl Hold {
    fn new(treasure: Arc<Treasure>, drops: Drops) -> Self {
        let mut holders = treasure.holders.lock().expect("nobody panics with it");
        *holders += 1;
        treasure.was_shared.fetch_or(*holders > 1, Ordering::SeqCst);
        treasure.taken.notify_all();
        drop(holders);
        Self { treasure, drops }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let holders = self.treasure.holders.lock().expect("nobody panics with it");
        match self.drops {
            Drops::WithAPanic => {
                let mut holders = holders;
                *holders -= 1;
                drop(holders);
                panic!("the state panics when it is dropped");
            }
            // Other tasks continue meanwhile, including those woken by this thread.
            Drops::Slowly => tokio::task::block_in_place(|| {
                let alone = |holders: &mut u32| *holders < 2;
                let waited = self.treasure.taken.wait_timeout_while(holders, ms(200), alone);
                *waited.expect("nobody panics with it").0 -= 1;
            }),
        }
    }
}

/// An actor whose state is difficult to drop.
#[derive(Clone)]
struct Holder {
    address: Address<Order>,
    treasure: Arc<Treasure>,
    drops: Drops,
    starts: Arc<AtomicU32>,
}

impl Holder {
    fn new(drops: Drops) -> Self {
        let address = Address::new(ActorName::literal("holder"), 16);
        Self { address, treasure: Arc::default(), drops, starts: Arc::default() }
    }

    fn child(&self, stage: &Stage) -> ChildSpec {
        let holder = self.clone();
        ChildSpec::worker(&stage.context, &self.address, move || (holder.clone(), ()))
    }

    async fn runs(&self, start: u32) {
        eventually(secs(20), &format!("start {start} runs"), async || {
            let starts = self.address.ask(secs(2), Order::Who).await.map_err(|error| error.to_string())?;
            seen(starts == start, format!("start {starts}"))
        })
        .await;
    }
}

impl Actor for Holder {
    type Msg = Order;
    type State = Hold;
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<Hold, ActorProcessingErr> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        Ok(Hold::new(self.treasure.clone(), self.drops))
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        _: &mut Hold,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Order::Who(reply) => drop(reply.send(self.starts.load(Ordering::SeqCst))),
            Order::End => me.stop(Some("ends on purpose".to_owned())),
            _ => return Err("fails on purpose".into()),
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_start_waits_until_the_state_before_it_is_dropped() {
    let stage = Stage::new("otp-hold");
    let holder = Holder::new(Drops::Slowly);
    let root = raise(&stage, OneForOne, 9, vec![holder.child(&stage)]).await;
    for (start, order) in [(2, Order::Fail), (3, Order::End), (4, Order::Fail)] {
        holder.address.cast(order).expect("the order is taken");
        holder.runs(start).await;
        assert!(!holder.treasure.was_shared.load(Ordering::SeqCst), "start {start} did not wait");
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_panics_when_it_is_dropped_ends_only_its_own_actor() {
    let stage = Stage::new("otp-drop-panics");
    let holder = Holder::new(Drops::WithAPanic);
    let x = stage.puppet("x");
    let root = raise(&stage, OneForOne, 9, vec![stage.child(&x), holder.child(&stage)]).await;
    for (start, order) in [(2, Order::End), (3, Order::Fail)] {
        holder.address.cast(order).expect("the order is taken");
        holder.runs(start).await;
    }
    assert_eq!((root.ended.is_finished(), story(&stage).as_str()), (false, "+x1"));
    // The last state is dropped with the messages that its supervisor did not process.
    root.stop().await;
    assert_eq!(story(&stage), "+x1 -x1");
    nobody_left(&stage).await;
}

/// Actors that currently halt consensus.
#[derive(Clone, Default)]
struct Halts(Arc<Mutex<BTreeSet<String>>>);

impl Halts {
    fn standing(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics with it").iter().cloned().collect()
    }
}

impl ConsensusHalt for Halts {
    fn halt(&self, by: &ActorName, _: &str) {
        self.0.lock().expect("nobody panics with it").insert(by.to_string());
    }

    fn resume(&self, by: &ActorName) {
        self.0.lock().expect("nobody panics with it").remove(by.as_str());
    }
}

fn fatal() -> Order {
    Order::FailAs(ActorFailureType::ConsensusFailure { error_code: "two certificates".to_owned() })
}

/// A root that stays up for an hour with its children halted, above a tier of these children.
async fn raise_halting(stage: &Stage, children: Vec<ChildSpec>) -> (Root, EnhancedSupervision) {
    let spec = SupervisorSpec { escalation: EscalationTable::TIER, ..stage.spec("tier", 3, children) };
    let face = EnhancedSupervision::of(&spec, stage.context.clone());
    let tier = ChildSpec::supervisor(spec, &stage.context);
    let spec = stage.spec("root", 3, vec![tier]);
    let spec = SupervisorSpec { escalation: EscalationTable::ROOT, halt_for: secs(3_600), ..spec };
    (stage.raise(spec).await.expect("the tree starts"), face)
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_killed_while_it_stops_for_a_fatal_failure_stays_down_until_an_operator_starts_it() {
    let mut stage = Stage::new("otp-fatal-killed");
    let halts = Halts::default();
    stage.context.halt = Arc::new(halts.clone());
    let slow = stage.puppet("slow").stopping_in(secs(5));
    let x = stage.puppet("x");
    let children = vec![stage.child(&slow).shutdown(Shutdown::Infinity), stage.child(&x)];
    let (root, _) = raise_halting(&stage, children).await;
    let tier = stage.cell("tier");
    x.order(fatal());
    tokio::time::sleep(secs(1)).await;
    tier.kill();
    settle().await;
    assert_eq!(stage.record.with("started"), ["started slow 1", "started x 1"], "nothing was started again");
    assert_eq!(standing(&root.face).await, "tier halted");
    assert_eq!(halts.standing(), ["tier", "x"]);
    root.face.start_stopped(&ActorName::literal("tier")).await.expect("it starts by hand");
    assert_eq!(halts.standing(), [""; 0]);
    assert_eq!(stage.record.with("started")[2..], ["started slow 2", "started x 2"]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_was_raised_before_a_kill_is_answered_once() {
    let stage = Stage::new("otp-raised-once");
    let slow = stage.puppet("slow").stopping_in(secs(5));
    let x = stage.puppet("x");
    let children = vec![stage.child(&slow).shutdown(Shutdown::Infinity), stage.child(&x)];
    let root = raise(&stage, OneForOne, 9, vec![stage.tier("tier", 0, children)]).await;
    let mut events = stage.context.events.listen();
    let mut ends = || {
        let mut ends = Vec::new();
        while let Ok(told) = events.try_recv() {
            if let ClusterEvent::ChildEnded { child, reason, .. } = &told.event
                && child.as_str() == "tier"
            {
                ends.push(reason.clone());
            }
        }
        ends
    };
    let tier = stage.cell("tier");
    x.kill();
    tokio::time::sleep(secs(1)).await;
    tier.kill();
    settle().await;
    let told = ends();
    assert!(told.len() == 1 && told[0].contains("restart intensity exceeded"), "{told:?}");
    stage.cell("tier").stop(Some("by hand".to_owned()));
    settle().await;
    let told = ends();
    assert!(told.len() == 1 && told[0].contains("by hand"), "{told:?}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_halt_in_the_name_of_a_child_that_is_gone_ends_when_an_operator_starts_its_tier() {
    let mut stage = Stage::new("otp-halt-of-the-gone");
    let halts = Halts::default();
    stage.context.halt = Arc::new(halts.clone());
    let [a, x] = ["a", "x"].map(|name| stage.puppet(name));
    let (root, face) = raise_halting(&stage, vec![stage.child(&a)]).await;
    face.start_child(stage.child(&x)).await.expect("it starts");
    x.order(fatal());
    settle().await;
    assert_eq!(halts.standing(), ["tier", "x"]);
    // A child that was added later is not in the tier's specification.
    root.face.start_stopped(&ActorName::literal("tier")).await.expect("it starts by hand");
    settle().await;
    assert_eq!((halts.standing().len(), story(&stage).as_str()), (0, "+a1 +x1 -a1 +a2"));
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_was_away_from_its_last_failure_also_where_its_whole_tier_was_restarted_meanwhile() {
    let stage = Stage::new("otp-away");
    let x = stage.puppet("x");
    let root = raise(&stage, OneForOne, 3, vec![stage.tier("tier", 1, vec![stage.child(&x)])]).await;
    for _ in 0..2 {
        x.kill();
        shortly().await;
    }
    assert_eq!(story(&stage), "+x1 +x2 +x3");
    tokio::time::sleep(secs(3_600)).await;
    x.kill();
    settle().await;
    let statistics = stage.context.memory.history(x.address.name()).expect("it failed").statistics;
    assert_eq!((statistics.recoveries, story(&stage).as_str()), (3, "+x1 +x2 +x3 +x4"));
    assert!(statistics.away < secs(1), "{statistics:?}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn supervisors_that_came_and_went_leave_no_budgets_behind() {
    let stage = Stage::new("otp-rows");
    let spec = SupervisorSpec { is_dynamic: true, ..stage.spec("root", 3, Vec::new()) };
    let root = stage.raise(spec).await.expect("the root starts");
    for (outer, inner) in [("outer-1", "inner-1"), ("outer-2", "inner-2")] {
        let tier = stage.tier(outer, 3, vec![stage.tier(inner, 3, Vec::new())]).restart(Temporary);
        root.face.start_child(tier).await.expect("it starts");
        root.face.stop_child(&ActorName::literal(outer)).await.expect("it stops");
    }
    let rows = stage.context.tree.budgets(stage.context.clock.now());
    let names: Vec<_> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["root"]);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn slots_without_a_length_are_as_good_as_unknown() {
    let stage = Stage::new("otp-no-length");
    let x = stage.puppet("x");
    let root = raise(&stage, OneForOne, 1, vec![stage.child(&x).at_boundary()]).await;
    let boundary = stage.context.clock.now();
    stage.context.slots.set(SlotTiming { boundary, block_time: Duration::ZERO });
    x.kill();
    settle().await;
    assert_eq!((root.ended.is_finished(), story(&stage).as_str()), (false, "+x1 +x2"));
    root.stop().await;
}

/// A clock that, once armed, makes the first two readers of the wall clock wait for each other.
///
/// A supervisor reads it for the record of a failure: after it has read the remaining bound, and before it uses any of
/// it.
#[derive(Default)]
struct MeetingPoint {
    clock: SystemClock,
    is_armed: AtomicBool,
    readers: Mutex<u32>,
    met: Condvar,
}

impl Clock for MeetingPoint {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn wall(&self) -> WallTime {
        if self.is_armed.load(Ordering::SeqCst) {
            let mut readers = self.readers.lock().expect("nobody panics with it");
            *readers += 1;
            self.met.notify_all();
            let is_alone = |readers: &mut u32| *readers < 2;
            drop(self.met.wait_timeout_while(readers, secs(20), is_alone).expect("nobody panics with it"));
        }
        self.clock.wall()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_restart_of_the_whole_tree_is_granted_to_one_of_two_that_want_it_at_once() {
    let mut stage = Stage::new("otp-last-restart");
    let clock = Arc::new(MeetingPoint::default());
    stage.context.clock = clock.clone();
    stage.context = stage.context.bound(RestartIntensity { max_restarts: 1, within: secs(3_600) });
    let [a, b] = ["a", "b"].map(|name| stage.puppet(name));
    let tiers =
        vec![stage.tier("one", 9, vec![stage.child(&a)]), stage.tier("two", 9, vec![stage.child(&b)])];
    let root = raise(&stage, OneForOne, 9, tiers).await;
    let mut events = stage.context.events.listen();
    clock.is_armed.store(true, Ordering::SeqCst);
    a.kill();
    b.kill();
    let ended = tokio::time::timeout(secs(20), root.ended).await;
    ended.expect("the tree ends, for its bound is exceeded").expect("the root does not panic");
    let mut granted = 0;
    let mut refused = 0;
    while let Ok(told) = events.try_recv() {
        if let ClusterEvent::RestartDecided { record, .. } = &told.event {
            granted += u32::from(record.decision.step.is_restart());
            refused += u32::from(record.decision.obstacle == Some(Obstacle::Bound));
        }
    }
    assert!(granted == 1 && refused >= 1, "{granted} were granted, {refused} refused");
}
