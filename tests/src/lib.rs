//! Shared helpers of the cross-package tests. The tests themselves are one binary, `tests/main.rs`, with one module per
//! topic.
//!
//! [`eventually`] waits for a condition instead of for a guessed duration. [`federation`] runs four members in this
//! process, over real loopback connections; [`process`] runs a member as a process of its own. [`client`] sends HTTP
//! requests to a member, [`raw`] sends malformed ones, [`collector`] receives traces, and [`schema`] validates JSON
//! against an OpenAPI document. [`byzantine_peer`] is a Byzantine member, [`tampering_proxy`] a proxy that changes
//! bytes, [`throttling_proxy`] a slow proxy, and [`wire`] a link between two members without sockets. [`tree`] runs
//! scripted actors under the real supervisor. [`source`] reads the workspace's sources for the layer test.

pub mod byzantine_peer;
pub mod client;
pub mod collector;
pub mod federation;
pub mod process;
pub mod raw;
pub mod schema;
pub mod slow_disk;
pub mod source;
pub mod tampering_proxy;
pub mod throttling_proxy;
pub mod tree;
pub mod wire;

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Interval between two polls.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Calls `look` repeatedly until it returns `Ok`, and returns the value.
///
/// The deadline only keeps a failing test from hanging; it does not test performance. It follows tokio's clock, so on a
/// paused runtime it costs no time.
///
/// # Panics
///
/// If the deadline passes first; the message contains `what` and the last error.
pub async fn eventually<T, E: Display>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let until = Instant::now() + deadline;
    let mut seen = "nothing, for the first look did not end".to_owned();
    loop {
        match timeout_at(until, look()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(other)) => seen = other.to_string(),
            Err(_) => {}
        }
        assert!(Instant::now() < until, "not within {deadline:?}: {what}; last seen: {seen}");
        sleep(LOOK_EVERY).await;
    }
}

/// `Ok` if `holds`, else `otherwise` as the error: a typical result for [`eventually`].
pub fn seen(holds: bool, otherwise: impl Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_string()) }
}

/// Reports that a test cannot run here, and why, in one line that `.ci/run` finds. It bypasses the capture of the
/// output of passing tests.
///
/// # Panics
///
/// If `ALYS_CI_STRICT` is 1: then no test may be skipped.
pub fn skip(why: &str) {
    assert!(std::env::var_os("ALYS_CI_STRICT").is_none_or(|value| value != "1"), "{why}");
    // A closed standard error is ignored.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
