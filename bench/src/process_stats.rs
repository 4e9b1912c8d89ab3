//! What a process has used, as the Linux kernel counts it in `/proc`.

use std::fs;

/// Ticks a second in `/proc/PID/stat`: `USER_HZ`, which is 100 on every architecture that Linux and Rust share.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessStats {
    /// User and system time of all its threads, in seconds. Not that of its children.
    pub(crate) cpu_seconds: f64,
    /// The most memory it ever had resident, in bytes (`VmHWM`).
    pub(crate) peak_memory: u64,
    /// What it has resident now, in bytes (`VmRSS`).
    pub(crate) memory: u64,
}

impl ProcessStats {
    /// Of a process; `None` where there is no such process or no `/proc`.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            cpu_seconds: cpu_seconds(&stat)?,
            peak_memory: bytes(&status, "VmHWM:")?,
            memory: bytes(&status, "VmRSS:")?,
        })
    }

    /// Of this process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }
}

/// Fields 14 and 15 of `stat` (proc(5)), counted behind the command's name, which may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 9 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
    }

    #[test]
    fn this_process_has_used_something() {
        let own = ProcessStats::own().unwrap();
        assert!(own.peak_memory > 100_000);
        assert_eq!(ProcessStats::of(u32::MAX), None);
    }
}
