//! `sluice events tail`.

use std::{
    io::{BufReader, Write, stdout},
    thread,
    time::Duration,
};

use serde_json::value::RawValue;

use super::{Shown, flags::TailFlags, not_understood, path, server_sent::ServerSentEvents};
use crate::cli::{
    client::Client,
    failure::{Exit, Failure},
    output::Output,
};

/// Before it connects again: about what a gateway's restart takes.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Until it is interrupted, or `--limit` events have come. A connection that is lost is made again, behind the event that came
/// last.
pub(super) fn tail(client: &Client, flags: &TailFlags, as_json: bool) -> Result<Output, Failure> {
    let after = flags.after.map_or_else(|| "end".to_owned(), |after| after.to_string());
    let path = path(&flags.which, &format!("after={after}"));
    let mut printer = Printer { as_json, left: flags.limit };
    // Empty until the gateway has said where this begins.
    let mut last_event_id = String::new();
    loop {
        let resumed = Some(last_event_id.as_str()).filter(|id| !id.is_empty());
        let lost = match client.follow(&path, resumed) {
            Ok(body) => {
                let mut events = ServerSentEvents::new(BufReader::new(body), last_event_id);
                let lost = loop {
                    match events.next() {
                        Ok(Some(event)) if printer.print(&event.data)? => return Ok(Output::nothing()),
                        Ok(Some(_)) => {}
                        Ok(None) => break "the gateway has ended it".to_owned(),
                        Err(error) => break error.to_string(),
                    }
                };
                last_event_id = events.last_event_id().to_owned();
                lost
            }
            // What was never there, or says no, will not change by asking again.
            Err(failure) if last_event_id.is_empty() || failure.exit == Exit::Refused => return Err(failure),
            Err(failure) => failure.first_line().to_owned(),
        };
        eprintln!("sluice: connecting again, as the connection is lost: {lost}");
        thread::sleep(RETRY_PAUSE);
    }
}

struct Printer {
    as_json: bool,
    left: Option<u64>,
}

impl Printer {
    /// Whether it was the last that is wanted.
    fn print(&mut self, event: &str) -> Result<bool, Failure> {
        let raw: &RawValue = serde_json::from_str(event).map_err(|error| not_understood(&error))?;
        let line = if self.as_json {
            raw.get().replace(['\n', '\r'], " ")
        } else {
            Shown::of(raw)?.columns().join("  ").trim_end().to_owned()
        };
        let mut stdout = stdout().lock();
        let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        written.map_err(|error| Failure::new(Exit::Failed, format_args!("stdout: {error}")))?;
        self.left = self.left.map(|left| left - 1);
        Ok(self.left == Some(0))
    }
}
