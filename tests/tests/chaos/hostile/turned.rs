//! Tests a Byzantine member: its identity is authenticated, its messages are not trustworthy.

use std::time::Duration;

use alys_cluster::transport::Lane;
use alys_cluster::transport::envelope::Body;
use alys_cluster::transport::frame::Kind;
use alys_node::ops::view::LinksView;
use alys_tests::byzantine_peer::{ByzantinePeer, RawPeer, RawSession, envelope, framed, header, roster_of};
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Calm, garbage, tells, told};

/// Three working members, and a Byzantine peer with the key of the fourth.
async fn without_the_fourth(tag: &str) -> (Federation, ByzantinePeer) {
    let mut federation = Federation::prepare(tag, |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    for member in &federation.members[..3] {
        member.gate_open(3).await;
    }
    let turned = ByzantinePeer::of(&federation, 3);
    (federation, turned)
}

/// Starts the honest fourth member and waits until all are linked.
async fn comes_back(mut federation: Federation) {
    federation.start_member(3).await;
    for member in &federation.members {
        member.linked().await;
        member.gate_open(4).await;
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn frames_that_a_member_may_not_send_end_its_connection_with_the_reason_and_nobody_else_s() {
    let (federation, turned) = without_the_fourth("frames").await;
    let calm = Calm::of(&federation, &[0, 1, 2]).await;
    let target = &federation.members[0];
    let large = Kind::Envelope.body_max() as u32 + 2;
    let hello = turned.hello().encode();
    let many = framed(Kind::Control, &[0; 4_096]).repeat(128);
    for (what, bytes, reason) in [
        (
            "an unknown kind",
            [&2u32.to_be_bytes()[..], &[9, 1]].concat(),
            "a frame of kind 9; expected 0 to 6",
        ),
        ("an empty frame", vec![0; 4], "an empty frame; expected a kind and a body"),
        ("a length of 2^62", (1u64 << 62).to_be_bytes().to_vec(), "frame size too big"),
        ("a length one above the limit", header(large, Kind::Envelope), "frame size too big"),
        (
            "a ping of nine bytes",
            header_and(10, Kind::Ping, &[0; 9]),
            "a Ping frame of 9 bytes; expected at most 8",
        ),
        ("random bytes", garbage(3, 4_096), "frame size too big"),
        ("a second greeting", framed(Kind::Hello, &hello), "it greeted twice"),
        ("a flood of control", many, "it sends control faster than"),
    ] {
        // On a busy machine, a session that is not ready in time may end the connection before the bytes are read.
        eventually(SOON, what, async || {
            let mut voice = RawSession::of(turned.meets(target).await);
            // The connection may be closed before everything is written.
            let _ = voice.says(&bytes).await;
            seen(voice.is_closed().await, "it is not closed")?;
            told(target, "link_refused", &["frames-node-4", reason]).await
        })
        .await;
    }

    // Before the hello, only the bytes of a hello are accepted.
    for (bytes, reason) in [
        (framed(Kind::Envelope, &[1]), "it sent Envelope before its greeting"),
        (header(2_000, Kind::Hello), "its greeting can not be read"),
        (framed(Kind::Hello, &[0xff; 40]), "its greeting can not be read"),
        (vec![], "it did not authenticate in time"),
    ] {
        let mut stream = turned.proves(target).await;
        stream.write_all(&bytes).await.expect("it listens");
        stream.flush().await.expect("it listens");
        let closed = tokio::time::timeout(Duration::from_secs(5), async {
            while stream.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0) {}
        });
        closed.await.expect("it is closed in time");
        tells(target, "link_refused", &[reason]).await;
    }

    // A thousand incomplete frames: each connection replaces the one before.
    let mut last = None;
    for length in 0..1_000u32 {
        let mut voice = RawSession::of(turned.meets(target).await);
        let _ = voice.says(&header_and(1_000 + length, Kind::Envelope, &[7; 100])).await;
        last = Some(voice);
    }
    assert!(last.expect("a thousand").is_closed().await, "the last one is closed for its silence");
    calm.holds(&federation).await;
    comes_back(federation).await;
}

fn header_and(length: u32, kind: Kind, body: &[u8]) -> Vec<u8> {
    [&header(length, kind)[..], body].concat()
}

async fn refused(member: &Member, peer: &str) -> Result<u64, String> {
    let view: LinksView = member.client.get("/federation/links").await?;
    let link = view.links.into_iter().find(|link| link.peer == peer);
    link.map(|link| link.refused).ok_or_else(|| format!("no link to {peer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn envelopes_that_nobody_takes_are_counted_told_at_a_bounded_rate_and_disturb_nobody() {
    let (federation, turned) = without_the_fourth("envelopes").await;
    let calm = Calm::of(&federation, &[0, 1, 2]).await;
    let target = &federation.members[0];
    let guest = turned.meets(target).await;
    let puppet = RawPeer::of(&turned, guest, &turned.name).await;
    eventually(SOON, "the session stands", async || seen(puppet.is_ready(), "not yet")).await;
    let mut sent = 0;
    let mut round = 0u64;
    let flood = 50_000;
    while sent < flood {
        round += 1;
        let to: &'static [u8] =
            [&b"root"[..], b"chain", b"consensus", b"no/such/actor", b"\xff\xfe"][(round % 5) as usize];
        let payload = garbage(round, 40).into();
        match puppet.connection.send(Lane::Bulk, Body::Tell { to: to.into(), payload }) {
            Ok(()) => sent += 1,
            Err(error) => panic!("after {sent}: {error}"),
        }
        if round.is_multiple_of(32) {
            // The Byzantine peer's own queue is bounded as well.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    tells(target, "link_refused", &["envelopes-node-4", "takes nothing from outside"]).await;
    eventually(SOON, "they are counted", async || {
        let refused = refused(target, "envelopes-node-4").await?;
        seen(refused > flood / 10, format!("{refused} refused"))
    })
    .await;
    assert!(puppet.connection.ended().is_none(), "what nobody takes ends no connection");
    puppet.leaves().await;

    // Undecodable bytes, and an unknown kind of envelope. Events may be suppressed for a moment because of the flood.
    for (body, reason) in [
        (vec![0xff; 64], "an envelope can not be read"),
        (envelope(77, b"chain", b""), "an envelope of kind 77; expected 1 to 7"),
    ] {
        let bytes = framed(Kind::Envelope, &body).repeat(200);
        eventually(SOON, reason, async || {
            let mut voice = RawSession::of(turned.meets(target).await);
            voice.says(&bytes).await;
            told(target, "link_refused", &["envelopes-node-4", reason]).await
        })
        .await;
    }
    calm.holds(&federation).await;
    comes_back(federation).await;
}

/// A remote actor is created for every actor that a peer announces; only the link limits their number.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_shows_a_hundred_thousand_actors_is_cut_off_whether_it_hurries_or_not() {
    const TOO_FAST: &str = "it sends control faster than";
    const TOO_MANY: &str = "actors; expected at most";
    let (federation, turned) = without_the_fourth("roster").await;
    let calm = Calm::of(&federation, &[0, 1, 2]).await;
    let target = &federation.members[0];
    // On a slow machine, the count limit may be reached before the rate limit.
    for (batch, reasons) in [(2_000, &[TOO_FAST, TOO_MANY][..]), (100, &[TOO_MANY])] {
        let puppet = RawPeer::of(&turned, turned.meets(target).await, &turned.name).await;
        eventually(SOON, "the session stands", async || seen(puppet.is_ready(), "not yet")).await;
        let mut shown = 1_000_000;
        eventually(SOON, "it is cut off", async || {
            if shown < 1_100_000 {
                puppet.adds(roster_of(shown..shown + batch));
                shown += batch;
            }
            seen(puppet.connection.ended().is_some(), format!("{shown} shown"))
        })
        .await;
        eventually(SOON, "the reason is told", async || {
            for reason in &reasons[1..] {
                if told(target, "link_refused", &["roster-node-4", reason]).await.is_ok() {
                    return Ok(());
                }
            }
            told(target, "link_refused", &["roster-node-4", reasons[0]]).await
        })
        .await;
        puppet.leaves().await;
    }
    calm.holds(&federation).await;
    comes_back(federation).await;
}

/// `ractor_cluster` keeps one session per claimed name, whatever certificate the link has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_tells_ractor_cluster_another_s_name_ends_nobody_s_session() {
    let (federation, turned) = without_the_fourth("claim").await;
    let calm = Calm::of(&federation, &[0, 1, 2]).await;
    let target = &federation.members[0];
    let claimed = federation.members[2].name.clone();
    for _ in 0..16 {
        let puppet = RawPeer::of(&turned, turned.meets(target).await, &claimed).await;
        eventually(SOON, "it is shown out", async || {
            seen(puppet.connection.ended().is_some(), format!("authenticated {}", puppet.is_authenticated()))
        })
        .await;
        puppet.leaves().await;
    }
    tells(target, "link_refused", &["claim-node-4", "it tells ractor_cluster that it is", "claim-node-3"])
        .await;
    calm.holds(&federation).await;
    comes_back(federation).await;
}
