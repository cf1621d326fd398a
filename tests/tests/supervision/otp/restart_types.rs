//! Tests which children restart after which exit.

use super::*;

#[tokio::test(start_paused = true)]
async fn each_type_answers_each_exit_under_each_strategy() {
    for group in GROUPS {
        for restart in [Permanent, Transient, Temporary] {
            for exit in Exit::ALL {
                let case = format!("{}-{}-{exit:?}", group.as_str(), restart.as_str());
                let stage = Stage::new(&format!("otp-types-{case}"));
                let [a, x, c] = ["a", "x", "c"].map(|name| stage.puppet(name));
                let children = vec![stage.child(&a), stage.child(&x).restart(restart), stage.child(&c)];
                let root = raise(&stage, group, 1, children).await;
                exit.befall(&x);
                settle().await;

                // Only a graceful stop runs `post_stop`.
                let end = if exit == Exit::End { " -x1" } else { "" };
                let comes_back = restart == Permanent || restart == Transient && exit != Exit::End;
                let (follows, rest, stands) = match (comes_back, group) {
                    (true, OneForOne) => (" +x2", " -c1 -x2 -a1", "a running, x running, c running"),
                    (true, RestForOne) => (" -c1 +x2 +c2", " -c2 -x2 -a1", "a running, x running, c running"),
                    (true, OneForAll) => {
                        (" -c1 -a1 +a2 +x2 +c2", " -c2 -x2 -a2", "a running, x running, c running")
                    }
                    (false, _) if restart == Temporary => ("", " -c1 -a1", "a running, c running"),
                    (false, _) => ("", " -c1 -a1", "a running, x stopped, c running"),
                };
                assert_eq!(standing(&root.face).await, stands, "{case}");
                root.stop().await;
                assert_eq!(story(&stage), format!("+a1 +x1 +c1{end}{follows}{rest}"), "{case}");
                nobody_left(&stage).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cycle_drops_temporary_siblings_and_starts_transient_ones_that_had_ended() {
    for (group, story_of_cycle, stands) in [
        (OneForAll, "-v1 -u1 -t1 +e2 +x2 +r2 +v2", "e running, x running, r running, v running"),
        (RestForOne, "-v1 -u1 +x2 +r2 +v2", "t running, e stopped, x running, r running, v running"),
    ] {
        let stage = Stage::new(&format!("otp-siblings-{}", group.as_str()));
        let puppets = ["t", "e", "x", "u", "r", "v"].map(|name| stage.puppet(name));
        let [_, e, x, u, r, _] = &puppets;
        let types = [Temporary, Transient, Permanent, Temporary, Transient, Transient];
        let spec = |(puppet, restart)| stage.child(puppet).restart(restart);
        let children = puppets.iter().zip(types).map(spec).collect();
        let root = raise(&stage, group, 1, children).await;
        e.order(Order::End);
        shortly().await;
        r.order(Order::End);
        shortly().await;
        x.order(Order::Panic);
        settle().await;
        let before = "+t1 +e1 +x1 +u1 +r1 +v1 -e1 -r1";
        assert_eq!(story(&stage), format!("{before} {story_of_cycle}"), "{group:?}");
        assert_eq!(standing(&root.face).await, stands, "{group:?}");
        // Its specification is dropped, so the name is free.
        root.face.start_child(stage.child(u)).await.expect("the name is free");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_whose_restart_by_hand_failed_is_not_brought_back_by_a_cycle() {
    let stage = Stage::new("otp-temporary-by-hand");
    let a = stage.puppet("a");
    let t = stage.puppet("t").starting(Start::Fails { after: 1, times: 1 });
    let children = vec![stage.child(&a), stage.child(&t).restart(Temporary)];
    let root = raise(&stage, OneForAll, 1, children).await;
    let failed = root.face.restart_child(t.address.name()).await;
    assert_eq!(told(failed), "child t failed to start: start 2 fails on purpose");
    a.order(Order::Panic);
    settle().await;
    assert_eq!(story(&stage), "+a1 +t1 -t1 !t2 +a2");
    root.stop().await;
}
