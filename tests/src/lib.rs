//! What the cross-package tests share. The tests themselves are one binary, `tests/main.rs`, with a module
//! for each question.
//!
//! [`eventually`] waits for a condition instead of a guess of how long something takes. [`federation`] runs
//! four members in this process, over real loopback connections. [`client`] asks a member what anyone may ask
//! it: its HTTP; [`collector`] takes its traces, [`raw`] sends what a decent client would not. [`process`] is a member that is a process, [`schema`] says
//! whether JSON is what a document says it is. [`byzantine_peer`] is a member that turned, [`tampering_proxy`] a wire that did, [`throttling_proxy`] one that
//! passes little. [`tree`] puts actors that do as they are told under the real supervisor. [`source`] reads the workspace's sources as the layer test sees them.
//! [`wire`] links two members without sockets.

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

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds what it looks for, and returns that.
///
/// The deadline only keeps a failing test from hanging: nothing is claimed about speed. It follows tokio's
/// clock, so that on a paused runtime it costs no time.
///
/// # Panics
///
/// With `what`, and what was seen last, if the deadline passes first.
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

/// `Ok` if `holds`, else what was seen instead: the common answer of a look.
pub fn seen(holds: bool, otherwise: impl Display) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_string()) }
}

/// Says that a test can not run here, and why, in one line that `.ci/run` finds: past the capture of tests that pass.
///
/// # Panics
///
/// If `ALYS_CI_STRICT` is 1: then nothing may be left out.
pub fn skip(why: &str) {
    assert!(std::env::var_os("ALYS_CI_STRICT").is_none_or(|value| value != "1"), "{why}");
    // Where nobody reads it, nobody misses it.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
