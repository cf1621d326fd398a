//! Tests what slow disks cost: a bounded amount of time, and only for the member that has the slow disk.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use alys_node::actors::chain::ChainMessage;
use alys_node::actors::consensus::ConsensusMessage;
use alys_node::genesis::{Genesis, GenesisFile, GenesisMember};
use alys_node::keys::SecretKey;
use alys_node::ops::view::{HeadView, HealthView, TreeView};
use alys_node::preflight;
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::process::Process;
use alys_tests::slow_disk::SlowDisk;
use alys_tests::{eventually, seen, skip};
use tokio::sync::oneshot::error::TryRecvError;

const BLOCK_TIME: Duration = Duration::from_secs(2);
const SYNC: Duration = Duration::from_millis(250);

/// Gives a federation that has not started the production block time.
fn at_two_seconds(federation: &mut Federation) {
    let members = (1..).zip(&federation.members).map(|(number, member)| {
        let key = SecretKey::from_seed(&[number; 32]);
        let (public_key, proof_of_possession) = (key.public_key().to_string(), key.prove_possession());
        GenesisMember { name: member.name.clone(), public_key, proof_of_possession }
    });
    let (chain_id, members) = (federation.genesis.chain_id().to_owned(), members.collect());
    let file = GenesisFile { chain_id, block_time: BLOCK_TIME, members };
    federation.genesis = Genesis::check(&file).expect("a genesis");
}

async fn height(member: &Member) -> u64 {
    eventually(SOON, "a head", async || member.client.get::<HeadView>("/chain/head").await).await.height
}

/// Waits for `count` more blocks and returns the average time per block.
async fn pace(member: &Member, count: u32) -> Duration {
    let first = height(member).await;
    member.reaches(first + 1).await;
    let begun = Instant::now();
    member.reaches(first + 1 + u64::from(count)).await;
    begun.elapsed() / count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_go_on_over_syncs_of_250_ms_and_a_disk_that_hangs_halts_its_member_alone() {
    let Some(disk) = SlowDisk::build() else { return };
    let mut federation = Federation::prepare("disks", |_| {}).await;
    at_two_seconds(&mut federation);
    let names = ["one", "two", "three", "four"];
    let mut processes: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let environment = disk.environment(name);
            let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
            Process::start_with(&federation, index, &environment)
        })
        .collect();
    for member in &federation.members {
        member.gate_open(4).await;
    }
    for (slow, name) in (1..).zip(&names) {
        disk.set(name, SYNC);
        let paces = pace(&federation.members[0], 3).await;
        println!("a block each {paces:?} over syncs of {SYNC:?} on {slow} of four");
        // Twice the block time, plus half of it for a busy machine.
        assert!(paces <= 2 * BLOCK_TIME + BLOCK_TIME / 2, "a block each {paces:?} with {slow} slow ones");
    }

    // A slower disk is reported by its member.
    names[..3].iter().for_each(|name| disk.set(name, Duration::ZERO));
    disk.set("four", Duration::from_millis(600));
    let slow = &federation.members[3];
    eventually(SOON, "the slow disk is named", async || {
        let health: HealthView = slow.client.get("/health/status").await?;
        let text = format!("{health:?}");
        seen(text.contains("the disk is slow: a sync takes"), text)
    })
    .await;

    // A hung disk halts only its own member, which reports the reason and can still be stopped.
    disk.set("four", Duration::from_hours(1));
    eventually(SOON, "the disk that hangs is named", async || {
        let health: HealthView = slow.client.get("/health/status").await?;
        let text = format!("{health:?}");
        seen(text.contains("the disk hangs"), text)
    })
    .await;
    federation.members[0].gate_open(3).await;
    let (before, first) = (height(slow).await, height(&federation.members[0]).await);
    federation.members[0].reaches(first + 2).await;
    assert!(height(slow).await <= before + 1);
    assert_eq!(slow.client.status("/livez").await.expect("an answer"), 200);

    // The member recovers by itself when its disk does.
    disk.set("four", Duration::ZERO);
    slow.reaches(first + 2).await;
    slow.gate_open(4).await;
    assert!(!processes[3].log().contains("ERROR"), "{}", processes[3].log());

    // The member obeys SIGTERM even while its disk hangs.
    disk.set("four", Duration::from_hours(1));
    tokio::time::sleep(Duration::from_secs(3)).await;
    processes[3].signal("-TERM");
    eventually(SOON, "it ends", async || seen(processes[3].ended().is_some(), processes[3].log())).await;
}

/// A mounted file system; unmounted when dropped.
struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_disk_is_full_waits_for_room_and_goes_on_by_itself() {
    let mut federation = Federation::prepare("full-disk", |_| {}).await;
    let directory = federation.members[3].config.data_dir.clone();
    fs::create_dir(&directory).expect("a directory");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(&directory).output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        return skip("no file system can be mounted here, so that none can be filled");
    }
    let _mount = Mount(directory.clone());
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let process = Process::start(&federation, 3);
    let full = &federation.members[3];
    full.gate_open(4).await;
    full.reaches(2).await;
    let filler = directory.join("filler");
    // Write until the file system is full.
    let mut file = fs::File::create(&filler).expect("a file");
    let zeros = vec![0; 65_536];
    while file.write_all(&zeros).is_ok() {}
    eventually(SOON, "it says so", async || {
        let answer = full.client.send("GET", "/readyz", "", "").await?;
        seen(answer.status == 503 && answer.body.contains("the disk is full"), answer.body)
    })
    .await;
    // The preflight check predicts that the member would not start.
    let refused = preflight::check(&full.config, &federation.genesis).expect_err("no room").to_string();
    assert!(refused.contains("bytes are free; expected at least"), "{refused}");
    let height = federation.members[0].height();
    federation.members[0].reaches(height + 3).await;
    fs::remove_file(&filler).expect("room again");
    drop(file);
    full.gate_open(4).await;
    full.reaches(federation.members[0].height() + 2).await;
    let tree: TreeView = full.client.get("/supervision/tree").await.expect("an answer");
    assert_eq!(restarts(&tree), 0, "{tree:?}");
    drop(process);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_takes_long_to_open_its_files_starts() {
    let Some(disk) = SlowDisk::build() else { return };
    let mut federation = Federation::prepare("slow-start", |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let environment = disk.environment("slow");
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    // Longer than the start deadline of other actors.
    disk.set("slow", Duration::from_secs(3));
    let begun = Instant::now();
    let mut process = Process::start_with(&federation, 3, &environment);
    let slow = &federation.members[3];
    eventually(Duration::from_mins(2), "it starts", async || {
        assert!(process.ended().is_none(), "{}", process.log());
        slow.client.status("/livez").await
    })
    .await;
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(10), "its files were open after {took:?}, which tests nothing");
    disk.set("slow", Duration::ZERO);
    slow.gate_open(4).await;
    drop(process);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_files_may_not_grow_says_so_and_goes_on_when_they_may() {
    let mut federation = Federation::prepare("file-size", |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let mut process = Process::start(&federation, 3);
    let limited = &federation.members[3];
    limited.gate_open(4).await;
    limited.reaches(2).await;
    let pid = process.id();
    let limit = |bytes: &str| {
        let pid = pid.to_string();
        Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status()
    };
    if !limit("4096").is_ok_and(|status| status.success()) {
        return skip("the size of files can not be limited by `prlimit`");
    }
    // SIGXFSZ does not end the process: the write fails with a reason.
    eventually(SOON, "it says why", async || {
        let answer = limited.client.send("GET", "/readyz", "", "").await?;
        seen(answer.status == 503 && answer.body.contains("File too large"), answer.body)
    })
    .await;
    let height = federation.members[0].height();
    federation.members[0].reaches(height + 3).await;
    assert!(limit("unlimited").is_ok_and(|status| status.success()));
    limited.reaches(height + 3).await;
    limited.gate_open(4).await;
    assert!(process.ended().is_none());
    drop(process);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_data_directory_is_gone_or_another_signs_nothing_and_says_so() {
    let mut federation = Federation::prepare("gone", |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let process = Process::start(&federation, 3);
    let member = &federation.members[3];
    member.gate_open(4).await;
    member.reaches(2).await;
    let (data, moved) = (&member.config.data_dir, member.config.data_dir.with_extension("moved"));
    let is_not_ready = async |says: &str| {
        eventually(SOON, says, async || {
            let answer = member.client.send("GET", "/readyz", "", "").await?;
            seen(answer.status == 503 && answer.body.contains(says), answer.body)
        })
        .await;
    };
    fs::rename(data, &moved).expect("moved");
    is_not_ready("No such file or directory").await;
    fs::create_dir(data).expect("another");
    is_not_ready("Stale file handle").await;
    fs::remove_dir(data).expect("empty");
    fs::rename(&moved, data).expect("back");
    member.gate_open(4).await;
    member.reaches(federation.members[0].height() + 2).await;
    drop(process);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_of_others_take_no_room_from_a_member_s_own_work_and_nothing_piles_up_while_its_disk_hangs() {
    let federation = Federation::start("reads", |_| {}).await;
    let busy = &federation.members[3];
    busy.reaches(1).await;
    let (addresses, storage) = (&busy.node().context().addresses, &busy.node().context().storage);
    let read = |height| {
        let (reply, answered) = ractor::concurrency::oneshot();
        let sent = addresses.chain.cast(ChainMessage::Block(height, reply.into()));
        sent.is_ok().then_some(answered)
    };
    let decided = read(1).expect("asked").await.expect("answered").expect("read").expect("block 1");

    // On a slow disk, keep sending more reads than the storage thread's queue holds.
    storage.disk().set_delay(Duration::from_millis(100));
    let goal = busy.height() + 3;
    let mut asked = VecDeque::new();
    let until = Instant::now() + SOON;
    while busy.height() < goal {
        assert!(Instant::now() < until, "no block although others only read");
        asked.extend((0..64).filter_map(|_| read(1)));
        while asked.len() > 1_024 {
            let _ = asked.pop_front().expect("one is there").await;
        }
        tokio::task::yield_now().await;
    }
    let tree: TreeView = busy.client.get("/supervision/tree").await.expect("an answer");
    assert_eq!(restarts(&tree), 0, "{tree:?}");

    storage.disk().set_delay(Duration::from_hours(1));
    eventually(SOON, "the disk hangs", async || {
        let reading = storage.disk().reading();
        seen(reading.stuck > Duration::from_secs(2), format!("{reading:?}"))
    })
    .await;
    let mut questions = Vec::new();
    let mut offers = Vec::new();
    for _ in 0..50 {
        let peers_at = ConsensusMessage::PeersAt { height: 1, heard: 3 };
        addresses.consensus.cast(peers_at).expect("there is room");
        let (reply, answered) = ractor::concurrency::oneshot();
        addresses.consensus.cast(ConsensusMessage::Signatures(0, reply.into())).expect("there is room");
        questions.push(answered);
        let (reply, answered) = ractor::concurrency::oneshot();
        let offer = Box::new((decided.block.clone(), decided.certificate.clone()));
        addresses.consensus.cast(ConsensusMessage::Adopt(offer, reply.into())).expect("there is room");
        offers.push(answered);
    }
    let evidence = addresses.consensus.ask(SOON, ConsensusMessage::Evidence).await;
    assert_eq!(evidence, Ok(vec![]), "what needs no step is answered, after what came before it");
    let refused_questions = questions.iter_mut().filter_map(|answer| answer.try_recv().err());
    let refused_questions = refused_questions.filter(|error| *error == TryRecvError::Closed).count();
    assert!(refused_questions >= 18, "{refused_questions} of 50");
    let refused_offers = offers.iter_mut().filter_map(|answer| answer.try_recv().err());
    let refused_offers = refused_offers.filter(|error| *error == TryRecvError::Closed).count();
    assert!(refused_offers >= 49, "{refused_offers} of 50");
    let depth = addresses.consensus.depth();
    assert!(depth < 100, "{depth} messages wait");

    storage.disk().set_delay(Duration::ZERO);
    busy.reaches(federation.members[0].height() + 2).await;
    let tree: TreeView = busy.client.get("/supervision/tree").await.expect("an answer");
    assert_eq!(restarts(&tree), 0, "{tree:?}");
    federation.stop().await;
}

fn restarts(tree: &TreeView) -> u64 {
    tree.restarts + tree.children.iter().map(restarts).sum::<u64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_journal_is_still_locked_for_a_moment_starts() {
    let mut federation = Federation::start("locked", |_| ()).await;
    federation.members[3].take().stop().await;
    let journal =
        File::open(federation.members[3].config.data_dir.join("signatures.journal")).expect("it is there");
    journal.lock().expect("nobody holds it");
    let unlocking = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(journal);
    });
    federation.start_member(3).await;
    unlocking.join().expect("it does not panic");
    federation.members[3].gate_open(4).await;
    federation.stop().await;
}
