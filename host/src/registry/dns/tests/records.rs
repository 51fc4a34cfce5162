//! What the names hold.

use std::collections::BTreeSet;

use super::*;

#[test]
fn each_type_has_its_own_records() {
    let web = |kind| addresses(&ask("web.service.consul.", kind));
    assert_eq!(web(RecordType::A), ips(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(web(RecordType::AAAA), ips(&["2001:db8::1"]));
    assert_eq!(web(RecordType::ANY), ips(&["10.0.0.1", "10.0.0.2", "2001:db8::1"]));
    for kind in [RecordType::TXT, RecordType::CNAME, RecordType::SOA, RecordType::NS] {
        assert_nothing(&ask("web.service.consul.", kind), ResponseCode::NoError);
    }
    assert_nothing(&ask("blue.web.service.consul.", RecordType::AAAA), ResponseCode::NoError);
    assert_nothing(&ask("0a000001.addr.dc1.consul.", RecordType::AAAA), ResponseCode::NoError);
}

#[test]
fn srv_records_carry_ports_and_names_that_resolve() {
    let answer = ask("_web._tcp.service.consul.", RecordType::SRV);
    let mut found = Vec::new();
    for record in &answer.answers {
        let RData::SRV(srv) = &record.data else { panic!("{record}") };
        assert_eq!((srv.priority, srv.weight), (1, 1));
        let kind = if srv.port == 8003 { RecordType::AAAA } else { RecordType::A };
        let resolved = addresses(&ask(&srv.target.to_ascii(), kind));
        let added: Vec<_> = answer.additionals.iter().filter(|record| record.name == srv.target).collect();
        assert_eq!(added.len(), 1, "{answer}");
        assert_eq!(added[0].record_type(), kind);
        found.push((srv.port, resolved, srv.target.to_ascii()));
    }
    found.sort();
    let wanted = [
        (8001, ips(&["10.0.0.1"]), "0a000001.addr.dc1.consul.".to_owned()),
        (8002, ips(&["10.0.0.2"]), "0a000002.addr.dc1.consul.".to_owned()),
        (8003, ips(&["2001:db8::1"]), "20010db8000000000000000000000001.addr.dc1.consul.".to_owned()),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_host_name_is_an_alias_and_the_target_of_srv_records() {
    for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::ANY] {
        let answer = ask("db.service.consul.", kind);
        let [record] = answer.answers.as_slice() else { panic!("{answer}") };
        let RData::CNAME(alias) = &record.data else { panic!("{answer}") };
        assert_eq!(alias.0.to_ascii(), "db.example.org.");
    }
    let answer = ask("db.service.consul.", RecordType::SRV);
    let [record] = answer.answers.as_slice() else { panic!("{answer}") };
    let RData::SRV(srv) = &record.data else { panic!("{answer}") };
    assert_eq!((srv.target.to_ascii(), srv.port), ("db.example.org.".to_owned(), 5432));
    assert!(answer.additionals.is_empty(), "{answer}");
    assert_nothing(&ask("db.service.consul.", RecordType::TXT), ResponseCode::NoError);
}

#[test]
fn an_alias_never_stands_beside_other_records() {
    let mixed = shop().with("web", "web.example.org", 80, &[]);
    for kind in [RecordType::A, RecordType::AAAA, RecordType::ANY] {
        let answer = ask_of(&mixed, &query("web.service.consul.", kind), Transport::Tcp);
        assert!(answer.answers.iter().all(|record| record.record_type() != RecordType::CNAME), "{answer}");
    }
    let srv = ask_of(&mixed, &query("web.service.consul.", RecordType::SRV), Transport::Tcp);
    assert_eq!(srv.answers.len(), 4, "{srv}");
}

#[test]
fn two_instances_on_one_host_are_one_address_and_two_ports() {
    let services = Services::default().with("a", "10.1.1.1", 1, &[]).with("a", "10.1.1.1", 2, &[]);
    let hosts = ask_of(&services, &query("a.service.consul.", RecordType::A), Transport::Udp);
    assert_eq!(addresses(&hosts), ips(&["10.1.1.1"]));
    let ports = ask_of(&services, &query("a.service.consul.", RecordType::SRV), Transport::Udp);
    assert_eq!((ports.answers.len(), ports.additionals.len()), (2, 2), "{ports}");
}

#[test]
fn answers_come_in_another_order_each_time() {
    let services = (1..=5).fold(Services::default(), |all, n| all.with("a", &format!("10.1.1.{n}"), n, &[]));
    let bytes = query("a.service.consul.", RecordType::A).to_vec().expect("it can be written");
    let mut rng = Rng::with_seed(1);
    let firsts = (0..100).map(|_| {
        let answer = respond(&bytes, Transport::Udp, &zone(), &services, &mut rng).expect("it is answered");
        Message::from_vec(&answer).expect("it can be read").answers[0].data.to_string()
    });
    assert_eq!(firsts.collect::<BTreeSet<_>>().len(), 5);
}

#[test]
fn the_zone_tells_of_itself() {
    let soa = ask("consul.", RecordType::SOA);
    assert_eq!(soa.answers.len(), 1);
    assert_eq!(soa.answers[0].name.to_ascii(), "consul.");
    let ns = ask("consul.", RecordType::NS);
    assert_eq!(ns.answers[0].data.to_string(), "ns.consul.");
    assert_eq!(ns.additionals[0].name.to_ascii(), "ns.consul.");
    for transfer in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(ask("consul.", transfer).metadata.response_code, ResponseCode::Refused);
    }
}
