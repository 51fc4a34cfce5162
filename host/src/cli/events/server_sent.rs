//! Server-sent events (HTML standard, 9.2.6), as far as the gateway sends them.

use std::io::{self, BufRead, Read};

/// Of one line: an event's data is at most 1 MiB, which is a third more in Base64.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The data of one event, and the id behind which following goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerSent {
    pub data: String,
    pub last_event_id: String,
}

/// What an answer's body says, event by event.
pub struct ServerSentEvents<R> {
    body: R,
    last_event_id: String,
}

impl<R: BufRead> ServerSentEvents<R> {
    pub fn new(body: R, last_event_id: String) -> Self {
        Self { body, last_event_id }
    }

    /// Also of what had no data.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// None: it has ended. An event that has not come whole is dropped with its id.
    pub fn next(&mut self) -> io::Result<Option<ServerSent>> {
        let (mut data, mut id) = (None::<String>, None::<String>);
        loop {
            let mut line = String::new();
            let read = (&mut self.body).take(LINE_BYTES_MAX).read_line(&mut line)?;
            if !line.ends_with('\n') {
                let is_long = read as u64 == LINE_BYTES_MAX;
                return if is_long { Err(io::Error::other("a line that does not end")) } else { Ok(None) };
            }
            let line = line.trim_end_matches(['\n', '\r']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = Some(value.to_owned()),
                "data" => match &mut data {
                    None => data = Some(value.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                },
                "" if line.is_empty() => {
                    if let Some(id) = id.take() {
                        self.last_event_id = id;
                    }
                    if let Some(data) = data.take() {
                        return Ok(Some(ServerSent { data, last_event_id: self.last_event_id.clone() }));
                    }
                }
                // Comments, and fields that mean nothing here.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_with_the_id_behind_which_to_go_on() {
        let body = "retry: 1000\nid: 3\n\n:\n\nid: 4\ndata: {\ndata: }\n\nid: 9\n\nid: 10\ndata: cut";
        let mut events = ServerSentEvents::new(body.as_bytes(), String::new());
        let first = events.next().expect("text");
        assert_eq!(first, Some(ServerSent { data: "{\n}".to_owned(), last_event_id: "4".to_owned() }));
        assert_eq!(events.next().expect("text"), None);
        assert_eq!(events.last_event_id(), "9", "what has not come whole has not come");
    }
}
