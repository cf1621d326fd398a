//! A counter panics on 13 and is restarted by its supervisor; callers keep the same address.
//!
//! `cargo run -p alys-cluster --example supervised`

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::SystemClock;
use alys_cluster::event::EventBus;
use alys_cluster::id::ActorName;
use alys_cluster::supervision::{Context, EnhancedSupervision, SupervisedActorConfig, SupervisorSpec};
use ractor::{ActorProcessingErr, RpcReplyPort};

/// Adds a number and answers with the sum.
type Add = (u64, RpcReplyPort<u64>);

struct Counter;

impl Actor for Counter {
    type Msg = Add;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: SelfRef<Self::Msg>,
        message: Self::Msg,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let (number, reply) = message;
        assert!(number != 13, "13 is bad luck");
        *sum += number;
        Ok(reply.send(*sum)?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = Arc::new(SystemClock::default());
    let events = EventBus::new(clock.clone());
    let mut heard = events.listen();
    let spec = SupervisorSpec::new(ActorName::new("root")?, Vec::new());
    let (supervision, ended) =
        EnhancedSupervision::start(spec, Context::new("example", clock, events)).await?;
    let config = SupervisedActorConfig::new(ActorName::new("counter")?);
    let counter = supervision.spawn_supervised(config, || (Counter, ())).await?;
    for number in [1, 2, 13, 3] {
        match counter.call(Duration::from_secs(1), |reply| (number, reply)).await {
            Ok(sum) => println!("added {number}: the sum is {sum}"),
            Err(error) => {
                println!("could not add {number}: {error}");
                // Adding 0 waits until the counter has restarted.
                counter.call_retrying(Duration::from_secs(1), |reply| (0, reply)).await?;
            }
        }
    }
    supervision.stop();
    ended.await?;
    while let Ok(recorded) = heard.try_recv() {
        println!("- {}", recorded.event);
    }
    Ok(())
}
