//! The `log` import, and whatever else a guest prints.

use std::sync::{Arc, atomic::Ordering};

use tracing::Level;

use super::{
    bindings::balancer::sluice::plugin::{log, types},
    instance::State,
    version::Identity,
};
use crate::model::{Clock, InstantUs};

/// Lines that one instance may log in a second (WIT `log`); the rest is counted.
const LINES_PER_SECOND_MAX: u32 = 100;

/// Longest line, in bytes. What is longer is cut, and ends in `…`.
const LINE_BYTES_MAX: usize = 4 << 10;

const SECOND_US: InstantUs = 1_000_000;

/// One instance's lines, on their way into the gateway's log.
pub(super) struct LogLines {
    identity: Arc<Identity>,
    service: Box<str>,
    clock: Clock,
    /// The second that is counted, by its begin.
    second_us: InstantUs,
    written: u32,
    dropped: u32,
}

impl LogLines {
    pub fn new(identity: Arc<Identity>, service: &str, clock: Clock) -> Self {
        Self { identity, service: service.into(), clock, second_us: 0, written: 0, dropped: 0 }
    }

    pub fn write(&mut self, level: Level, line: &str) {
        let now_us = self.clock.now_us();
        if now_us.saturating_sub(self.second_us) >= SECOND_US {
            self.second_us = now_us;
            self.written = 0;
            self.tell_dropped();
        }
        if self.written < LINES_PER_SECOND_MAX {
            self.written += 1;
            self.emit(level, &printable(line, LINE_BYTES_MAX));
        } else {
            self.dropped = self.dropped.saturating_add(1);
            self.identity.usage.log_lines_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let message = format!("{dropped} lines dropped: more than {LINES_PER_SECOND_MAX} in a second");
            self.emit(Level::WARN, &message);
        }
    }

    fn emit(&self, level: Level, message: &str) {
        let Identity { plugin, id, .. } = &*self.identity;
        let service = &*self.service;
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(%plugin, version = %id, service, "{message}")
            };
        }
        match level {
            Level::ERROR => event!(error),
            Level::WARN => event!(warn),
            Level::INFO => event!(info),
            Level::DEBUG | Level::TRACE => event!(debug),
        }
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        self.tell_dropped();
    }
}

impl<I> log::Host for State<I> {
    fn write(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Error => Level::ERROR,
            log::Level::Warn => Level::WARN,
            log::Level::Info => Level::INFO,
            log::Level::Debug => Level::DEBUG,
        };
        self.log.write(level, &message);
    }
}

impl<I> types::Host for State<I> {}

/// A guest's text as one line of at most about `bytes_max` bytes, without characters that would forge another line
/// or colour a terminal. What is longer is cut, and ends in `…`.
pub(super) fn printable(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    let mut line = text[..end].replace(char::is_control, " ");
    if end < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_of_bounded_length() {
        assert_eq!(printable("a\nb\u{1b}[31mc", 100), "a b [31mc");
        let long = printable(&"ü".repeat(LINE_BYTES_MAX), LINE_BYTES_MAX);
        assert!(long.len() <= LINE_BYTES_MAX + '…'.len_utf8(), "{}", long.len());
        assert!(long.ends_with('…'));
        assert_eq!(printable(&"x".repeat(LINE_BYTES_MAX), LINE_BYTES_MAX).len(), LINE_BYTES_MAX);
    }
}
