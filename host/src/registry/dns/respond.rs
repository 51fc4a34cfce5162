//! From the bytes of a query to the bytes of its answer.

use fastrand::Rng;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::DNSClass;

use super::{
    Lookup, Zone,
    answer::{Answer, answer},
    fit::{RECORD_BYTES_MIN, fit},
};

/// RFC 1035 §4.1.1.
const HEADER_BYTES: usize = 12;

/// Over UDP, without EDNS (RFC 1035 §2.3.4).
const UDP_BYTES: usize = 512;

/// Over UDP, whatever a client says that it takes: what HAProxy's manual recommends for SRV records of many servers.
/// Larger answers go over TCP.
const UDP_BYTES_MAX: u16 = 8192;

/// Over TCP: its frames have a length of two bytes.
const TCP_BYTES_MAX: usize = u16::MAX as usize;

/// How a query came, and how its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// None: nothing may be answered, as these bytes are no query. What looks like an answer is never answered, or two
/// servers could be made to talk to each other for ever.
pub fn respond(
    bytes: &[u8],
    transport: Transport,
    zone: &Zone,
    lookup: &impl Lookup,
    rng: &mut Rng,
) -> Option<Vec<u8>> {
    let header = Header::of(bytes)?;
    if header.is_response {
        return None;
    }
    let refused = |code| fit(header.response(code), UDP_BYTES);
    if header.op_code != OpCode::Query {
        return refused(ResponseCode::NotImp);
    }
    let Ok(query) = Message::from_vec(bytes) else { return refused(ResponseCode::FormErr) };
    let [asked] = query.queries.as_slice() else { return refused(ResponseCode::FormErr) };

    let bytes_max = match (transport, &query.edns) {
        (Transport::Tcp, _) => TCP_BYTES_MAX,
        (Transport::Udp, None) => UDP_BYTES,
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().min(UDP_BYTES_MAX)).max(UDP_BYTES),
    };
    let found = if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        Answer::code(ResponseCode::BADVERS)
    } else if asked.query_class() != DNSClass::IN {
        Answer::code(ResponseCode::Refused)
    } else {
        answer(asked, zone, lookup, bytes_max / RECORD_BYTES_MIN, rng)
    };

    let mut message = header.response(found.code);
    message.add_query(asked.clone());
    let is_ours = matches!(found.code, ResponseCode::NoError | ResponseCode::NXDomain);
    message.metadata.authoritative = is_ours;
    message.metadata.truncation = found.cut;
    if is_ours && found.answers.is_empty() {
        message.add_authority(zone.soa(lookup.index()));
    }
    message.answers = found.answers;
    message.additionals = found.additionals;
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX).set_version(0);
        message.set_edns(edns);
    }
    fit(message, bytes_max)
}

/// What is known of a message before it is read, so that one that cannot be read can be refused.
struct Header {
    id: u16,
    is_response: bool,
    op_code: OpCode,
    recursion_desired: bool,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Some(Self {
            id: u16::from_be_bytes([header[0], header[1]]),
            is_response: header[2] & 0x80 != 0,
            op_code: OpCode::from_u8(header[2] >> 3 & 0x0f),
            recursion_desired: header[2] & 0x01 != 0,
        })
    }

    fn response(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, self.op_code);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.response_code = code;
        message
    }
}
