//! Servers and clients from another hand: Python programs that are both ends, with the gateway in between.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{
    process::{test_python, workspace_root},
    wait::{DEADLINE, wait_for},
};

/// A running script of `tests/python`: its server is up, its client waits to hear where the gateway is.
#[derive(Debug)]
pub struct PythonPeer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl PythonPeer {
    /// None where the script's packages are missing, and the test is to be skipped.
    pub fn start(script: &str, check: &str) -> Option<Self> {
        let python = test_python()?;
        let mut command = Command::new(python);
        command.arg(workspace_root().join("tests/python").join(script)).arg(check);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the test's Python starts");
        let input = child.stdin.take().expect("piped above");
        let mut output = BufReader::new(child.stdout.take().expect("piped above"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the script's output is text");
        let port = line.trim().parse::<u16>();
        let port = port.unwrap_or_else(|_| panic!("{script} does not say its port: {}", rest_of(&mut child)));
        Some(Self { child, input, output, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }

    /// Where the script's server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the script's client go through the gateway; panics with what it says where its check fails.
    pub fn check_through(mut self, gateway: SocketAddr) {
        writeln!(self.input, "{gateway}").expect("the script reads the gateway's address");
        let child = &mut self.child;
        // Its calls have deadlines of their own.
        let status = wait_for("the script's end", DEADLINE * 2, || child.try_wait().expect("a child"));
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("the script's output is text");
        assert!(status.success(), "{status}\n{said}{}", rest_of(&mut self.child));
    }
}

impl Drop for PythonPeer {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rest_of(child: &mut Child) -> String {
    let _ = child.kill();
    let mut text = String::new();
    let stderr = child.stderr.as_mut().expect("piped above");
    stderr.read_to_string(&mut text).expect("the script's errors are text");
    text
}
