//! Child processes that end together.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// To be ready; a debug build compiles its plugins in seconds the first time.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// To end after SIGTERM; then a child is killed. Above the gateway's own grace for the requests of a demo.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// How often children and readiness are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// In the order in which they were started; killed if dropped before they have ended.
#[derive(Debug, Default)]
pub(super) struct Children(Vec<(String, Child)>);

impl Children {
    pub fn start(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        // In a group of its own, so that the terminal's Ctrl-C reaches only the launcher, which ends the
        // children in order.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        self.0.push((name.to_owned(), child.with_context(|| format!("cannot start {name}: {command:?}"))?));
        Ok(())
    }

    /// Waits until a GET answers 200.
    pub async fn await_answer(&mut self, url: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(1))).proxy(None).build().into();
        while agent.get(url).call().is_err() {
            self.all_alive()?;
            if begun.elapsed() > READY_TIMEOUT {
                bail!("{url} did not answer within {READY_TIMEOUT:?}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// None should: the one that does is the error.
    pub async fn await_an_end(&mut self) -> anyhow::Result<()> {
        loop {
            self.all_alive()?;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends them, the last started first.
    pub async fn end(&mut self) {
        while let Some((name, mut child)) = self.0.pop() {
            // It may have ended by itself; then there is nobody to tell.
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let begun = Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                if begun.elapsed() > END_TIMEOUT {
                    eprintln!("{name} does not end within {END_TIMEOUT:?}: killed");
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }

    fn all_alive(&mut self) -> anyhow::Result<()> {
        for (name, child) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended by itself: {status}");
            }
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
