//! A pool of workers that come and go under a dynamic supervisor: each handles one job and ends, one of them crashes.
//!
//! `cargo run -p alys-cluster --example pool`

use std::time::Duration;

use alys_cluster::prelude::*;

/// Squares a number.
struct Square(i32);

impl Request for Square {
    type Reply = i32;
}

/// Handles one job, then ends.
struct Worker;

impl Actor for Worker {
    type Msg = Call<Square>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Call<Square>>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: SelfRef<Call<Square>>,
        job: Call<Square>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let number = job.request.0;
        job.reply(number.checked_mul(number).ok_or_else(|| format!("{number} squared is no i32"))?);
        myself.stop(None);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = System::new("example");
    let root = system.supervisor("root").start().await?;
    let pool = root.start_supervisor(root.supervisor("pool").dynamic()).await?;
    for number in [2, 3, i32::MAX, 5] {
        let worker =
            pool.child(&format!("worker-{}", number.unsigned_abs()), || Worker).temporary().spawn().await?;
        match worker.call(Square(number)).timeout(Duration::from_secs(1)).await {
            Ok(square) => println!("{number} squared is {square}"),
            Err(error) => println!("{number} could not be squared: {error}"),
        }
    }
    // Temporary children that ended are forgotten.
    while pool.count_children().await?.specs > 0 {
        tokio::task::yield_now().await;
    }
    println!("the pool is empty");
    root.stop_all(Duration::from_secs(5)).await?;
    Ok(())
}
