//! Polls members, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use alys_cluster::clock::{Clock as _, SystemClock};
use serde::de::DeserializeOwned;

use super::state::{Block, Heard, MemberAnswer};
use super::target::Target;
use crate::ops::view::{BlockView, EventView, FederationView, GenesisView, Problem, TreeView};

/// Deadline of a request; a stopped member costs no more than this.
const REQUEST: Duration = Duration::from_secs(2);
/// Maximum number of blocks read per poll.
const BLOCKS_A_LOOK: u64 = 12;
/// Events are long, so they are requested only with every poll of this many.
const EVENTS_EVERY: u64 = 2;
/// Interval at which a waiting thread checks whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// Polls one member once, or returns why it does not answer.
pub fn ask(target: &Target) -> Result<Box<MemberAnswer>, String> {
    Watcher::new(target.clone()).look()
}

/// Polls every member once, all at the same time.
pub(super) fn once(targets: &[Target]) -> Vec<Heard> {
    thread::scope(|scope| {
        let ask = |(member, target): (usize, &Target)| {
            let target = target.clone();
            scope.spawn(move || Heard { member, outcome: Watcher::new(target).look() })
        };
        let asked: Vec<_> = targets.iter().enumerate().map(ask).collect();
        asked.into_iter().map(|asked| asked.join().expect("asking does not panic")).collect()
    })
}

/// Polls a member every `interval` until `stop` is set or the receiver is gone.
pub(super) fn watch(
    member: usize,
    target: Target,
    interval: Duration,
    told: SyncSender<Heard>,
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut watcher = Watcher::new(target);
        while !stop.load(Ordering::Relaxed) {
            // A slow reader of the channel delays polling, and nothing else.
            if told.send(Heard { member, outcome: watcher.look() }).is_err() {
                return;
            }
            let mut left = interval;
            while !left.is_zero() && !stop.load(Ordering::Relaxed) {
                let nap = left.min(NAP);
                thread::sleep(nap);
                left -= nap;
            }
        }
    })
}

/// What is known of one incarnation of a member.
struct Known {
    incarnation: u64,
    version: String,
    block_time: Duration,
    height: u64,
}

/// Polls one member and tracks which of its blocks are read.
struct Watcher {
    target: Target,
    agent: ureq::Agent,
    clock: SystemClock,
    looks: u64,
    /// What does not change while the member runs, and the height up to which its blocks are read.
    known: Option<Known>,
}

impl Watcher {
    fn new(target: Target) -> Self {
        // Requests go to the named member only: neither through a proxy from the environment, nor along redirects.
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .build();
        Self { target, agent: config.into(), clock: SystemClock::default(), looks: 0, known: None }
    }

    fn look(&mut self) -> Result<Box<MemberAnswer>, String> {
        let status: FederationView = self.get("/federation/status")?;
        let known = self.known.take().filter(|known| known.incarnation == status.incarnation);
        let mut known = match known {
            Some(known) => known,
            None => self.learn(status.incarnation)?,
        };
        let unread = unread(known.height, status.height);
        let blocks: Vec<_> = unread.map_while(|height| self.block(height).ok()).collect();
        let block_age = blocks.last().map(|block| self.clock.wall().0.saturating_sub(block.at_ms));
        let block_age = block_age.map(Duration::from_millis);
        let tree: TreeView = self.get("/supervision/tree")?;
        let ready = self.get_any("/readyz")?;
        let asks_events = self.looks.is_multiple_of(EVENTS_EVERY);
        let events = if asks_events { self.get("/events")? } else { Vec::<EventView>::new() };
        self.looks += 1;
        known.height = status.height;
        let (version, block_time) = (known.version.clone(), known.block_time);
        self.known = Some(known);
        let restarts = restarts(&tree);
        let answer = MemberAnswer { status, ready, restarts, version, block_time, block_age, blocks, events };
        Ok(Box::new(answer))
    }

    fn learn(&self, incarnation: u64) -> Result<Known, String> {
        let genesis: GenesisView = self.get("/genesis")?;
        let block_time = Duration::from_millis(genesis.block_time_ms);
        Ok(Known { incarnation, version: self.version()?, block_time, height: 0 })
    }

    fn block(&self, height: u64) -> Result<Block, String> {
        let view: BlockView = self.get(&format!("/chain/blocks/{height}"))?;
        let (proposer, round) = (view.proposer, view.certificate.round);
        Ok(Block { height, at_ms: view.decided_at_ms, proposer, round })
    }

    /// The version, which is a label of a metric.
    fn version(&self) -> Result<String, String> {
        let mut answer = self.request("/metrics")?;
        let text = answer.body_mut().read_to_string().map_err(|error| format!("/metrics: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("alys_build_info{version=\""));
        Ok(line.and_then(|rest| rest.split('"').next()).unwrap_or("?").to_owned())
    }

    fn request(&self, path: &str) -> Result<ureq::http::Response<ureq::Body>, String> {
        let call = self.agent.get(self.target.url(path)).call();
        call.map_err(|error| match error {
            ureq::Error::Timeout(_) => format!("{} does not answer within {REQUEST:?}", self.target),
            error => format!("{} does not answer: {error}", self.target),
        })
    }

    fn get_any<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let mut answer = self.request(path)?;
        let odd = |error| format!("{}{path} answered otherwise than a member does: {error}", self.target);
        answer.body_mut().read_json().map_err(odd)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let mut answer = self.request(path)?;
        let status = answer.status();
        if status.is_success() {
            let odd = |error| format!("{}{path} answered otherwise than a member does: {error}", self.target);
            return answer.body_mut().read_json().map_err(odd);
        }
        let problem: Option<Problem> = answer.body_mut().read_json().ok();
        let detail = problem.map(|problem| format!(": {}", problem.detail)).unwrap_or_default();
        Err(format!("{}{path} answered {status}{detail}", self.target))
    }
}

/// Heights up to `height` whose blocks are read at this poll, given that those up to `known` are already read. Only a
/// few, whatever height a member claims.
fn unread(known: u64, height: u64) -> impl Iterator<Item = u64> {
    let after = known.max(height.saturating_sub(BLOCKS_A_LOOK));
    (after..height).map(|before| before + 1)
}

/// Restarts in a supervision tree. A member that lies about them can not make the sum overflow.
fn restarts(tree: &TreeView) -> u64 {
    tree.children.iter().map(restarts).fold(tree.restarts, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A member that accepts connections and never responds, and one that does not exist.
    fn deaf_and_dead() -> (TcpListener, [Target; 2]) {
        let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
        let targets = [&deaf, &gone].map(|listener| Target::from(listener.local_addr().expect("an address")));
        (deaf, targets)
    }

    #[test]
    fn one_that_never_answers_costs_its_deadline_and_holds_up_nobody() {
        let (_deaf, targets) = deaf_and_dead();
        let (told, heard) = sync_channel(8);
        let stop = Arc::new(AtomicBool::new(false));
        let watchers = [0, 1]
            .map(|member| watch(member, targets[member].clone(), Duration::ZERO, told.clone(), stop.clone()));
        // The dead one is polled again and again while the deaf one is waited for.
        let firsts: Vec<_> = heard.iter().take(5).map(|heard| heard.member).collect();
        assert_eq!(firsts, [1; 5]);
        let deaf = heard.iter().find(|heard| heard.member == 0).expect("it is heard of");
        let why = deaf.outcome.expect_err("no answer");
        assert!(why.ends_with("does not answer within 2s"), "{why}");
        stop.store(true, Ordering::Relaxed);
        drop(heard);
        for watcher in watchers {
            watcher.join().expect("it ends");
        }
    }

    #[test]
    fn of_whatever_height_a_member_claims_a_few_blocks_are_read() {
        let read = |known, height| unread(known, height).collect::<Vec<_>>();
        assert_eq!(read(0, 0), [0; 0]);
        assert_eq!(read(0, 2), [1, 2]);
        assert_eq!(read(40, 42), [41, 42]);
        assert_eq!(read(0, 100), (89..=100).collect::<Vec<_>>());
        assert_eq!(read(42, 40), [0; 0], "it went back");
        assert_eq!(read(u64::MAX, u64::MAX), [0; 0]);
        assert_eq!(read(0, u64::MAX).len() as u64, BLOCKS_A_LOOK);
    }

    #[test]
    fn restarts_that_can_not_be_true_are_counted_as_many() {
        let text = |children: &str, restarts: u64| {
            format!(
                "{{\"name\":\"root\",\"kind\":\"supervisor\",\"state\":\"running\",\"incarnation\":1,\"restarts\":{restarts},\
                 \"last_failure\":\"\",\"restart\":\"permanent\",\"strategy\":\"immediate\",\"at_boundary\":false,\"children\":[{children}]}}"
            )
        };
        let tree: TreeView = serde_json::from_str(&text(&text("", 2), u64::MAX)).expect("a tree");
        assert_eq!(restarts(&tree), u64::MAX);
        let tree: TreeView = serde_json::from_str(&text(&text("", 2), 3)).expect("a tree");
        assert_eq!(restarts(&tree), 5);
    }

    #[test]
    fn everybody_is_heard_of_once_in_the_order_of_the_targets() {
        let (_deaf, targets) = deaf_and_dead();
        let heard = once(&targets);
        let members: Vec<_> = heard.iter().map(|heard| (heard.member, heard.outcome.is_err())).collect();
        assert_eq!(members, [(0, true), (1, true)]);
    }
}
