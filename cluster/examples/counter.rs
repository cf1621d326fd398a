//! A supervised counter that panics on 13, and is restarted under the address its callers hold.
//!
//! `cargo run -p alys-cluster --example counter`

use std::time::Duration;

use alys_cluster::prelude::*;

/// Adds a number; the reply is the sum.
#[derive(Clone, Copy)]
struct Add(u64);

impl Request for Add {
    type Reply = u64;
}

struct Counter;

impl Actor for Counter {
    type Msg = Call<Add>;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Call<Add>>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: SelfRef<Call<Add>>,
        call: Call<Add>,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        let Add(number) = call.request;
        assert!(number != 13, "13 is bad luck");
        *sum += number;
        call.reply(*sum);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = System::new("example");
    let mut events = system.context().events.listen();
    let root = system.supervisor("root").one_for_one().intensity(3, Duration::from_secs(10)).start().await?;
    let backoff = Backoff { initial_delay: Duration::from_millis(20), ..Backoff::default() };
    let counter = root.child("counter", || Counter).permanent().backoff(backoff).spawn().await?;
    for number in [1, 2, 13, 3] {
        match counter.call(Add(number)).timeout(Duration::from_secs(1)).await {
            Ok(sum) => println!("added {number}: the sum is {sum}"),
            Err(error) => {
                println!("could not add {number}: {error}");
                // Adding nothing may be asked twice: it waits until the counter is back.
                counter.call(Add(0)).retrying().await?;
            }
        }
    }
    println!("{}", root.stop_all(Duration::from_secs(5)).await?.note()?);
    while let Ok(recorded) = events.try_recv() {
        println!("- {}", recorded.event);
    }
    Ok(())
}
