//! What the operating system says of this process, as Prometheus' client libraries name it.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// None where the system has no `/proc`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessFigures {
    pub resident_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub open_files: Option<u64>,
    pub cpu_seconds: f64,
}

impl ProcessFigures {
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident_bytes: status_field(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: status_field(&status, "Threads:"),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        }
    }
}

/// Memory that the process has in RAM; none where the system has no `/proc`.
pub fn resident_bytes() -> Option<u64> {
    ProcessFigures::read().resident_bytes
}

/// The first number after `name` in the form of proc_pid_status(5).
fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_status_file() {
        let status = "Name:\tsluice\nVmPeak:\t 9 kB\nVmRSS:\t    5120 kB\nThreads:\t7\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(5120));
        assert_eq!(status_field(status, "Threads:"), Some(7));
        assert_eq!(status_field(status, "VmSwap:"), None);
    }
}
