//! Tests the command line from a user's view. No test starts a federation.

use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Output, Stdio};

fn simulator(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_federation-sim"));
    command.args(arguments).output().expect("the simulator runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn scenarios_are_listed_and_shown() {
    let list = simulator(&["scenario", "list"]);
    assert!(list.status.success());
    for name in ["gating", "healthy", "partition", "rolling-restart", "all-crash"] {
        assert!(text(&list.stdout).contains(name), "{name}");
        let checked = simulator(&["scenario", "check", name]);
        assert!(checked.status.success() && text(&checked.stdout).contains("\n   1  "), "{checked:?}");
        let shown = simulator(&["scenario", "show", name]);
        assert!(text(&shown.stdout).contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn a_wrong_command_line_or_scenario_is_a_usage_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("story.toml");
    std::fs::write(&file, "name = 'story'\nsteps = [{ do = 'kill', members = ['node-7'] }]").expect("a file");
    let file = file.display().to_string();
    let table: [(&[&str], &str); 6] = [
        (&["run", "gaiting"], "scenario is \"gaiting\"; expected one of "),
        (&["run", &file], "`steps[0]` names \"node-7\"; expected one of node-1"),
        (&["scenario", "check", "gaiting"], "scenario is \"gaiting\"; expected one of "),
        (&["scenario", "show", "gaiting"], "scenario is \"gaiting\"; expected one of "),
        (&["run", "--seed", "many"], "many"),
        (&["run", "--timeout", "soon"], "soon"),
    ];
    for (arguments, part) in table {
        let output = simulator(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_can_not_be_set_up_is_no_failed_scenario() {
    let output = simulator(&["run", "healthy", "--node-binary", "/nowhere/alys-node"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("/nowhere/alys-node; expected an executable"));

    let occupied = tempfile::tempdir().expect("a directory");
    std::fs::write(occupied.path().join("thing"), "").expect("a file");
    let directory = occupied.path().display().to_string();
    let output = simulator(&["run", "healthy", "--node-binary", "/bin/false", "--dir", &directory]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("is not empty; expected a new or an empty one"));
}

#[test]
fn a_member_that_does_not_come_up_is_told_with_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run").display().to_string();
    let output = simulator(&["run", "healthy", "--node-binary", "/bin/false", "--dir", &path, "--seed", "7"]);
    assert_eq!(output.status.code(), Some(4));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("node-1 did not come up: exit code 1"), "{complaint}");
    assert!(complaint.contains(&path), "{complaint}");
}

/// Path of a saved report.
const SAVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/testdata/gating.json");

#[test]
fn a_saved_report_becomes_a_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let page = directory.path().join("out.html");
    let output = simulator(&["report", SAVED, "--output", &page.display().to_string()]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&page).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let (_, data) = page.split_once("<script type=\"application/json\" id=\"run\">").expect("the data");
    let (data, _) = data.split_once("</script>").expect("its end");
    let saved = std::fs::read_to_string(SAVED).expect("the report");
    let reports =
        [data, &saved].map(|json| federation_sim::report::Report::from_json(json).expect("a report"));
    assert_eq!(reports[0], reports[1]);
}

#[test]
fn what_is_no_report_or_can_not_be_written_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let other = directory.path().join("other.json");
    std::fs::write(&other, "{\"version\": 7}").expect("a file");
    let other = other.display().to_string();
    let nowhere = directory.path().join("nowhere/out.html").display().to_string();
    let page = directory.path().join("out.html").display().to_string();
    let table: [(&[&str], i32, &str); 4] = [
        (&["report", &other, "--output", &page], 2, "is no report of `federation-sim run --output json`"),
        (&["report", "/nowhere/run.json", "--output", &page], 4, "report /nowhere/run.json: "),
        (&["report", SAVED, "--output", &nowhere], 4, &nowhere),
        // Reported before the run starts: the node could not start.
        (&["run", "healthy", "--node-binary", "/bin/false", "--report", &nowhere], 4, &nowhere),
    ];
    for (arguments, code, part) in table {
        let output = simulator(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let complaint = text(&output.stderr);
        assert!(
            complaint.contains(part) && !complaint.contains("did not come up"),
            "{arguments:?}: {complaint}"
        );
    }
    assert!(!std::path::Path::new(&page).exists(), "nothing is left of a page that was not made");
}

/// Waits until the process has blocked SIGINT (signal 2, the second bit of the kernel's signal mask).
fn blocks_interrupts(pid: u32) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let blocks = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        Some(u64::from_str_radix(mask.trim(), 16).ok()? & 0b10 != 0)
    };
    while blocks() != Some(true) {
        assert!(std::time::Instant::now() < until, "the guardian never blocks SIGINT");
        std::thread::yield_now();
    }
}

#[test]
fn the_guardian_ignores_ctrl_c_and_kills_who_is_left_when_the_simulator_is_gone() {
    let mut sleeper = Command::new("sleep").arg("1000").spawn().expect("sleep is there");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sleeper.id())).expect("it runs");
    let started = stat.split_whitespace().nth(21).expect("a start time").to_owned();

    let mut guardian = Command::new(env!("CARGO_BIN_EXE_federation-sim"));
    let mut guardian =
        guardian.arg("guard").stdin(Stdio::piped()).process_group(0).spawn().expect("the guardian runs");
    let mut pipe = guardian.stdin.take().expect("a pipe");
    writeln!(pipe, "{} {started}", sleeper.id()).expect("the guardian listens");
    blocks_interrupts(guardian.id());
    let interrupted = Command::new("kill").args(["-INT", &guardian.id().to_string()]).status();
    assert!(interrupted.is_ok_and(|status| status.success()));
    assert!(sleeper.try_wait().expect("waits").is_none());

    drop(pipe);
    assert!(guardian.wait().expect("the guardian ends").success());
    assert_eq!(sleeper.wait().expect("the sleeper ends").signal(), Some(9));
}
