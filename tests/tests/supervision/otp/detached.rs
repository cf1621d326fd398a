//! Tests children that unlinked themselves from their supervisor: it is not notified of their exits, and still stops
//! them.

use super::*;

const SHUTDOWNS: [Shutdown; 3] =
    [Shutdown::Infinity, Shutdown::Within(Duration::from_millis(500)), Shutdown::BrutalKill];

/// A child that unlinked itself from its supervisor.
async fn detached(prefix: &str, shutdown: Shutdown) -> (Stage, Root, ScriptedActor) {
    let stage = Stage::new(prefix);
    let x = stage.puppet("x");
    let root = raise(&stage, OneForOne, 3, vec![stage.child(&x).shutdown(shutdown)]).await;
    stage.cell("x").unlink(root.actor.clone());
    (stage, root, x)
}

#[tokio::test(start_paused = true)]
async fn a_detached_child_is_stopped_and_its_stop_is_answered() {
    for shutdown in SHUTDOWNS {
        let (stage, root, x) = detached(&format!("otp-detached-{shutdown:?}"), shutdown).await;
        let stopping = tokio::time::timeout(secs(5), root.face.stop_child(x.address.name())).await;
        assert_eq!(stopping.map(told), Ok("done".to_owned()), "{shutdown:?}");
        assert_eq!(standing(&root.face).await, "x stopped", "{shutdown:?}");
        assert_eq!(stage.context.tree.take_killed(), [], "{shutdown:?}: it stopped in time");
        let stopped = if shutdown == Shutdown::BrutalKill { "" } else { " -x1" };
        assert_eq!(story(&stage), format!("+x1{stopped}"), "{shutdown:?}");
        root.face.start_stopped(x.address.name()).await.expect("it starts again");
        root.stop().await;
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_had_ended_by_itself_is_not_said_to_resist() {
    for shutdown in SHUTDOWNS {
        let (stage, root, x) = detached(&format!("otp-gone-{shutdown:?}"), shutdown).await;
        let mut events = stage.context.events.listen();
        x.order(Order::End);
        shortly().await;
        assert_eq!(standing(&root.face).await, "x running", "{shutdown:?}: nobody told its supervisor");
        let stopping = tokio::time::timeout(secs(5), root.face.stop_child(x.address.name())).await;
        assert_eq!(stopping.map(told), Ok("done".to_owned()), "{shutdown:?}");
        assert_eq!(stage.context.tree.take_killed(), [], "{shutdown:?}");
        while let Ok(recorded) = events.try_recv() {
            let told = recorded.event.to_string();
            assert!(!told.contains("does not even yield"), "{shutdown:?}: {told}");
        }
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_killed_at_its_deadline_and_one_that_is_restarted_by_hand_comes_back() {
    let stage = Stage::new("otp-detached-hangs");
    let x = stage.puppet("x").clinging();
    let root = raise(&stage, OneForOne, 3, vec![stage.child(&x).shutdown(Shutdown::Within(ms(500)))]).await;
    stage.cell("x").unlink(root.actor.clone());
    let origin = stage.context.clock.now();
    root.face.restart_child(x.address.name()).await.expect("it is killed, and starts again");
    assert_eq!(stage.context.clock.now().since(origin), ms(500));
    assert_eq!(stage.context.tree.take_killed(), [x.address.name().clone()]);
    assert_eq!(x.who().await, Ok(2));
    root.stop().await;
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_ends_takes_its_detached_children_with_it() {
    for shutdown in SHUTDOWNS {
        let (stage, root, _) = detached(&format!("otp-detached-end-{shutdown:?}"), shutdown).await;
        root.stop().await;
        nobody_left(&stage).await;
    }
}
