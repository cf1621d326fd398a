//! Tests what happens to a member that has lost the record of what it signed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use alys_node::ops::view::{BlockView, EvidenceView, HealthView, SignatureView, SignaturesView};
use alys_tests::federation::{Federation, SOON};
use alys_tests::process::{Process, binary};
use alys_tests::{eventually, seen};

/// Four members; the fourth is not started and will be a process.
async fn three(tag: &str) -> Federation {
    let mut federation = Federation::prepare(tag, |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    federation
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_data_directory_is_gone_signs_nothing_where_it_may_have_signed_before_and_says_so() {
    let federation = three("memory").await;
    let process = Process::start(&federation, 3);
    let lost = &federation.members[3];
    lost.gate_open(4).await;
    lost.reaches(3).await;
    drop(process);
    fs::remove_dir_all(&lost.config.data_dir).expect("removed");
    let height = federation.members[0].height();
    let mut process = Process::start(&federation, 3);
    eventually(SOON, "it says so", async || {
        let health: HealthView = lost.client.get("/health/status").await?;
        let consensus = health.actors.into_iter().find(|actor| actor.name == "consensus").ok_or("none")?;
        let is_told = consensus.reason.contains("no memory of what it signed: signs nothing up to height");
        seen(is_told, consensus.reason)
    })
    .await;
    let signed = eventually(SOON, "it signs again", async || {
        let view: SignaturesView = lost.client.get("/consensus/signatures").await?;
        let lowest = view.signatures.iter().map(|signature| signature.height).min();
        lowest.ok_or_else(|| "nothing yet".to_owned())
    })
    .await;
    assert!(signed > height + 2, "the first signature is at height {signed}, its disk was lost at {height}");
    // Kill it; from here on it knows what it signed.
    lost.reaches(signed + 1).await;
    process.signal("-KILL");
    while process.ended().is_none() {
        tokio::task::yield_now().await;
    }
    let process = Process::start(&federation, 3);
    lost.gate_open(4).await;
    let view: SignaturesView = lost.client.get("/consensus/signatures").await.expect("an answer");
    assert_eq!(view.signatures.iter().map(|signature| signature.height).min(), Some(signed));
    drop(process);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_clock_is_behind_what_its_peers_know_of_it_begins_anew_with_a_later_number() {
    let federation = three("outdated").await;
    let incarnation = federation.members[3].config.data_dir.join("incarnation");
    let number =
        || fs::read_to_string(&incarnation).expect("there is one").trim().parse::<u64>().expect("a number");
    // Its peers know an incarnation that is 15 minutes ahead of its clock.
    fs::create_dir(&federation.members[3].config.data_dir).expect("a directory");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    fs::write(&incarnation, (now.as_secs() + 900).to_string()).expect("written");
    let first = Process::start(&federation, 3);
    federation.members[3].gate_open(4).await;
    let known = number();
    drop(first);
    fs::remove_file(&incarnation).expect("lost");
    let mut process = Process::start(&federation, 3);
    federation.members[3].gate_open(4).await;
    for member in &federation.members {
        member.gate_open(4).await;
    }
    assert_eq!((number(), process.ended()), (known + 1, None), "the next one, in the same process");
    let log = process.log();
    assert_eq!(log.matches("peers know a later start of this member").count(), 1, "{log}");
    drop(process);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_data_directory_is_an_older_copy_signs_nothing_where_it_signed_before() {
    older_copy("restored", false, false, "peers know a later start of this member").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_chain_is_newer_than_its_journal_finds_there_what_it_forgot_before_it_signs() {
    older_copy("newer-chain", true, true, "; this member begins without memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_on_an_older_copy_finds_in_the_chain_what_peers_that_began_anew_do_not_know() {
    older_copy("shown", true, false, "; this member begins without memory").await;
}

/// Replaces a member's data directory by an older copy; its log must contain `why` as the reason for remembering
/// nothing.
async fn older_copy(tag: &str, peers_begin_anew: bool, with_newer_chain: bool, why: &str) {
    let mut federation = three(tag).await;
    let lost = &federation.members[3];
    let copy = lost.config.data_dir.with_extension("copy");
    let copied = |from: &Path, to: &Path| {
        let status = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(status.is_ok_and(|status| status.success()), "{} is copied", from.display());
    };
    let process = Process::start(&federation, 3);
    lost.gate_open(4).await;
    lost.reaches(2).await;
    drop(process);
    copied(&lost.config.data_dir, &copy);
    // One more start, which the copy does not know of.
    let process = Process::start(&federation, 3);
    lost.gate_open(4).await;
    // The killed process may have signed for one height more than its peers had at that time.
    let first_new = federation.members[0].height() + 2;
    eventually(SOON, "the chain of every peer shows a signature that the copy does not have", async || {
        for peer in &federation.members[..3] {
            let mut signers = Vec::new();
            for height in first_new..=peer.height() {
                let block: BlockView = peer.client.get(&format!("/chain/blocks/{height}")).await?;
                signers.extend(block.certificate.signers.into_iter().chain([block.proposer]));
            }
            if !signers.contains(&lost.name.to_string()) {
                return Err(format!("{} shows {signers:?} from height {first_new} on", peer.name));
            }
        }
        Ok(())
    })
    .await;
    let before: SignaturesView = lost.client.get("/consensus/signatures").await.expect("an answer");
    let last = before.signatures.iter().map(|signature| signature.height).max().expect("it has signed");
    drop(process);
    fs::remove_dir_all(&lost.config.data_dir).expect("removed");
    copied(&copy, &lost.config.data_dir);

    if with_newer_chain {
        let backup = lost.config.data_dir.with_extension("backup");
        let peer = format!("http://{}", federation.members[0].config.ops.address);
        let config = lost.config.data_dir.with_file_name("node.toml");
        let mut command = Command::new(binary());
        command.args(["backup", "--from", &peer, "--config"]).arg(config).arg("--out").arg(&backup);
        let done = command.output().expect("it runs");
        assert!(done.status.success(), "{done:?}");
        fs::copy(backup.join("chain.redb"), lost.config.data_dir.join("chain.redb")).expect("copied");
    }
    if peers_begin_anew {
        for index in 0..3 {
            federation.members[index].take().stop().await;
            federation.start_member(index).await;
        }
    }
    let lost = &federation.members[3];
    let process = Process::start(&federation, 3);
    lost.gate_open(4).await;
    let first = eventually(SOON, "it signs again", async || {
        let now: SignaturesView = lost.client.get("/consensus/signatures").await?;
        let known = |of: &SignaturesView, height| of.signatures.iter().any(|one| one.height == height);
        // Signatures that the copy remembers are not new.
        let new = now.signatures.iter().map(|one| one.height).filter(|height| !known(&before, *height));
        new.min().ok_or_else(|| "nothing new yet".to_owned())
    })
    .await;
    assert!(first > last, "it signed for height {first} after {last}");
    // It signed nothing twice, in any incarnation, by its own account or by what others received.
    let now: SignaturesView = lost.client.get("/consensus/signatures").await.expect("an answer");
    let place = |one: &SignatureView| (one.height, one.round, one.step.clone());
    let signed: BTreeMap<_, _> = before.signatures.iter().map(|one| (place(one), &one.block)).collect();
    for one in &now.signatures {
        let block = signed.get(&place(one));
        assert!(block.is_none_or(|block| **block == one.block), "{one:?} after {block:?}");
    }
    for member in &federation.members[..3] {
        let evidence: EvidenceView = member.client.get("/consensus/evidence").await.expect("an answer");
        assert_eq!(evidence.evidence, [], "{}", member.name);
    }
    let log = process.log();
    assert_eq!(log.matches(why).count(), 1, "{log}");
    drop(process);
    federation.stop().await;
}
