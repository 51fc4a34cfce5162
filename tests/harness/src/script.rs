//! Clients from another hand: a script that does one thing with a running gateway and exits with 0 where all holds.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::wait::{DEADLINE, wait_for};

/// Of a whole script: an interpreter's start and many steps, each of which has a deadline of its own.
const SCRIPT_DEADLINE: Duration = DEADLINE.saturating_mul(4);

/// Runs it to its end; panics with what it says where its checks fail. What it printed otherwise.
#[track_caller]
pub fn run_script(interpreter: &Path, script: &Path, args: &[&str], environment: &[(&str, &Path)]) -> String {
    let mut command = Command::new(interpreter);
    command.arg(script).args(args).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = EndedWhenDropped(command.spawn().expect("the interpreter starts"));
    let mut stdout = child.0.stdout.take().expect("piped above");
    let mut stderr = child.0.stderr.take().expect("piped above");
    let read = |pipe: &mut dyn Read| {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("a script prints text");
        text
    };
    thread::scope(|scope| {
        // Within the scope, so that a script that hangs is ended before its readers are waited for.
        let mut child = child;
        let said = scope.spawn(move || read(&mut stdout));
        let complained = scope.spawn(move || read(&mut stderr));
        let status = wait_for("the script's end", SCRIPT_DEADLINE, || child.0.try_wait().expect("a child"));
        let said = said.join().expect("reading does not panic");
        let complained = complained.join().expect("reading does not panic");
        assert!(status.success(), "{}: {status}\n{said}{complained}", script.display());
        said
    })
}

struct EndedWhenDropped(Child);

impl Drop for EndedWhenDropped {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
