//! A receiver of webhooks, as CloudEvents has them: it allows deliveries or not, and remembers what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{RawExchange, RawOrigin};

/// A delivery, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// `ce-id`.
    pub id: String,
    /// `ce-stream`.
    pub stream: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Delivered {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

pub struct WebhookReceiver {
    origin: RawOrigin,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// `WebHook-Allowed-Origin`; None: it knows no `OPTIONS`.
    allows: Option<String>,
    handshakes: usize,
    delivered: Vec<Delivered>,
    /// Answers of what comes next; then everything is taken.
    answers: Vec<(u16, String)>,
}

impl WebhookReceiver {
    /// Allows nothing.
    pub fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        Self { origin: RawOrigin::start(move |exchange| serve(exchange, &shared)), state }
    }

    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// From now on this origin, or `*`.
    pub fn allow(&self, origin: &str) {
        self.lock().allows = Some(origin.to_owned());
    }

    /// The next deliveries are answered so: a status, and a header line or nothing.
    pub fn answer(&self, answers: &[(u16, &str)]) {
        self.lock().answers = answers.iter().rev().map(|(status, header)| (*status, (*header).to_owned())).collect();
    }

    pub fn handshakes(&self) -> usize {
        self.lock().handshakes
    }

    /// In the order in which they came.
    pub fn delivered(&self) -> Vec<Delivered> {
        self.lock().delivered.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

fn serve(mut exchange: RawExchange, state: &Mutex<State>) {
    while let Some(request) = exchange.read_request() {
        let (status, header) = state.lock().expect("no holder panics").take(&String::from_utf8_lossy(&request));
        let header = if header.is_empty() { header } else { format!("{header}\r\n") };
        exchange.write(format!("HTTP/1.1 {status} X\r\n{header}content-length: 0\r\n\r\n").as_bytes());
    }
}

impl State {
    fn take(&mut self, request: &str) -> (u16, String) {
        let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
        let mut lines = head.split("\r\n");
        let is_handshake = lines.next().is_some_and(|line| line.starts_with("OPTIONS "));
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        if is_handshake {
            self.handshakes += 1;
            return match &self.allows {
                Some(origin) => (200, format!("WebHook-Allowed-Origin: {origin}")),
                None => (405, String::new()),
            };
        }
        let header = |name: &str| {
            let found = headers.iter().find(|(of, _)| of == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (id, stream) = (header("ce-id"), header("ce-stream"));
        self.delivered.push(Delivered { id, stream, headers, body: body.to_owned() });
        self.answers.pop().unwrap_or((204, String::new()))
    }
}
