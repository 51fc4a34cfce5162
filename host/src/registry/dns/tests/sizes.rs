//! What fits into which message.

use super::*;

fn many(instances: u32) -> Services {
    let address = |n: u32| Ipv4Addr::from(0x0a00_0000 + n).to_string();
    (0..instances).fold(Services::default(), |all, n| all.with("many", &address(n), 8000, &[]))
}

/// And its length in bytes.
fn ask_many(instances: u32, kind: RecordType, transport: Transport, payload: Option<u16>) -> (Message, usize) {
    let mut query = query("many.service.consul.", kind);
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        query.set_edns(edns);
    }
    let bytes = query.to_vec().expect("it can be written");
    let answer = respond(&bytes, transport, &zone(), &many(instances), &mut Rng::with_seed(3)).expect("it is answered");
    let len = answer.len();
    (Message::from_vec(&answer).expect("it can be read"), len)
}

#[test]
fn a_datagram_holds_what_the_client_takes_and_says_that_it_was_cut() {
    for (payload, most) in [(None, 512), (Some(0), 512), (Some(1232), 1232), (Some(4096), 4096), (Some(65_535), 8192)] {
        for kind in [RecordType::A, RecordType::SRV] {
            let (answer, len) = ask_many(1000, kind, Transport::Udp, payload);
            assert!(len <= most, "{len} bytes where {payload:?} fit");
            assert!(len > most - 80, "only {len} bytes where {payload:?} fit");
            assert!(answer.metadata.truncation);
            assert!(!answer.answers.is_empty());
            assert_eq!(answer.edns.is_some(), payload.is_some());
        }
    }
}

#[test]
fn over_tcp_the_answer_is_whole() {
    for kind in [RecordType::A, RecordType::SRV] {
        let (answer, _) = ask_many(1000, kind, Transport::Tcp, None);
        assert!(!answer.metadata.truncation);
        assert_eq!(answer.answers.len(), 1000);
    }
}

#[test]
fn the_additional_section_goes_before_any_answer_and_is_no_cut() {
    let (answer, len) = ask_many(11, RecordType::SRV, Transport::Udp, Some(600));
    assert_eq!((answer.answers.len(), answer.additionals.len()), (11, 0), "{len} bytes: {answer}");
    assert!(!answer.metadata.truncation);
    let (answer, _) = ask_many(11, RecordType::SRV, Transport::Udp, Some(4096));
    assert_eq!((answer.answers.len(), answer.additionals.len()), (11, 11), "{answer}");
}

#[test]
fn what_just_fits_is_not_cut() {
    // A header of 12 bytes, the question with 25, records of 16 bytes each.
    let (answer, len) = ask_many(29, RecordType::A, Transport::Udp, None);
    assert_eq!((answer.answers.len(), answer.metadata.truncation, len), (29, false, 12 + 25 + 29 * 16));
    let (answer, _) = ask_many(30, RecordType::A, Transport::Udp, None);
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (29, true));
}

#[test]
fn more_than_any_message_holds_is_cut_over_tcp_too() {
    let (answer, len) = ask_many(9000, RecordType::A, Transport::Tcp, None);
    assert!(answer.metadata.truncation);
    assert!(len <= 65_535 && answer.answers.len() > 1500, "{len} bytes, {} answers", answer.answers.len());
}
