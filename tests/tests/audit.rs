//! What a stopped member has on disk agrees with itself, and an audit finds it when it does not.

use std::fs::{self, OpenOptions};

use alys_node::audit::{AuditError, audit};
use alys_node::consensus::guard::JournalError;
use alys_tests::federation::Federation;

/// Bytes of one signature in the journal.
const RECORD_BYTES: u64 = 82;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_made_blocks_pass_an_audit_and_damaged_ones_do_not() {
    let mut federation = Federation::start("audit", |_| {}).await;
    for member in &federation.members {
        member.reaches(3).await;
    }
    let genesis = federation.genesis.clone();
    let directories: Vec<_> =
        federation.members.iter().map(|member| member.config.data_dir.clone()).collect();
    for member in &mut federation.members {
        assert!(member.take().stop().await, "it stops in time");
    }
    for (index, directory) in directories.iter().enumerate() {
        let found = audit(directory, &genesis, index).expect("every file is there");
        assert_eq!(found.findings, [""; 0], "member {index}");
        assert!(found.blocks >= 3 && found.statements >= 6 && found.logged >= 1, "{found:?}");
    }

    let journal = directories[0].join("signatures.journal");
    let bytes = fs::read(&journal).expect("reads");
    let shorten = |by: u64| {
        let file = OpenOptions::new().write(true).open(&journal).expect("opens");
        file.set_len(bytes.len() as u64 - by).expect("shortens");
    };
    shorten(3 * RECORD_BYTES);
    let found = audit(&directories[0], &genesis, 0).expect("every file is there");
    assert!(found.findings.iter().any(|finding| finding.contains("not in the journal")), "{found:?}");

    let mut damaged = bytes.clone();
    damaged[10] ^= 1;
    fs::write(&journal, damaged).expect("writes");
    let error = audit(&directories[0], &genesis, 0).expect_err("damaged");
    assert!(matches!(error, AuditError::Journal(JournalError::Damaged { at: 0, .. })), "{error}");

    fs::remove_file(&journal).expect("removes");
    let error = audit(&directories[0], &genesis, 0).expect_err("missing").to_string();
    assert!(error.contains("signatures.journal is missing"), "{error}");
}
