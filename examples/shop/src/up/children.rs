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

/// A child that ended by itself is started again after this: long enough to see that it is missing.
const RESTART_AFTER: Duration = Duration::from_secs(10);

/// In the order in which they were started; killed if dropped before they have ended.
#[derive(Debug, Default)]
pub(super) struct Children(Vec<Member>);

#[derive(Debug)]
struct Member {
    name: String,
    command: Command,
    child: Child,
    /// Without it nothing works.
    is_needed: bool,
    ended: Option<Instant>,
}

impl Children {
    /// The end of one that `is_needed` ends everything; another is started again.
    pub fn start(&mut self, name: &str, mut command: Command, is_needed: bool) -> anyhow::Result<()> {
        // In a group of its own, so that the terminal's Ctrl-C reaches only the launcher, which ends the
        // children in order.
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let child = child.with_context(|| format!("cannot start {name}: {command:?}"))?;
        self.0.push(Member { name: name.to_owned(), command, child, is_needed, ended: None });
        Ok(())
    }

    pub fn pid(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|member| member.name == name).map(|member| member.child.id())
    }

    /// Waits until a GET is answered as `look` wants it.
    pub async fn await_answer<T>(&mut self, url: &str, look: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let begun = Instant::now();
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(1))).proxy(None).build().into();
        loop {
            let body = agent.get(url).call().and_then(|mut answer| answer.body_mut().read_to_string());
            if let Some(found) = body.ok().and_then(|body| look(&body)) {
                return Ok(found);
            }
            for member in &mut self.0 {
                if let Some(status) = member.child.try_wait()? {
                    bail!("{} ended by itself: {status}", member.name);
                }
            }
            if begun.elapsed() > READY_TIMEOUT {
                bail!("{url} did not answer as it should within {READY_TIMEOUT:?}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Starts again what ends; returns when one that is needed does.
    pub async fn keep_alive(&mut self) -> anyhow::Result<()> {
        loop {
            for member in &mut self.0 {
                member.look_after()?;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends them, the last started first.
    pub async fn end(&mut self) {
        while let Some(Member { name, mut child, .. }) = self.0.pop() {
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
}

impl Member {
    fn look_after(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let Some(ended) = self.ended else {
            if self.is_needed {
                bail!("{} ended by itself: {status}", self.name);
            }
            eprintln!("{} ended ({status}); it is started again in {} s", self.name, RESTART_AFTER.as_secs());
            self.ended = Some(Instant::now());
            return Ok(());
        };
        if ended.elapsed() >= RESTART_AFTER {
            self.child = self.command.spawn().with_context(|| format!("cannot start {} again", self.name))?;
            self.ended = None;
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for Member { child, .. } in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
