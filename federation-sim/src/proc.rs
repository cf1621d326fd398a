//! Reads process and connection state from `/proc`.

/// State of a process from `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// `R` running, `S` sleeping, `T` stopped, `Z` zombie, …
    pub(crate) state: char,
    /// Start time in clock ticks since boot. Together with the pid it identifies a process uniquely, because pids are
    /// reused.
    pub(crate) started: u64,
}

impl Stat {
    /// Reads the state of a process; `None` if it does not exist.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name is in parentheses and may itself contain parentheses; all other fields follow it (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?.chars().next()?;
        // In proc(5), the state is field 3 and the start time is field 22.
        Some(Self { state, started: fields.nth(18)?.parse().ok()? })
    }

    /// Whether SIGSTOP has taken effect.
    pub(crate) fn is_stopped(self) -> bool {
        self.state == 'T'
    }
}

/// Resident memory of a process, in bytes; `None` if the process does not exist.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1_024)
}

/// Established IPv4 connections to one of `ports`, of any process: the dialled port of each connection.
pub(crate) fn established(ports: &[u16]) -> std::io::Result<Vec<u16>> {
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    Ok(table.lines().skip(1).filter_map(local_port).filter(|port| ports.contains(port)).collect())
}

/// Local port of an established connection, from a line of `/proc/net/tcp` (proc(5)).
fn local_port(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    (state == "01").then(|| u16::from_str_radix(local.split(':').nth(1)?, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_skipped() {
        let text = "42 (a) b (c) T 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(Stat::parse(text), Some(Stat { state: 'T', started: 777 }));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(resident_bytes(0), None);
    }

    #[test]
    fn established_connections_are_told_by_their_local_port() {
        let line =
            |state: &str| format!("  1: 0100007F:1F90 0100007F:C350 {state} 00000000:00000000 00:0 0 0 7");
        assert_eq!((local_port(&line("01")), local_port(&line("0A"))), (Some(8_080), None));
    }

    #[test]
    fn this_process_is_there_and_runs() {
        let stat = Stat::of(std::process::id()).expect("this process is there");
        assert!(!stat.is_stopped() && stat.started > 0, "{stat:?}");
    }
}
