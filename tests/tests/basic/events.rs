//! Tests that a stream of events is complete or reports how many events were missed, and that it does not delay the
//! member.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alys_cluster::event::ClusterEvent;
use alys_cluster::id::{ActorName, BlockHeight};
use alys_node::ops::view::{EventView, Lagged};
use alys_node::ops::{KEEP_ALIVE, STREAMS_MAX};
use alys_tests::federation::{Federation, SOON};
use alys_tests::raw::{Raw, ask, send, send_narrowly};
use alys_tests::{eventually, seen, skip};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    id: String,
    kind: String,
    data: String,
    comment: String,
}

impl Told {
    /// Sequence number in the event's id.
    fn number(&self) -> u64 {
        self.id
            .split_once('-')
            .and_then(|(_, number)| number.parse().ok())
            .unwrap_or_else(|| panic!("{self:?}"))
    }
}

/// A stream of events over HTTP/1.0, which has no chunked encoding.
struct Stream(BufReader<TcpStream>);

fn request(last: Option<&str>) -> String {
    let last = last.map(|last| format!("last-event-id: {last}\r\n")).unwrap_or_default();
    format!("GET /events HTTP/1.0\r\naccept: text/event-stream\r\n{last}\r\n")
}

impl Stream {
    async fn open(address: SocketAddr, last: Option<&str>) -> Self {
        Self::of(send(address, request(last).as_bytes()).await).await
    }

    /// Reads the header of the response.
    async fn of(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(SOON, stream.read_line(&mut head)).await.expect("a head").expect("it is text");
            assert!(read > 0, "the connection ended after {head:?}");
        }
        let answer = Raw::parse(head.as_bytes());
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"), "{answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store");
        Self(stream)
    }

    /// Reads the next event or comment; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Told> {
        let mut told = Told::default();
        loop {
            let mut line = String::new();
            let read = timeout(SOON, self.0.read_line(&mut line)).await.expect("something is told");
            if read.unwrap_or(0) == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            let Some((field, value)) = line.split_once(':') else {
                assert!(line.is_empty(), "a field, or the end of an event: {line:?}");
                return Some(told);
            };
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "id" => told.id = value,
                "event" => told.kind = value,
                "data" => told.data = value,
                "" => told.comment = value,
                "retry" => {}
                other => panic!("{other:?} in {line:?}"),
            }
        }
    }

    /// Reads the next event, skipping comments.
    async fn event(&mut self) -> Told {
        loop {
            let told = self.next().await.expect("the stream goes on");
            if told.comment.is_empty() {
                return told;
            }
        }
    }
}

async fn alone(tag: &str) -> (Federation, SocketAddr) {
    let mut federation = Federation::prepare(tag, |_| {}).await;
    federation.start_member(0).await;
    let address = federation.members[0].config.ops.address;
    (federation, address)
}

/// Emits one event per height.
fn happen(federation: &Federation, heights: std::ops::Range<u64>) {
    let events = &federation.members[0].node().context().events;
    heights
        .for_each(|height| events.tell(ClusterEvent::RoundStarted { height: BlockHeight(height), round: 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_tells_what_happens_and_goes_on_where_it_was() {
    let (federation, address) = alone("sse").await;
    let mut stream = Stream::open(address, None).await;
    assert_eq!(stream.next().await.expect("a greeting").comment, "events of this member follow");
    happen(&federation, 500..510);
    let mut told = Vec::new();
    while told.iter().filter(|told: &&Told| told.data.contains("height 50")).count() < 10 {
        told.push(stream.event().await);
    }
    for pair in told.windows(2) {
        assert_eq!(pair[1].number(), pair[0].number() + 1, "{pair:?}");
    }
    // The list contains the same events.
    let listed: Vec<EventView> = federation.members[0].client.get("/events").await.expect("a list");
    for event in &told {
        let view: EventView = serde_json::from_str(&event.data).expect("an event");
        assert_eq!(view.kind, event.kind);
        assert!(listed.contains(&view), "{view:?} is in the list");
    }
    drop(stream);
    // Events during a disconnection are sent after the reconnect, from the last received id on.
    happen(&federation, 600..603);
    let mut back = Stream::open(address, Some(&told[4].id)).await;
    for expected in &told[5..] {
        assert_eq!(back.event().await, *expected);
    }
    let mut heights = Vec::new();
    while heights.len() < 3 {
        let event = back.event().await;
        heights.extend(event.data.contains("height 60").then_some(event));
    }
    drop(back);
    // A client whose last id is from another incarnation restarts from the beginning.
    let incarnation = federation.members[0].node().context().incarnation.0;
    let mut anew = Stream::open(address, Some(&format!("{}-7", incarnation - 1))).await;
    let first = anew.event().await;
    let lagged: Lagged = serde_json::from_str(&first.data).expect("what was missed");
    assert_eq!((first.kind.as_str(), first.number(), lagged.missed), ("lagged", 0, None));
    assert_eq!(anew.event().await.number(), 1);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_are_chosen_by_kind_actor_and_time_and_blocks_do_not_push_failures_out() {
    let (federation, address) = alone("events-chosen").await;
    let member = &federation.members[0];
    let (events, history) = (member.node().context().events.clone(), member.node().context().history.clone());
    let supervisor = ActorName::literal("drill");
    events.tell(ClusterEvent::SupervisorGaveUp { supervisor, reason: "of a drill".to_owned() });
    for batch in 0..3 {
        let before = history.last();
        happen(&federation, batch * 1_000..(batch + 1) * 1_000);
        eventually(SOON, "they are remembered", async || {
            seen(history.last() >= before + 1_000, format!("{} of {before} and 1000", history.last()))
        })
        .await;
    }
    let get = async |query: &str| -> Vec<EventView> {
        member.client.get(&format!("/events{query}")).await.expect("a list")
    };
    let all = get("").await;
    let gave_up: Vec<_> = all.iter().filter(|event| event.kind == "supervisor_gave_up").collect();
    assert_eq!(gave_up.len(), 1, "3,000 rounds later it is listed");
    assert_eq!(
        (&gave_up[0].fields["supervisor"], &gave_up[0].fields["reason"]),
        (&"drill".into(), &"of a drill".into())
    );
    for query in ["?kind=supervisor_gave_up", "?actor=drill", "?kind=supervisor_gave_up&actor=dr*&since=10m"]
    {
        assert_eq!(get(query).await, [gave_up[0].clone()], "{query}");
    }
    assert_eq!(get(&format!("?kind=supervisor_gave_up&since={}", gave_up[0].at_ms + 1)).await, []);
    assert!(get("?kind=round_started").await.iter().all(|event| event.fields["round"] == 0));
    for (query, part) in [
        ("kind=restarted", "`kind` is \"restarted\"; expected child_started"),
        ("knid=round_started", "query parameter `knid`"),
        ("since=tomorrow", "`since` is \"tomorrow\""),
    ] {
        let refused = ask(address, "GET", &format!("/events?{query}"), &[], "").await;
        assert_eq!(refused.complaint(400, "/events", &[part]), None);
    }
    // A stream with a filter gets only matching events.
    let query = "GET /events?kind=supervisor_gave_up HTTP/1.0\r\naccept: text/event-stream\r\n\r\n";
    let mut stream = Stream::of(send(address, query.as_bytes()).await).await;
    happen(&federation, 0..500);
    let supervisor = ActorName::literal("drill");
    events.tell(ClusterEvent::SupervisorGaveUp { supervisor, reason: "again".to_owned() });
    let told = stream.event().await;
    assert_eq!(told.kind, "supervisor_gave_up");
    assert!(told.data.contains("again"), "{told:?}");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_are_bounded_and_those_on_which_nothing_happens_show_that_they_live() {
    let (federation, address) = alone("sse-many").await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(Stream::open(address, None).await);
    }
    let accept = [("accept", "text/event-stream")];
    let refused = ask(address, "GET", "/events", &accept, "").await;
    assert_eq!(refused.complaint(503, "/events", &["16 streams of events are open already"]), None);
    assert_eq!(refused.header("retry-after"), "5");
    let listed: Vec<EventView> = federation.members[0].client.get("/events").await.expect("a list");
    assert!(!listed.is_empty(), "the list is there for everybody");
    // `HEAD` opens no stream.
    let head = ask(address, "HEAD", "/events", &accept, "").await;
    assert_eq!(head.status, 503);

    // A closed stream is detected on the next write and frees its slot.
    let mut stays = streams.pop().expect("a stream");
    drop(streams);
    happen(&federation, 1..2);
    eventually(SOON, "there is room again", async || {
        let head = ask(address, "HEAD", "/events", &accept, "").await;
        seen(head.status == 200, format!("{head:?}"))
    })
    .await;
    let until = Instant::now() + 4 * KEEP_ALIVE;
    loop {
        let told = stays.next().await.expect("the stream goes on");
        if told.comment == "still here" {
            break;
        }
        assert!(Instant::now() < until, "it shows that it lives");
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_is_slow_costs_nobody_anything_and_learns_how_much_it_has_missed() {
    let (federation, address) = alone("sse-slow").await;
    let member = &federation.members[0];
    let history = member.node().context().history.clone();
    let stream = send_narrowly(address, request(None).as_bytes()).await;
    let mut fast = Stream::open(address, None).await;
    let follows = tokio::spawn(async move {
        let mut numbers = Vec::new();
        while let Some(told) = fast.next().await {
            numbers.extend((!told.id.is_empty()).then(|| told.number()));
        }
        numbers
    });
    // Far more events than the history and the sockets hold; each batch waits until the log has kept up.
    let began = Instant::now();
    for batch in 0..40 {
        let before = history.last();
        happen(&federation, batch * 1_000..(batch + 1) * 1_000);
        eventually(SOON, "they are written down", async || {
            seen(history.last() >= before + 1_000, format!("{} of {before} and 1000", history.last()))
        })
        .await;
        assert_eq!(member.client.status("/livez").await, Ok(200));
    }
    println!("40,000 events with a reader that does not read: {:?}", began.elapsed());
    let mut slow = Stream::of(stream).await;
    let (mut last, mut missed) = (None, 0);
    while last.is_none_or(|last| last < history.last()) {
        let told = slow.event().await;
        if told.kind == "lagged" {
            let lagged: Lagged = serde_json::from_str(&told.data).expect("what was missed");
            let count = lagged.missed.expect("it is known");
            assert_eq!(told.number(), last.map_or(told.number(), |last| last + count));
            missed += count;
        } else {
            assert!(last.is_none_or(|last| told.number() == last + 1), "{told:?} after {last:?}");
        }
        last = Some(told.number());
    }
    assert!(missed > 1_000, "{missed} were missed");
    federation.stop().await;
    // Neither reader lost events silently: the fast one got its events in order up to the end of the stream.
    let numbers = follows.await.expect("it ends");
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn open_streams_do_not_hold_up_a_shutdown_and_tell_of_it() {
    let (federation, address) = alone("sse-end").await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(Stream::open(address, None).await);
    }
    // This stream is never read.
    let deaf = send_narrowly(address, request(None).as_bytes()).await;
    let began = Instant::now();
    federation.stop().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "less than its deadline: {took:?}");
    for mut stream in streams {
        let mut kinds = Vec::new();
        while let Some(told) = stream.next().await {
            kinds.push(told.kind);
        }
        assert!(kinds.contains(&"shutdown_changed".to_owned()), "{kinds:?}");
    }
    drop(deaf);
}

/// Whether another stream of events could be opened.
async fn has_room(address: SocketAddr) -> Result<(), String> {
    let head = ask(address, "HEAD", "/events", &[("accept", "text/event-stream")], "").await;
    seen(head.status == 200, format!("{head:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_that_nobody_reads_are_given_up_and_make_room() {
    let (federation, address) = alone("sse-deaf").await;
    let mut reads = Stream::open(address, None).await;
    let mut deaf = Vec::new();
    for _ in 1..STREAMS_MAX {
        deaf.push(Stream::of(send_narrowly(address, request(None).as_bytes()).await).await);
    }
    assert!(has_room(address).await.is_err());
    let (first, follows) = tokio::sync::oneshot::channel();
    let reader = tokio::spawn(async move {
        let mut first = Some(first);
        while let Some(told) = reads.next().await {
            if told.data.contains("999999")
                && let Some(first) = first.take()
            {
                let _ = first.send(());
            }
        }
    });
    // Once the socket buffers are full, the write timeout starts.
    eventually(Duration::from_mins(1), "they are given up", async || {
        happen(&federation, 0..100);
        has_room(address).await
    })
    .await;
    // A stream that is read stays open.
    happen(&federation, 999_999..1_000_000);
    timeout(SOON, follows).await.expect("it follows").expect("it is told the last event");
    drop(deaf);
    federation.stop().await;
    reader.await.expect("it ends with the member");
}

/// A network namespace connected to this one by a single cable; removed when dropped.
struct Network {
    name: String,
    cable: String,
}

impl Network {
    /// Address of this end of the cable, from the range for benchmarks, which is not routed (RFC 2544).
    const HERE: &str = "198.18.77.1";

    fn lay() -> Option<Self> {
        let name = format!("alys-{}", std::process::id());
        let network = Self { cable: format!("{name}-a"), name };
        let (own, cable) = (network.name.as_str(), network.cable.as_str());
        let far = format!("{own}-b");
        let is_laid = ip(&["netns", "add", own])
            && ip(&["link", "add", cable, "type", "veth", "peer", "name", &far, "netns", own])
            && ip(&["address", "add", &format!("{}/30", Self::HERE), "dev", cable])
            && ip(&["link", "set", cable, "up"])
            && ip(&["-n", own, "address", "add", "198.18.77.2/30", "dev", &far])
            && ip(&["-n", own, "link", "set", &far, "up"]);
        is_laid.then_some(network)
    }

    /// Requests events from within the namespace and reads them as long as they arrive.
    fn follow(&self, port: u16) -> Follower {
        let asks = format!("exec 3<>/dev/tcp/{}/{port}", Self::HERE);
        let request = r"printf 'GET /events HTTP/1.0\r\naccept: text/event-stream\r\n\r\n' >&3";
        let script = format!("{asks}; {request}; exec cat <&3");
        let mut follow = Command::new("ip");
        follow.args(["netns", "exec", &self.name, "bash", "-c", &script]);
        let follow = follow.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Follower(follow.expect("it starts"))
    }

    fn pull_the_cable(&self) {
        assert!(ip(&["-n", &self.name, "link", "set", &format!("{}-b", self.name), "down"]), "it is pulled");
    }
}

/// A process that reads events; killed when dropped.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.cable]);
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let output = Command::new("ip").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_whose_cable_is_pulled_is_given_up_and_makes_room() {
    let Some(network) = Network::lay() else {
        return skip("no network of its own can be made here, so that no cable can be pulled");
    };
    let mut federation = Federation::prepare("sse-cable", |config| {
        config.ops.address.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
        config.ops.expose = true;
    })
    .await;
    federation.start_member(0).await;
    let port = federation.members[0].config.ops.address.port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut streams = Vec::new();
    for _ in 1..STREAMS_MAX {
        streams.push(Stream::open(address, None).await);
    }
    has_room(address).await.expect("for one more");
    let mut far = network.follow(port);
    eventually(SOON, "the far one takes the last place", async || {
        seen(has_room(address).await.is_err(), "there is room")
    })
    .await;
    network.pull_the_cable();
    // Only keep-alives are sent, and none is acknowledged.
    eventually(2 * SOON, "it is given up", async || has_room(address).await).await;
    assert!(matches!(far.0.try_wait(), Ok(None)), "the far one knows nothing of it");
    drop(streams);
    federation.stop().await;
}
