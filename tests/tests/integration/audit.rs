//! Tests that an audit accepts the files of a stopped member, and reports files that are inconsistent.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::SystemClock;
use alys_node::audit::{AuditError, audit};
use alys_node::consensus::BlockHash;
use alys_node::consensus::guard::{JournalError, JournalMark};
use alys_node::consensus::log::{self, LogError, MessageLog as _, WriteAheadLog};
use alys_node::genesis::Genesis;
use alys_node::ports::BlockStore as _;
use alys_node::store::RedbStore;
use alys_node::{Node, preflight};
use alys_tests::federation::{Federation, Member};
use alys_tests::process::Process;
use alys_tests::skip;

/// Size of the journal's header, in bytes.
const HEADER_BYTES: usize = 60;
/// Size of one signature in the journal, in bytes.
const RECORD_BYTES: u64 = 82;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_made_blocks_pass_an_audit_and_damaged_ones_do_not() {
    let mut federation = Federation::start("audit", |_| {}).await;
    let genesis = federation.genesis.clone();
    let directories: Vec<_> =
        federation.members.iter().map(|member| member.config.data_dir.clone()).collect();
    let mut runs = 0;
    let (own, statements) = loop {
        let highest = federation.members.iter().map(Member::height).max().expect("members");
        for member in &federation.members {
            member.reaches(highest + 3).await;
        }
        for member in &mut federation.members {
            assert!(member.take().stop().await, "it stops in time");
        }
        let mut audits = Vec::new();
        for (index, directory) in directories.iter().enumerate() {
            let found = audit(directory, &genesis, index).expect("every file is there");
            assert_eq!(found.findings, [""; 0], "member {index}");
            assert!(found.blocks >= 3, "member {index}: {found:?}");
            audits.push(found);
        }
        // Each block has signatures of a quorum, though not of every member.
        let signed: usize = audits.iter().map(|found| found.statements).sum();
        assert!(signed >= 3 * 3, "{audits:?}");
        // Look for a member that had signed at the height at which it was stopped.
        if let Some(own) = audits.iter().position(|found| found.logged > 0) {
            break (own, audits[own].statements);
        }
        runs += 1;
        assert!(runs < 10, "nobody was ever stopped after it had signed: {audits:?}");
        for index in 0..federation.members.len() {
            federation.start_member(index).await;
        }
    };

    let directory = &directories[own];
    let journal = directory.join("signatures.journal");
    let bytes = fs::read(&journal).expect("reads");
    let shorten = |by: u64| {
        let file = OpenOptions::new().write(true).open(&journal).expect("opens");
        file.set_len(bytes.len() as u64 - by).expect("shortens");
    };
    shorten(statements.min(3) as u64 * RECORD_BYTES);
    let found = audit(directory, &genesis, own).expect("every file is there");
    assert!(found.findings.iter().any(|finding| finding.contains("not in the journal")), "{found:?}");
    let config = &federation.members[own].config;
    let refused = preflight::check(config, &genesis).expect_err("it would not start").to_string();
    let by_log = refused.contains("which the consensus log has");
    assert!(by_log || refused.contains("signatures, but the chain of"), "{refused}");

    let mut damaged = bytes.clone();
    damaged[10] ^= 1;
    fs::write(&journal, damaged).expect("writes");
    let error = audit(directory, &genesis, own).expect_err("damaged");
    assert!(matches!(error, AuditError::Journal(JournalError::Damaged { at: 0, .. })), "{error}");
    let mut damaged = bytes.clone();
    damaged[HEADER_BYTES + 9] ^= 1;
    fs::write(&journal, damaged).expect("writes");
    let error = audit(directory, &genesis, own).expect_err("damaged");
    assert!(matches!(error, AuditError::Journal(JournalError::Damaged { at: HEADER_BYTES, .. })), "{error}");

    fs::write(&journal, []).expect("empties");
    let error = audit(directory, &genesis, own).expect_err("empty");
    assert!(matches!(error, AuditError::Journal(JournalError::Empty { .. })), "{error}");

    // Restore the journal as it was before the first block, then use another member's.
    fs::write(&journal, &bytes[..HEADER_BYTES]).expect("writes");
    let found = audit(directory, &genesis, own).expect("every file is there");
    assert!(found.findings.iter().any(|finding| finding.contains("tells of 0 signatures")), "{found:?}");
    let other = &directories[(own + 1) % directories.len()];
    fs::copy(other.join("signatures.journal"), &journal).expect("copies");
    let error = audit(directory, &genesis, own).expect_err("another's");
    assert!(matches!(error, AuditError::Journal(JournalError::Foreign { .. })), "{error}");
    let chain = fs::read(directory.join("chain.redb")).expect("reads");
    fs::write(&journal, &bytes).expect("restores");
    fs::copy(other.join("chain.redb"), directory.join("chain.redb")).expect("copies");
    let error = audit(directory, &genesis, own).expect_err("another's").to_string();
    assert!(error.contains("the block store is of another member"), "{error}");
    fs::remove_file(directory.join("chain.redb")).expect("removes");
    let identity = genesis.identity_of(&federation.members[own].name).expect("a member");
    let empty = RedbStore::open(&directory.join("chain.redb"), genesis.hash()).expect("a new one");
    drop(empty.beside(identity, JournalMark::default()).expect("its own"));
    let found = audit(directory, &genesis, own).expect("every file is there");
    let says = "the chain ends at height 0, and this member has signed for height";
    assert!(found.findings.iter().any(|finding| finding.contains(says)), "{found:?}");
    fs::write(directory.join("chain.redb"), chain).expect("restores");
    assert_eq!(audit(directory, &genesis, own).expect("whole again").findings, [""; 0]);
    damage_in_the_middle(directory, &genesis, own);
    assert_eq!(audit(directory, &genesis, own).expect("whole again").findings, [""; 0]);

    // Use another member's log.
    let log = directory.join("consensus.log");
    let entries = log::read(&log, identity).expect("its own").entries;
    fs::remove_file(&log).expect("removes");
    let mut foreign = WriteAheadLog::open(&log, BlockHash([9; 32])).expect("begins");
    foreign.append(&entries[0]).and_then(|()| foreign.flush()).expect("written");
    drop(foreign);
    let error = audit(directory, &genesis, own).expect_err("another's");
    assert!(matches!(error, AuditError::Log(LogError::Foreign { .. })), "{error}");
    let checked = preflight::check(config, &genesis).expect_err("it would not start").to_string();
    let clock = Arc::new(SystemClock::default());
    let started = Node::start(config.clone(), genesis.clone(), clock).await.map(drop);
    let started = started.expect_err("it does not start").to_string();
    for error in [checked, started] {
        assert!(error.contains("consensus.log is of another member"), "{error}");
    }

    fs::remove_file(&journal).expect("removes");
    let error = audit(directory, &genesis, own).expect_err("missing").to_string();
    assert!(error.contains("signatures.journal is missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_that_can_not_be_written_is_audited_too_also_of_a_member_that_was_killed() {
    let mut federation = Federation::prepare("audit-copy", |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let process = Process::start(&federation, 3);
    federation.members[3].gate_open(4).await;
    federation.members[3].reaches(3).await;
    drop(process);
    let directory = federation.members[3].config.data_dir.clone();
    // File modes do not restrict the superuser; a read-only mount does.
    let mount = |options: &[&str]| {
        let mounted = Command::new("mount").args(options).arg(&directory).arg(&directory).output();
        mounted.is_ok_and(|mounted| mounted.status.success())
    };
    if !(mount(&["--bind"]) && mount(&["-o", "remount,bind,ro"])) {
        return skip("nothing can be mounted here, so that no file system is read-only");
    }
    let found = audit(&directory, &federation.genesis, 3);
    let unmounted = Command::new("umount").arg(&directory).status();
    assert!(unmounted.is_ok_and(|status| status.success()), "unmounted");
    let found = found.expect("every file can be read");
    assert_eq!((found.findings.as_slice(), found.blocks >= 3), (&[] as &[String], true), "{found:?}");
    federation.stop().await;
}

/// Damages bytes in the middle of the log and of the chain, and restores them.
fn damage_in_the_middle(directory: &Path, genesis: &Genesis, own: usize) {
    let changed = |file: &str, change: &dyn Fn(&mut Vec<u8>), says: &str| {
        let path = directory.join(file);
        let whole = fs::read(&path).expect("reads");
        let mut damaged = whole.clone();
        change(&mut damaged);
        assert_ne!(damaged, whole, "{file} was changed");
        fs::write(&path, &damaged).expect("writes");
        let found = audit(directory, genesis, own).expect("every file is there").findings;
        assert!(found.iter().any(|finding| finding.contains(says)), "{file}: {found:?}");
        assert!(fs::read(&path).expect("reads") == damaged, "an audit changes nothing");
        fs::write(&path, &whole).expect("restores");
    };
    // Damage the length of the first entry, then its author.
    changed("consensus.log", &|bytes| bytes[12 + 6] ^= 1, "consensus.log is damaged at byte 12");
    changed("consensus.log", &|bytes| bytes[12 + 13 + 20] ^= 1, "consensus.log is damaged at byte 12");
    let store = RedbStore::look(&directory.join("chain.redb"), genesis.hash()).expect("opens");
    let first = store.block(1).expect("reads").expect("there is one");
    // Damage a timestamp that only the file's checksums cover.
    let label = |bytes: &mut Vec<u8>| {
        let signature = first.certificate.signature.0;
        let places: Vec<_> =
            bytes.windows(signature.len()).enumerate().filter(|(_, found)| *found == signature).collect();
        let places: Vec<_> = places.into_iter().map(|(at, _)| at + signature.len() + 4).collect();
        for at in places {
            bytes[at] ^= 1;
        }
    };
    changed("chain.redb", &label, "chain.redb");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_starts_whoever_looks_at_its_files_and_an_audit_refuses_those_of_one_that_runs() {
    let mut federation = Federation::prepare("audited", |_| {}).await;
    federation.start_member(0).await;
    let (config, genesis) = (federation.members[0].config.clone(), federation.genesis.clone());
    let error = audit(&config.data_dir, &genesis, 0).expect_err("it runs");
    assert!(matches!(error, AuditError::InUse { .. }), "{error}");
    assert!(federation.members[0].take().stop().await, "it stops in time");

    // Hold the files like an audit and a check do.
    let _chain = RedbStore::look(&config.data_dir.join("chain.redb"), genesis.hash()).expect("opens");
    let lock = fs::File::open(config.data_dir.join("lock")).expect("opens");
    lock.try_lock_shared().expect("nobody uses it");
    let starting = Node::start(config.clone(), genesis, Arc::new(SystemClock::default()));
    let mut starting = std::pin::pin!(starting);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut starting).await;
    assert!(early.is_err(), "it waits for whoever looks at its directory");
    drop(lock);
    let node = starting.await.expect("it starts");
    assert!(node.stop().await, "it stops in time");
    federation.stop().await;
}
