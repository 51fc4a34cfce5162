//! What is no proper query.

use hickory_proto::rr::DNSClass;

use super::*;

fn raw(bytes: &[u8]) -> Option<Message> {
    let answer = respond(bytes, Transport::Udp, &zone(), &shop(), &mut Rng::with_seed(7))?;
    Some(Message::from_vec(&answer).expect("an answer can be read"))
}

/// A header with one question and the flags given, and what follows it.
fn message(flags: [u8; 2], after: &[u8]) -> Vec<u8> {
    [&[0x12, 0x34], &flags[..], &[0, 1, 0, 0, 0, 0, 0, 0], after].concat()
}

#[test]
fn what_is_no_message_is_not_answered() {
    for bytes in [&b""[..], b"\0", b"hello", &[0; 11]] {
        assert_eq!(raw(bytes), None);
    }
}

#[test]
fn an_answer_is_never_answered() {
    let mut answer = query("web.service.consul.", RecordType::A);
    answer.metadata = hickory_proto::op::Metadata::response_from_request(&answer.metadata);
    assert_eq!(raw(&answer.to_vec().expect("it can be written")), None);
}

#[test]
fn what_cannot_be_read_is_a_format_error_with_its_id() {
    let loops: [&[u8]; 7] = [
        // A name that points to itself, to another that points back, forward, past the end.
        b"\xc0\x0c\0\x01\0\x01",
        b"\xc0\x0e\xc0\x0c\0\x01\0\x01",
        b"\xc0\x20\0\x01\0\x01",
        b"\xff\xff\0\x01\0\x01",
        // A label that runs past the end, one of a type that nobody uses, and none at all.
        b"\x3fweb\0\0\x01\0\x01",
        b"\x80web\0\0\x01\0\x01",
        b"",
    ];
    for after in loops {
        let answer = raw(&message([0x01, 0x00], after)).expect("it is answered");
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr, "{after:?}");
        assert_eq!(answer.metadata.id, 0x1234);
        assert!(answer.metadata.recursion_desired && answer.queries.is_empty());
    }
}

#[test]
fn a_long_name_made_of_pointers_is_a_format_error() {
    // Each name is a label of 63 bytes and the name before it: the fifth is longer than 255 bytes.
    let mut names = vec![63];
    names.extend([b'a'; 63]);
    names.push(0);
    let mut before = 12;
    for _ in 0..4 {
        let at = 12 + names.len();
        names.push(63);
        names.extend([b'a'; 63]);
        names.extend([0xc0 | u8::try_from(before >> 8).expect("small"), u8::try_from(before & 0xff).expect("masked")]);
        before = at;
    }
    names.extend([0, 1, 0, 1]);
    let answer = raw(&message([0, 0], &names)).expect("it is answered");
    assert_ne!(answer.metadata.response_code, ResponseCode::NoError);
}

#[test]
fn anything_but_one_question_is_a_format_error() {
    for questions in [0, 2] {
        let mut none = Message::query();
        for _ in 0..questions {
            none.add_query(Query::query(Name::from_ascii("web.service.consul.").expect("a name"), RecordType::A));
        }
        let answer = raw(&none.to_vec().expect("it can be written")).expect("it is answered");
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
}

#[test]
fn other_operations_are_not_implemented_and_other_classes_and_zones_refused() {
    for op_code in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut other = query("web.service.consul.", RecordType::A);
        other.metadata.op_code = op_code;
        let answer = raw(&other.to_vec().expect("it can be written")).expect("it is answered");
        assert_eq!((answer.metadata.response_code, answer.metadata.op_code), (ResponseCode::NotImp, op_code));
    }
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY] {
        let mut other = query("web.service.consul.", RecordType::A);
        other.queries[0].set_query_class(class);
        let answer = raw(&other.to_vec().expect("it can be written")).expect("it is answered");
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    }
    for name in [".", "com.", "example.com.", "notconsul.", "consul.example."] {
        let answer = ask(name, RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(!answer.metadata.authoritative && answer.authorities.is_empty(), "{name}");
    }
}

#[test]
fn another_version_of_edns_is_told_which_one_is_spoken() {
    let mut other = query("web.service.consul.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    other.set_edns(edns);
    let answer = raw(&other.to_vec().expect("it can be written")).expect("it is answered");
    // BADVERS and BADSIG are one number.
    assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert_eq!(answer.edns.map(|edns| edns.version()), Some(0));
    assert!(answer.answers.is_empty());
}

#[test]
fn labels_that_are_no_text_are_names_that_do_not_exist() {
    let answer = raw(&message([0, 0], b"\x04w\xff\0.\x07service\x06consul\0\0\x01\0\x01")).expect("it is answered");
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    // A dot within a label does not make it two.
    let answer = raw(&message([0, 0], b"\x08blue.web\x07service\x06consul\0\0\x01\0\x01")).expect("it is answered");
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}
