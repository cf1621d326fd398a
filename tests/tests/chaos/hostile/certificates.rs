//! Tests peers that present wrong certificates or make wrong claims.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::{Clock as _, SystemClock, WallTime};
use alys_cluster::id::{Incarnation, NodeId};
use alys_cluster::transport::Hello;
use alys_cluster::transport::identity::{self, Issued};
use alys_node::certificate_signer::LinkCertificateSigner;
use alys_node::genesis::Genesis;
use alys_node::keys::SecretKey;
use alys_node::ops::view::FederationView;
use alys_tests::byzantine_peer::{ByzantinePeer, Impostor, RawSession, certificate_of};
use alys_tests::federation::{Federation, SOON, genesis, name};
use alys_tests::{eventually, seen};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Calm, tells};

fn issue(genesis: &Genesis, name: &NodeId, key: SecretKey, now: WallTime) -> Issued {
    let (federation, certificate_signer) =
        (identity::FederationId(genesis.hash()), LinkCertificateSigner::new(genesis, key));
    identity::issue(name, &federation, &certificate_signer, Duration::from_hours(1), now)
        .expect("a certificate")
}

fn key_of(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_does_not_prove_to_be_the_member_it_should_be_is_refused_with_the_reason() {
    let mut federation = Federation::start("certificates", |_| {}).await;
    assert!(federation.members[3].take().stop().await, "it stops in time");
    let calm = Calm::of(&federation, &[0, 1, 2]).await;
    let target = &federation.members[0];
    let address = target.config.link.listen;
    let names: Vec<_> = federation.members.iter().map(|member| member.name.clone()).collect();
    let keys: Vec<_> = (1..=4).map(key_of).collect();
    let other = genesis("another", &names, &keys);
    let own = &federation.genesis;
    let now = SystemClock::default().wall();
    let away = ByzantinePeer::of(&federation, 3);

    let copied = certificate_of(&away.proves(&federation.members[1]).await);
    let stranger_key = issue(own, &names[3], key_of(4), now).key;
    for (impostor, reason) in [
        (Impostor::bare(), "the TLS handshake failed: peer sent no certificates"),
        (Impostor::issued(issue(&other, &names[3], key_of(4), now)), "the certificate is of the federation"),
        (Impostor::issued(issue(own, &names[3], key_of(9), now)), "is not that of certificates-node-4"),
        (
            Impostor::issued(issue(own, &name("zz-nobody"), key_of(4), now)),
            "which is no member of this federation",
        ),
        (Impostor::issued(issue(own, &names[0], key_of(1), now)), "which is this member itself"),
        (Impostor::issued(issue(own, &names[3], key_of(4), WallTime(0))), "the certificate held until"),
        (
            Impostor::showing(copied, stranger_key),
            "the TLS handshake failed: invalid peer certificate: BadSignature",
        ),
        (
            Impostor::issued(issue(own, &names[3], key_of(4), now)).speaking(b"h2"),
            "the TLS handshake failed: peer doesn't support any known protocol",
        ),
    ] {
        let said = impostor.knocks(address).await;
        assert!(said.is_empty(), "{reason}: it was told {said:?}");
        tells(target, "link_refused", &[reason]).await;
    }

    // A stolen member key allows no claim beyond that member's identity.
    let hello = away.hello();
    let stolen = ByzantinePeer::of(&federation, 0);
    for (who, target, hello, reason) in [
        (
            &away,
            0,
            Hello { node: names[2].clone(), ..hello.clone() },
            "it says it is certificates-node-3; its certificate is certificates-node-4's",
        ),
        (&away, 0, Hello { federation: other.hash(), ..hello.clone() }, "it belongs to another federation"),
        (
            &away,
            0,
            Hello { version_min: 3, version_max: 5, ..hello.clone() },
            "it speaks versions 3 to 5 of the link; expected one of 1 to 2",
        ),
        (&stolen, 1, stolen.hello(), "certificates-node-1 is not the member expected on this connection"),
    ] {
        let target = &federation.members[target];
        // The handshake may complete before the rejection arrives.
        if let Ok(guest) = who.greets(target, hello).await {
            assert!(RawSession::of(guest).is_closed().await, "{reason}");
        }
        tells(target, "link_refused", &[reason]).await;
    }
    let refused = away.greets(target, Hello { version_min: 3, version_max: 5, ..hello.clone() }).await;
    let refused = refused.err().expect("no version is common");
    assert!(refused.contains("it speaks versions 1 to 2 of the link"), "{refused}");

    // An earlier incarnation of a member that was linked before.
    let early = Hello { incarnation: Incarnation(1), ..hello };
    let guest = away.greets(target, early).await.expect("it is who it says");
    assert!(RawSession::of(guest).is_closed().await, "it is shown out");
    tells(target, "link_refused", &["incarnation 1 speaks after incarnation"]).await;
    calm.holds(&federation).await;
    federation.start_member(3).await;
    federation.members[3].linked().await;
    federation.stop().await;
}

/// Accepts every connection and closes it.
fn answer_all(listener: &Arc<TcpListener>, who: &ByzantinePeer, hello: Hello) -> JoinHandle<()> {
    let (listener, who) = (listener.clone(), who.clone());
    tokio::spawn(async move {
        loop {
            drop(who.is_met(&listener, hello.clone()).await);
        }
    })
}

/// The reverse direction: members dial a Byzantine peer at a member's address.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_answers_in_place_of_a_member_is_refused_by_those_who_dialled_it() {
    let mut federation = Federation::prepare("answers", |_| {}).await;
    for index in 1..4 {
        federation.start_member(index).await;
    }
    let calm = Calm::of(&federation, &[1, 2, 3]).await;
    let dialler = &federation.members[3];
    let listener =
        TcpListener::bind(federation.members[0].config.link.listen).await.expect("its port is free");
    let listener = Arc::new(listener);

    // Another member, with its own certificate.
    let other = ByzantinePeer::of(&federation, 1);
    let answering = answer_all(&listener, &other, other.hello());
    let expected = "the certificate names answers-node-2; expected answers-node-1, which was dialled";
    tells(dialler, "link_refused", &[expected]).await;
    answering.abort();

    // The member itself with other versions: both sides report the reason.
    let newer = ByzantinePeer::of(&federation, 0);
    let hello = Hello { version_min: 3, version_max: 5, ..newer.hello() };
    eventually(SOON, "it knows why", async || {
        let refused = newer.is_met(&listener, hello.clone()).await.err().unwrap_or_default();
        seen(refused.contains("it speaks versions 1 to 2 of the link; expected one of 3 to 5"), refused)
    })
    .await;
    let answering = answer_all(&listener, &newer, hello);
    tells(dialler, "link_refused", &["answers-node-1", "it speaks versions 3 to 5 of the link"]).await;
    answering.abort();

    // Bytes without TLS.
    let port = listener.clone();
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = port.accept().await {
            let _ = stream.write_all(&[0; 4_096]).await;
        }
    });
    tells(dialler, "link_refused", &["answers-node-1", "the TLS handshake failed"]).await;
    answering.abort();
    // An aborted task has ended once it is awaited.
    let _ = answering.await;
    calm.holds(&federation).await;
    drop(listener);
    federation.start_member(0).await;
    for member in &federation.members {
        member.linked().await;
    }
    federation.stop().await;
}

/// Uses an advanced clock instead of waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn certificates_are_made_anew_in_running_members_without_a_link_lost() {
    let lifetime = Duration::from_mins(1);
    let mut federation =
        Federation::start("rotation", |config| config.link.certificate_lifetime = lifetime).await;
    let calm = Calm::of(&federation, &[0, 1, 2]).await;
    let mut former = Vec::new();
    for member in &federation.members {
        let context = member.node().context();
        former.push(context.trust.certificate_pem().expect("a certificate"));
        let later = WallTime(context.clock.wall().0 + lifetime.as_millis() as u64 / 2 + 1_000);
        // On a busy machine the member may have rotated its certificate itself.
        let made = context.trust.rotate_if_due(later).expect("a new certificate");
        let now = context.trust.certificate_pem().expect("a certificate");
        assert!(made || Some(&now) != former.last(), "{} has a new one", member.name);
        assert_ne!(Some(&now), former.last());
    }
    calm.holds(&federation).await;

    // New connections are shown the new certificate.
    let stopped = federation.members[3].take();
    let away_pem = stopped.context().trust.certificate_pem();
    assert!(stopped.stop().await, "it stops in time");
    let away = ByzantinePeer::of(&federation, 3);
    for (member, former) in federation.members[..3].iter().zip(&former) {
        let shown = certificate_of(&away.proves(member).await);
        let former = identity::from_pem(former.as_bytes()).expect("a certificate");
        assert_ne!(shown, former, "{} shows its new one", member.name);
    }
    federation.start_member(3).await;
    federation.members[3].linked().await;
    assert_ne!(federation.members[3].node().context().trust.certificate_pem(), away_pem);
    calm.holds(&federation).await;
    federation.stop().await;
}

/// Waits in real time: every member renews its certificate by itself within a minute, and no session ends because of
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "waits for half a minute"]
async fn a_certificate_of_a_minute_is_replaced_in_time_by_the_member_itself() {
    let lifetime = Duration::from_mins(1);
    let federation = Federation::start("minute", |config| config.link.certificate_lifetime = lifetime).await;
    let calm = Calm::of(&federation, &[0, 1, 2, 3]).await;
    let pem = |index: usize| federation.members[index].node().context().trust.certificate_pem();
    let former: Vec<_> = (0..4).map(pem).collect();
    eventually(lifetime, "all have new ones", async || {
        let same: Vec<_> = (0..4).filter(|index| pem(*index) == former[*index]).collect();
        seen(same.is_empty(), format!("members {same:?} have the former one"))
    })
    .await;
    calm.holds(&federation).await;
    let view: FederationView =
        federation.members[0].client.get("/federation/status").await.expect("a status");
    assert!(view.links.iter().all(|link| link.state == "up"));
    federation.stop().await;
}
