//! Starts a second process with a member's key, on a copy of its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_node::ops::view::{GateDecision, GateView};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::clock;
use crate::guard::Guardian;
use crate::ports::free_port;
use crate::process::Member;

/// Interval between two polls of the copy.
const LOOK: Duration = Duration::from_millis(50);
/// Text that the copy's reason for halting must contain.
const REASON: &str = "another process holds the key";

/// Starts a copy of `member` on other ports, waits until it halts for the right reason, and kills it. Returns the
/// reason the copy gave, or as an error what it did instead.
pub(crate) async fn beside(
    member: &Member,
    binary: &Path,
    guardian: Option<&mut Guardian>,
    within: Duration,
) -> Result<String, String> {
    let mut twin = copy(member).map_err(|error| format!("it can not be copied: {error}"))?;
    twin.start(binary, guardian).map_err(|error| format!("the copy does not start: {error}"))?;
    let outcome = halts(&mut twin, within).await;
    // Errors are ignored: the copy may have ended by itself, and its outcome is known by now.
    let _ = twin.send_kill();
    let _ = twin.gone().await;
    outcome
}

fn copy(member: &Member) -> io::Result<Member> {
    let home = member.config.parent().ok_or(io::ErrorKind::NotFound)?;
    let other = home.with_extension("twin");
    let _ = fs::remove_dir_all(&other);
    copy_directory(home, &other)?;
    let config = other.join(member.config.file_name().ok_or(io::ErrorKind::NotFound)?);
    let mut table: toml::Table = toml::from_str(&fs::read_to_string(&config)?).map_err(io::Error::other)?;
    let ports =
        [free_port(), free_port()].map(|port| port.map(|(_, address)| address).map_err(io::Error::other));
    let [link, ops] = ports;
    let (link, ops) = (link?, ops?);
    for (section, field, address) in [("link", "listen", link), ("ops", "address", ops)] {
        if let Some(section) = table.get_mut(section).and_then(toml::Value::as_table_mut) {
            section.insert(field.to_owned(), address.to_string().into());
        }
    }
    fs::write(&config, toml::to_string(&table).map_err(io::Error::other)?)?;
    Ok(Member::new(&format!("{}.twin", member.name), config, other.join("node.log"), ops, link))
}

/// Copies a directory while its files are being written.
fn copy_directory(from: &Path, to: &PathBuf) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            match fs::copy(entry.path(), &target) {
                // The member replaced the file in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => drop(copied?),
            }
        }
    }
    Ok(())
}

async fn halts(twin: &mut Member, within: Duration) -> Result<String, String> {
    let begun = clock::instant();
    let mut seen = "it did not answer".to_owned();
    while begun.elapsed() < within {
        if let Some(how) = twin.ended() {
            return if how.contains(REASON) { Ok(how) } else { Err(how) };
        }
        let client = twin.client.clone();
        let asked = spawn_blocking(move || client.get::<GateView>("/federation/gate")).await;
        match asked.map_err(|panic| panic.to_string())? {
            Ok(gate) if gate.decision == GateDecision::Closed && gate.reason.contains(REASON) => {
                return Ok(gate.reason);
            }
            Ok(gate) => seen = format!("its gate: {}", gate.reason),
            Err(how) => seen = how,
        }
        sleep(LOOK).await;
    }
    Err(format!("within {within:?} it did not halt; {seen}"))
}
