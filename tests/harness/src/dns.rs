//! A name server of a test's own: answers A and SRV queries over UDP from a table that the test changes.

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
const TYPE_SRV: u16 = 33;
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
    /// These SRV records (RFC 2782), for so many seconds.
    Services(Vec<Service>, u32),
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL.
    Fails,
    /// Nothing at all.
    Silent,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub target: String,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

impl Service {
    fn data(&self) -> Vec<u8> {
        let numbers = [self.priority, self.weight, self.port];
        let mut data: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        for label in self.target.split('.') {
            data.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
            data.extend(label.bytes());
        }
        data.push(0);
        data
    }
}

#[derive(Default)]
struct Zone {
    names: HashMap<String, Says>,
    /// A and SRV queries for each name.
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

    /// How often the addresses or services of a name were asked for.
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
            if [TYPE_A, TYPE_SRV].contains(&question.kind) {
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
        let addresses = |addresses: &[Ipv4Addr]| addresses.iter().map(|address| address.octets().to_vec()).collect();
        let (code, records, ttl_s): (u8, Vec<Vec<u8>>, u32) = match says {
            Says::Addresses(known, ttl_s) if self.kind == TYPE_A => (0, addresses(known), *ttl_s),
            Says::Services(known, ttl_s) if self.kind == TYPE_SRV => {
                (0, known.iter().map(Service::data).collect(), *ttl_s)
            }
            Says::Addresses(..) | Says::Services(..) => (0, Vec::new(), 0),
            Says::NoSuchName => (3, Vec::new(), 0),
            Says::Fails => (2, Vec::new(), 0),
            Says::Silent => return None,
        };
        let mut answer = message[..self.len].to_vec();
        // A response, authoritative, recursion available; one question and so many answers (RFC 1035 §4.1.1).
        let count = u16::try_from(records.len()).expect("a test's name has few records");
        answer[2..4].copy_from_slice(&[0x84 | (message[2] & 1), 0x80 | code]);
        answer[4..12].copy_from_slice(&[0, 1, count.to_be_bytes()[0], count.to_be_bytes()[1], 0, 0, 0, 0]);
        for data in records {
            answer.extend(NAME_OF_THE_QUESTION);
            answer.extend(self.kind.to_be_bytes());
            answer.extend(CLASS_IN.to_be_bytes());
            answer.extend(ttl_s.to_be_bytes());
            answer.extend(u16::try_from(data.len()).expect("a record is short").to_be_bytes());
            answer.extend(data);
        }
        Some(answer)
    }
}
