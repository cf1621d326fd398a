//! Two processes, linked by a pre-shared key: one calls an actor of the other, kills the process, and is told.
//!
//! `cargo run -p alys-cluster --example linked`

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use alys_cluster::prelude::*;

/// Requests to the greeter.
struct Greetings;

impl Protocol for Greetings {
    const NAME: &'static str = "greetings/1";
    type Request = String;
    type Reply = String;
}

/// Greets by name.
struct Greet(String);

impl Request for Greet {
    type Reply = String;
}

struct Greeter;

impl Actor for Greeter {
    type Msg = Call<Greet>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Call<Greet>>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: SelfRef<Call<Greet>>,
        call: Call<Greet>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let greeting = format!("hello {}, says process {}", call.request.0, std::process::id());
        call.reply(greeting);
        Ok(())
    }
}

const SOON: Duration = Duration::from_secs(10);

fn key() -> Identity {
    Identity::PreSharedKey(b"no secret: it is in the source".to_vec())
}

/// The process that is called, and killed.
async fn serve(own: SocketAddr, caller: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let system = System::new("bob");
    let root = system.supervisor("root").start().await?;
    let greeter = root.child("greeter", || Greeter).spawn().await?;
    let name = greeter.name().clone();
    let serve = move |_from: NodeId, who: String| {
        let greeter = greeter.clone();
        async move { greeter.call(Greet(who)).await.map_err(|error| error.to_string()) }
    };
    let builder = Cluster::builder().name("bob").listen(own).peer("alice", caller).identity(key());
    let _cluster = builder.export::<Greetings, _>(&name, serve).start(&system).await?;
    std::future::pending().await
}

async fn call(own: SocketAddr, callee: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let system = System::new("alice");
    let cluster = Cluster::builder()
        .name("alice")
        .listen(own)
        .peer("bob", callee)
        .identity(key())
        .start(&system)
        .await?;
    let mut bob = Command::new(std::env::current_exe()?)
        .args([callee.to_string(), cluster.address().to_string()])
        .spawn()?;
    let (peer, name) = (NodeId::new("bob")?, ActorName::literal("greeter"));
    // The other process is linked, and has shown its actors, a moment after its start.
    let greeter = cluster.wait_for::<Greetings>(&peer, &name, SOON).await?;
    println!("{}", greeter.call(SOON, "alice".to_owned()).await?);
    let monitor = greeter.monitor()?;
    bob.kill()?;
    bob.wait()?;
    println!("told: {}", tokio::time::timeout(SOON, monitor.down()).await?);
    cluster.stop().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [own, caller] = &arguments[..] {
        return serve(own.parse()?, caller.parse()?).await;
    }
    let free = || SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let callee = std::net::TcpListener::bind(free())?.local_addr()?;
    call(free(), callee).await
}
