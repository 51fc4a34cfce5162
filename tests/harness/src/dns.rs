//! A name server of a test's own: answers A queries over UDP from a table that the test changes.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

/// One question or answer without EDNS (RFC 1035 §2.3.4).
const MESSAGE_LEN_MAX: usize = 512;
const HEADER_LEN: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
/// Points to the question's name, which begins right behind the header (RFC 1035 §4.1.4).
const NAME_OF_THE_QUESTION: [u8; 2] = [0xc0, HEADER_LEN as u8];

/// Runs until the test is over.
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

/// What is said of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// These addresses, for so many seconds. None: the name is there and has no address.
    Addresses(Vec<Ipv4Addr>, u32),
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL.
    Fails,
    /// Nothing at all.
    Silent,
}

#[derive(Default)]
struct Zone {
    names: HashMap<String, Says>,
    /// A queries for each name.
    asked: HashMap<String, usize>,
}

impl NameServer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("bound");
        let zone = Arc::<Mutex<Zone>>::default();
        let shared = Arc::clone(&zone);
        // Ends with the test's process.
        thread::spawn(move || serve(&socket, &shared));
        Self { address, zone }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, name: &str, says: Says) {
        self.zone.lock().expect("no holder panics").names.insert(name.to_owned(), says);
    }

    /// How often the addresses of a name were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.zone.lock().expect("no holder panics").asked.get(name).copied().unwrap_or(0)
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut message = [0; MESSAGE_LEN_MAX];
    while let Ok((len, peer)) = socket.recv_from(&mut message) {
        let Some(question) = Question::parse(&message[..len]) else { continue };
        let says = {
            let mut zone = zone.lock().expect("no holder panics");
            if question.kind == TYPE_A {
                *zone.asked.entry(question.name.clone()).or_default() += 1;
            }
            zone.names.get(&question.name).cloned().unwrap_or(Says::NoSuchName)
        };
        if let Some(answer) = question.answer(&message, &says) {
            // A peer that has gone wants no answer.
            let _ = socket.send_to(&answer, peer);
        }
    }
}

struct Question {
    name: String,
    kind: u16,
    /// Of the header and the question.
    len: usize,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut at = HEADER_LEN;
        loop {
            let len = usize::from(*message.get(at)?);
            at += 1;
            if len == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(message.get(at..at + len)?).to_ascii_lowercase());
            at += len;
        }
        let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
        (message.len() >= at + 4).then(|| Self { name: labels.join("."), kind, len: at + 4 })
    }

    fn answer(&self, message: &[u8], says: &Says) -> Option<Vec<u8>> {
        let (code, addresses, ttl_s) = match says {
            Says::Addresses(addresses, ttl_s) if self.kind == TYPE_A => (0, addresses.as_slice(), *ttl_s),
            Says::Addresses(..) => (0, [].as_slice(), 0),
            Says::NoSuchName => (3, [].as_slice(), 0),
            Says::Fails => (2, [].as_slice(), 0),
            Says::Silent => return None,
        };
        let mut answer = message[..self.len].to_vec();
        // A response, authoritative, recursion available; one question and so many answers (RFC 1035 §4.1.1).
        let count = u16::try_from(addresses.len()).expect("a test's name has few addresses");
        answer[2..4].copy_from_slice(&[0x84 | (message[2] & 1), 0x80 | code]);
        answer[4..12].copy_from_slice(&[0, 1, count.to_be_bytes()[0], count.to_be_bytes()[1], 0, 0, 0, 0]);
        for address in addresses {
            answer.extend(NAME_OF_THE_QUESTION);
            answer.extend(TYPE_A.to_be_bytes());
            answer.extend(CLASS_IN.to_be_bytes());
            answer.extend(ttl_s.to_be_bytes());
            answer.extend(4_u16.to_be_bytes());
            answer.extend(address.octets());
        }
        Some(answer)
    }
}
