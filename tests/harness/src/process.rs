//! What a test asks the operating system.

use std::{env, fs, path::PathBuf, process::Command};

use rustix::process::{Pid, Resource, getrlimit, setrlimit};

/// Resident memory of a process, in bytes.
pub fn rss_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS")
}

/// Largest resident memory since the process began, or since [`reset_peak_rss`].
pub fn peak_rss_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM")
}

/// Sets the peak back to what is resident now (proc(5), `clear_refs`).
pub fn reset_peak_rss(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("one's own child may be asked");
}

/// CPU time of all threads of a process, user and system, in clock ticks of 10 ms.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is alive");
    // The name may hold spaces and brackets; the fields are counted from behind its closing one.
    let (_, fields) = stat.rsplit_once(')').expect("proc(5): the name stands in brackets");
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok()).expect("proc(5): utime and stime");
    next() + next()
}

/// Gives every thread of a process this niceness (on Linux each has its own).
pub fn renice(pid: u32, niceness: i32) {
    for thread in threads(pid) {
        // A thread may have ended meanwhile.
        let _ = rustix::process::setpriority_process(Pid::from_raw(thread), niceness);
    }
}

/// How often the threads of a process have lost the CPU to others although they had something to do.
pub fn involuntary_switches(pid: u32) -> u64 {
    let of_thread = |thread| {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    threads(pid).filter_map(of_thread).sum()
}

/// To as many as this process, and those that it starts, may have at once.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may have what is its own");
}

fn threads(pid: u32) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is alive");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A program that the test needs and the project does not bring: none where it is missing, and then the test
/// is skipped with a line that says so. In CI a missing program fails the test: there the set-up step has
/// installed it, so a skip would hide that it did not.
pub fn third_party(program: &str) -> Option<PathBuf> {
    // Debian keeps servers where a user's PATH does not look.
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    found.or_else(|| missing(program))
}

/// The Python that has the test's packages (`scripts/setup` makes it under `target/`); like [`third_party`].
pub fn test_python() -> Option<PathBuf> {
    let python = env::var_os("SLUICE_TEST_PYTHON")
        .map_or_else(|| workspace_root().join("target/test-venv/bin/python"), PathBuf::from);
    let imports = ["-c", "import grpc, websockets, consul, dtmcli, cloudevents"];
    let complete =
        python.is_file() && Command::new(&python).args(imports).status().is_ok_and(|status| status.success());
    if complete { Some(python) } else { missing("target/test-venv with the packages of tests/requirements.txt") }
}

/// Node, and the folder with the packages that `scripts/setup` installed for it; like [`third_party`].
pub fn test_node() -> Option<(PathBuf, PathBuf)> {
    let packages = workspace_root().join("target/test-node/node_modules");
    if !["cloudevents", "consul", "eventsource"].iter().all(|package| packages.join(package).is_dir()) {
        missing("target/test-node with the packages that scripts/setup names");
        return None;
    }
    third_party("node").map(|node| (node, packages))
}

/// Where the workspace's `Cargo.toml` stands.
pub fn workspace_root() -> PathBuf {
    let harness = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    harness.ancestors().nth(2).expect("the harness is at tests/harness").to_owned()
}

fn missing(what: &str) -> Option<PathBuf> {
    assert!(env::var_os("CI").is_none(), "{what} is missing, and CI may not skip: see scripts/setup");
    eprintln!("skipped: {what} is missing; scripts/setup installs it");
    None
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is alive");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("proc(5): the field in kB") * 1024
}
