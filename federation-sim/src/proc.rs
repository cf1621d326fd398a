//! What `/proc` says of a process.

/// A process as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// `R` running, `S` sleeping, `T` stopped, `Z` ended but not waited for, …
    pub(crate) state: char,
    /// When it started, in ticks since boot: with the pid it names one process for ever, for pids are used
    /// again.
    pub(crate) started: u64,
}

impl Stat {
    /// Reads a process's state, if it is there.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields follow the command's name, which is in parentheses and may itself hold some (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?.chars().next()?;
        // The state is field 3 of the manual, the start time field 22.
        Some(Self { state, started: fields.nth(18)?.parse().ok()? })
    }

    /// Whether SIGSTOP has taken effect.
    pub(crate) fn is_stopped(self) -> bool {
        self.state == 'T'
    }
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
    fn this_process_is_there_and_runs() {
        let stat = Stat::of(std::process::id()).expect("this process is there");
        assert!(!stat.is_stopped() && stat.started > 0, "{stat:?}");
    }
}
