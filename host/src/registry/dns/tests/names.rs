//! Which names there are.

use super::*;

const WEB: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

#[test]
fn a_service_has_the_names_that_consul_gives_it() {
    for (name, wanted) in [
        ("web.service.consul.", &WEB[..]),
        ("web.service.dc1.consul.", &WEB),
        ("WEB.Service.CONSUL.", &WEB),
        ("blue.web.service.consul.", &["10.0.0.1"]),
        ("blue.web.service.dc1.consul.", &["10.0.0.1"]),
        ("v1.2.web.service.consul.", &["10.0.0.1"]),
        ("_web._tcp.service.consul.", &WEB),
        ("_web._tcp.consul.", &WEB),
        ("_web._tcp.service.dc1.consul.", &WEB),
        ("_web._tcp.dc1.consul.", &WEB),
        ("_web._green.service.consul.", &["10.0.0.2"]),
        ("_web._green.consul.", &["10.0.0.2"]),
        ("0a000001.addr.dc1.consul.", &["10.0.0.1"]),
        ("0A000001.addr.consul.", &["10.0.0.1"]),
        ("ns.consul.", &["127.0.0.1"]),
    ] {
        let answer = ask(name, RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
        assert!(answer.metadata.authoritative, "{name}");
        assert_eq!(addresses(&answer), ips(wanted), "{name}");
    }
}

#[test]
fn names_that_are_not_there_do_not_exist() {
    for name in [
        "nothing.service.consul.",
        "red.web.service.consul.",
        "_nothing._tcp.service.consul.",
        "_web._udp.service.consul.",
        "_web.tcp.consul.",
        "web.service.dc2.consul.",
        "web.consul.",
        "dc2.consul.",
        "web.node.consul.",
        "0a0000.addr.dc1.consul.",
        "0a00000g.addr.dc1.consul.",
        "deep.0a000001.addr.dc1.consul.",
        "ns.dc1.consul.",
        "www.ns.consul.",
    ] {
        for kind in [RecordType::A, RecordType::SRV, RecordType::TXT] {
            assert_nothing(&ask(name, kind), ResponseCode::NXDomain);
        }
    }
}

#[test]
fn a_name_above_others_exists_and_has_no_data() {
    // Or else a resolver that asks label by label (RFC 9156) would stop there.
    for name in [
        "consul.",
        "dc1.consul.",
        "service.consul.",
        "service.dc1.consul.",
        "_tcp.service.consul.",
        "_tcp.consul.",
        "addr.dc1.consul.",
    ] {
        assert_nothing(&ask(name, RecordType::A), ResponseCode::NoError);
    }
}

#[test]
fn a_service_without_an_instance_that_may_get_traffic_does_not_exist() {
    // The look-up leaves out what is critical; nothing being left is as good as not being there.
    let mut services = shop();
    services.by_name.get_mut("web").expect("it is there").clear();
    let answer = ask_of(&services, &query("web.service.consul.", RecordType::A), Transport::Udp);
    assert_nothing(&answer, ResponseCode::NXDomain);
}

#[test]
fn a_service_may_have_a_name_with_dots() {
    let services = shop().with("orders.v2", "10.0.0.9", 9000, &["blue.eu"]);
    for name in ["orders.v2.service.consul.", "blue.eu.orders.v2.service.consul."] {
        let answer = ask_of(&services, &query(name, RecordType::A), Transport::Udp);
        assert_eq!(addresses(&answer), ips(&["10.0.0.9"]), "{name}");
    }
    let long = format!("{}web.service.consul.", "a.".repeat(60));
    assert_nothing(&ask(&long, RecordType::A), ResponseCode::NXDomain);
}

#[test]
fn a_zone_may_have_another_name() {
    let zone = zone_with("services.example.org", Duration::from_secs(9));
    let ask = |name: &str| {
        let bytes = query(name, RecordType::A).to_vec().expect("it can be written");
        let answer = respond(&bytes, Transport::Udp, &zone, &shop(), &mut Rng::with_seed(1)).expect("it is answered");
        Message::from_vec(&answer).expect("it can be read")
    };
    let answer = ask("web.service.services.example.org.");
    assert_eq!(addresses(&answer), ips(&WEB));
    assert!(answer.answers.iter().all(|record| record.ttl == 9));
    assert_eq!(ask("web.service.consul.").metadata.response_code, ResponseCode::Refused);
    let none = ask("nothing.service.services.example.org.");
    assert_nothing(&none, ResponseCode::NXDomain);
    let RData::SOA(soa) = &none.authorities[0].data else { panic!("{none}") };
    // How long a resolver remembers that there is nothing is the smaller of both.
    assert_eq!((none.authorities[0].ttl, soa.minimum), (9, 9));
    assert_eq!(soa.serial, 42);
}
