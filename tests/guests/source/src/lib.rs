//! A source of endpoints that does whatever its settings say: `endpoints`, then `then`; `first` instead of endpoints.

use sluice_sdk::{
    Context, Settings, clock,
    discovery::{Discovery, Membership, WatchError, Watched, member},
    files,
    http::{self, Request},
};

struct Source {
    endpoints: Vec<String>,
    first: Deed,
    then: Deed,
    url: String,
    path: String,
}

#[derive(Clone, Copy)]
enum Deed {
    Answer,
    Wait,
    Spin,
    Trap,
    Grow,
    Sleep,
    Twice,
    Nonsense,
    Fetch,
    Read,
    Refuse,
}

const DEEDS: [(&str, Deed); 11] = [
    ("answer", Deed::Answer),
    ("wait", Deed::Wait),
    ("spin", Deed::Spin),
    ("trap", Deed::Trap),
    ("grow", Deed::Grow),
    ("sleep", Deed::Sleep),
    ("twice", Deed::Twice),
    ("nonsense", Deed::Nonsense),
    ("fetch", Deed::Fetch),
    ("read", Deed::Read),
    ("refuse", Deed::Refuse),
];

impl Discovery for Source {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self {
            endpoints: settings.texts("endpoints"),
            first: settings.one_of("first", &DEEDS),
            then: settings.one_of("then", &DEEDS),
            url: settings.text("url", ""),
            path: settings.text("path", ""),
        }
    }

    fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched {
        let deed = if cursor.is_none() { self.first } else { self.then };
        match deed {
            Deed::Answer if cursor.is_some() => {
                clock::sleep_ms(wait_ms);
                Ok(None)
            }
            Deed::Answer => Ok(Some(self.membership(1))),
            Deed::Wait => {
                clock::sleep_ms(wait_ms);
                Ok(None)
            }
            Deed::Spin => loop {
                std::hint::black_box(());
            },
            Deed::Trap => panic!("as told"),
            Deed::Grow => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                }
            }
            Deed::Sleep => {
                clock::sleep_ms(u32::MAX);
                Ok(None)
            }
            Deed::Twice => Ok(Some(self.membership(2))),
            Deed::Nonsense => {
                let mut membership = self.membership(1);
                membership.instances.push(member("nonsense", "not an address"));
                Ok(Some(membership))
            }
            Deed::Fetch => Err(WatchError::Unavailable(self.fetch())),
            Deed::Read => Err(WatchError::Unavailable(match files::read(&self.path, None, 0) {
                Ok(_) => "it was read".to_owned(),
                Err(files::Error::NotAllowed) => "not allowed".to_owned(),
                Err(_) => "failed".to_owned(),
            })),
            Deed::Refuse => Err(WatchError::Refused("as told".to_owned())),
        }
    }
}

impl Source {
    fn membership(&self, times: usize) -> Membership {
        let all = (0..times).flat_map(|_| &self.endpoints);
        Membership { instances: all.map(|address| member(address, address)).collect(), cursor: "1".to_owned() }
    }

    fn fetch(&self) -> String {
        let request = Request {
            method: "GET".to_owned(),
            url: self.url.clone(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: 5_000,
        };
        match http::send(&request) {
            Ok(response) => match http::body(&response, 5_000) {
                Ok(body) => format!("answered {}: {}", response.status(), String::from_utf8_lossy(&body)),
                Err(error) => http::in_words(&error),
            },
            Err(error) => http::in_words(&error),
        }
    }
}

sluice_sdk::discovery!(Source);
