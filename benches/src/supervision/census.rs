//! Measures the memory and the start and stop time of thousands of actors. Each measurement runs in a process of its
//! own, because freed memory is not returned to the operating system.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use super::tree::{Bare, Ledger, Supervised, Tree, Way, run};

/// Environment variable with the measurement that this process is to take: the kind of workers and their number.
const ORDER: &str = "ALYS_BENCH_CENSUS";

/// Kind of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Workers under the real supervisor.
    Supervised,
    /// Workers under a bare ractor parent.
    Bare,
}

/// Result of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Census {
    /// Time to start all workers one after the other.
    pub started_in: Duration,
    /// Time to stop all workers and their supervisor.
    pub stopped_in: Duration,
    /// Memory of the process with a supervisor and no workers, in kB.
    pub empty_kb: u64,
    /// Memory of the process with all workers, in kB.
    pub full_kb: u64,
    /// Number of workers that ended with their `post_stop`.
    pub orderly_ends: u64,
}

impl Census {
    /// Memory per worker of `count` workers, in bytes.
    pub fn bytes_each(&self, count: usize) -> f64 {
        self.full_kb.saturating_sub(self.empty_kb) as f64 * 1_024.0 / count as f64
    }
}

/// Resident memory of this process, in kB.
pub fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

async fn count<T: Tree>(count: usize) -> Census {
    let ledger = Ledger::new();
    let tree = T::start("bench-census", &ledger, Way::Fail).await;
    let empty_kb = resident_kb();
    let begun = Instant::now();
    for n in 0..count {
        tree.spawn(n).await;
    }
    let started_in = begun.elapsed();
    let full_kb = resident_kb();
    let begun = Instant::now();
    tree.stop().await;
    let stopped_in = begun.elapsed();
    Census { started_in, stopped_in, empty_kb, full_kb, orderly_ends: ledger.orderly_ends() }
}

/// Takes the measurement that this process was started for, if any; returns whether it did.
///
/// # Panics
///
/// If the environment variable is malformed.
pub fn obey() -> bool {
    let Ok(order) = env::var(ORDER) else { return false };
    let (who, number) = order.split_once(' ').expect("who and how many");
    let number = number.parse().expect("a number");
    let Census { started_in, stopped_in, empty_kb, full_kb, orderly_ends } = match who {
        "supervised" => run(count::<Supervised>(number)),
        _ => run(count::<Bare>(number)),
    };
    let (started, stopped) = (started_in.as_nanos(), stopped_in.as_nanos());
    println!("{started} {stopped} {empty_kb} {full_kb} {orderly_ends}");
    true
}

/// Measures `count` workers in a new process of this program.
///
/// # Panics
///
/// If that process fails.
pub fn take(who: Who, count: usize) -> Census {
    let program = env::current_exe().expect("this program");
    let name = if who == Who::Supervised { "supervised" } else { "bare" };
    let output = Command::new(program).env(ORDER, format!("{name} {count}")).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [started, stopped, empty_kb, full_kb, orderly_ends] = numbers[..] else {
        panic!("a census of {count} {name} failed: {text} {}", String::from_utf8_lossy(&output.stderr));
    };
    let (started_in, stopped_in) = (Duration::from_nanos(started), Duration::from_nanos(stopped));
    Census { started_in, stopped_in, empty_kb, full_kb, orderly_ends }
}
