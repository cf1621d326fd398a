//! Tests that a member behind slow links takes part and can catch up.

use std::time::Duration;

use alys_cluster::federation::HeartbeatConfig;
use alys_node::consensus::block::{BLOCK_BYTES_MAX, TRANSACTION_BYTES_MAX};
use alys_node::ops::view::HeadView;
use alys_tests::client::Client;
use alys_tests::federation::{Federation, Member};
use alys_tests::process::Process;
use alys_tests::throttling_proxy::ThrottlingProxy;
use alys_tests::{eventually, seen};
use tokio::time::sleep;

/// 1 Mbit/s: a full block takes more than a second, half of the block time.
const BYTES_PER_SECOND: u32 = 125_000;
const BLOCK_TIME: Duration = Duration::from_secs(2);
/// Blocks made while the member is down: more than one response holds.
const MISSED: u64 = 7;
/// Catching up takes about 40 s; a member that discards late responses has not caught up after minutes.
const LONG: Duration = Duration::from_mins(8);

async fn height(client: &Client) -> Result<u64, String> {
    Ok(client.get::<HeadView>("/chain/head").await?.height)
}

async fn reaches(member: &Member, least: u64) {
    eventually(LONG, &format!("{} reaches height {least}", member.name), async || {
        let height = height(&member.client).await?;
        seen(height >= least, height)
    })
    .await;
}

/// Fills all following blocks.
async fn fill_blocks(client: Client) {
    let (mut last, mut number) = (0, 0_u64);
    loop {
        if let Ok(height) = height(&client).await
            && height > last
        {
            last = height;
            for _ in 0..BLOCK_BYTES_MAX / TRANSACTION_BYTES_MAX {
                number += 1;
                let payload = format!("{number:016x}").repeat(TRANSACTION_BYTES_MAX / 8);
                let body = format!(r#"{{"payload":"{payload}"}}"#);
                // If the member is busy, its next block contains less.
                let _ = client.send("POST", "/transactions", "application/json", body).await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_behind_links_of_1_mbit_a_second_catches_up_with_full_blocks() {
    let mut federation = Federation::prepare_paced("narrow", BLOCK_TIME, |config| {
        config.heartbeat = HeartbeatConfig::default();
    })
    .await;
    // It has the greatest name, so it dials all others.
    let peers = &mut federation.members[3].config.link.peers;
    let wires: Vec<_> =
        peers.iter().map(|peer| ThrottlingProxy::start(peer.address, BYTES_PER_SECOND)).collect();
    for (peer, wire) in peers.iter_mut().zip(&wires) {
        peer.address = wire.address();
    }
    let _others: Vec<_> = (0..3).map(|index| Process::start(&federation, index)).collect();
    let slow = Process::start(&federation, 3);
    for member in &federation.members {
        member.gate_open(4).await;
    }
    let (first, fourth) = (&federation.members[0], &federation.members[3]);
    let filling = tokio::spawn(fill_blocks(Client::new(first.config.ops.address)));
    reaches(fourth, 4).await;
    drop(slow);
    let died_at = height(&first.client).await.expect("a head");
    reaches(first, died_at + MISSED).await;

    let _slow = Process::start(&federation, 3);
    let there = eventually(LONG, "it catches up", async || {
        let (own, others) = (height(&fourth.client).await?, height(&first.client).await?);
        if own + 1 >= others { Ok(own) } else { Err(format!("height {own} of {others}")) }
    })
    .await;
    reaches(fourth, there + 2).await;
    filling.abort();
}
