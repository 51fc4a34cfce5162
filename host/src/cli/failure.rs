//! How a command fails: an exit code, one clear line, and every problem on a line of its own.

use std::{fmt::Display, process::ExitCode};

use serde_json::{Value, json};

use crate::config::ConfigErrors;

/// What the exit code says. Part of the command line's contract; [`EXIT_CODES`] documents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// What was given is wrong: flags, a configuration, a component, settings. Nothing was tried. clap exits with
    /// the same.
    WrongInput = 2,
    /// Nobody answers at the control address.
    Unreachable = 3,
    /// The gateway said no, and changed nothing.
    Refused = 4,
}

pub(super) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  it was tried and failed (an address in use, a build with errors, …)
  2  what was given is wrong (flags, configuration, component, settings); nothing was tried
  3  no gateway answers at the control address
  4  the gateway refused, and changed nothing";

/// Why a command did not do what it should.
#[derive(Debug)]
pub(super) struct Failure {
    pub exit: Exit,
    /// For stderr: the first says what failed, the others why.
    lines: Vec<String>,
    /// For `--json`.
    json: Value,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Display) -> Self {
        let message = message.to_string();
        Self { exit, json: json!({"error": message}), lines: vec![format!("sluice: {message}")] }
    }

    /// With one line for each problem below the message.
    pub fn with_problems(exit: Exit, message: impl Display, problems: Vec<String>, json: Value) -> Self {
        let mut failure = Self::new(exit, message);
        failure.lines.extend(problems.into_iter().map(|problem| format!("  {problem}")));
        failure.json = json;
        failure
    }

    /// With what had been done before it.
    pub fn after(mut self, done: impl Display) -> Self {
        self.lines.push(format!("  {done}"));
        if let Value::Object(json) = &mut self.json {
            json.insert("before".to_owned(), done.to_string().into());
        }
        self
    }

    /// What failed, in a sentence.
    pub fn first_line(&self) -> &str {
        self.lines.first().map_or("", |line| line.trim_start_matches("sluice: "))
    }

    /// Tells the user, and gives the process' exit code.
    pub fn report(&self, as_json: bool) -> ExitCode {
        for line in &self.lines {
            eprintln!("{line}");
        }
        if as_json {
            println!("{}", self.json);
        }
        ExitCode::from(self.exit as u8)
    }
}

/// A wrong configuration: its problems are lines that need nothing around them, and a list in JSON.
impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let lines = errors.to_string().lines().map(str::to_owned).collect();
        Self { exit: Exit::WrongInput, lines, json: json!(errors.problems()) }
    }
}
