//! Against a name server of this test's own, whose answers change.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        RData, Record,
        rdata::{A, AAAA},
    },
};
use tokio::net::UdpSocket;

use super::*;

pub(crate) const HOST: &str = "orders.internal";
/// Far more than an answer over loopback takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the server says now: addresses, or that it cannot.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    Fails,
}

#[derive(Clone)]
pub(crate) struct NameServer {
    says: Arc<Mutex<Says>>,
    pub address: SocketAddr,
}

impl NameServer {
    pub async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let server = Self {
            says: Arc::new(Mutex::new(says)),
            address: socket.local_addr().expect("a bound socket has an address"),
        };
        let says = Arc::clone(&server.says);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((len, client)) = socket.recv_from(&mut buffer).await {
                let says = says.lock().expect("not poisoned").clone();
                let answer = answer(&buffer[..len], &says);
                let _ = socket.send_to(&answer, client).await;
            }
        });
        server
    }

    pub fn say(&self, says: Says) {
        *self.says.lock().expect("not poisoned") = says;
    }
}

fn answer(query: &[u8], says: &Says) -> Vec<u8> {
    let query = Message::from_vec(query).expect("the resolver asks well");
    let question = query.queries[0].clone();
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_query(question.clone());
    match says {
        Says::Addresses(addresses) => {
            for address in addresses {
                let data = match address {
                    IpAddr::V4(address) => RData::A(A(*address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
                };
                if data.record_type() == question.query_type() {
                    answer.add_answer(Record::from_rdata(question.name().clone(), 0, data));
                }
            }
        }
        Says::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Says::Fails => answer.metadata.response_code = ResponseCode::ServFail,
    }
    answer.to_vec().expect("a small message")
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

async fn learned(server: &NameServer) -> Arc<Names> {
    let names = Names::new(&[server.address]).expect("a resolver");
    names.learn([HOST.to_owned()].into()).await;
    names
}

async fn until(names: &Names, wanted: &[IpAddr]) {
    let waiting = async {
        while names.addresses(HOST).as_deref() != Some(wanted) {
            names.changed().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{:?}", names.addresses(HOST)));
}

#[tokio::test]
async fn every_record_is_an_address_and_the_ttl_brings_new_ones() {
    let server = NameServer::start(Says::Addresses(vec![v4(2), v4(1)])).await;
    let names = learned(&server).await;
    assert_eq!(names.addresses(HOST), Some(vec![v4(1), v4(2)]));
    let fresh = tokio::spawn(Arc::clone(&names).keep_fresh());
    server.say(Says::Addresses(vec![v4(2), v4(3)]));
    until(&names, &[v4(2), v4(3)]).await;
    fresh.abort();
}

#[tokio::test]
async fn a_refresh_that_fails_keeps_the_last_addresses() {
    let server = NameServer::start(Says::Addresses(vec![v4(1)])).await;
    let names = learned(&server).await;
    for says in [Says::Fails, Says::NoSuchName, Says::Addresses(Vec::new())] {
        server.say(says.clone());
        assert!(!names.refresh(vec![HOST.to_owned()]).await, "{says:?}");
        assert_eq!(names.addresses(HOST), Some(vec![v4(1)]), "{says:?}");
        assert!(names.problem(HOST).is_some(), "{says:?}");
    }
    server.say(Says::Addresses(vec![v4(2)]));
    assert!(names.refresh(vec![HOST.to_owned()]).await);
    assert_eq!(names.problem(HOST), None);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_yet_comes_by_itself() {
    let server = NameServer::start(Says::NoSuchName).await;
    let names = learned(&server).await;
    assert_eq!(names.addresses(HOST), None);
    names.retain(&[HOST.to_owned()].into());
    let fresh = tokio::spawn(Arc::clone(&names).keep_fresh());
    server.say(Says::Addresses(vec![v4(7)]));
    until(&names, &[v4(7)]).await;
    fresh.abort();
}

#[tokio::test]
async fn an_address_without_a_route_is_no_endpoint() {
    // Of the discard prefix (RFC 6666), which no machine routes, and of no use on one without IPv6 either.
    let nowhere = IpAddr::from(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1));
    if has_route(nowhere) {
        return;
    }
    let server = NameServer::start(Says::Addresses(vec![v4(1), nowhere])).await;
    assert_eq!(learned(&server).await.addresses(HOST), Some(vec![v4(1)]));
}

#[tokio::test]
async fn a_name_that_nobody_uses_is_forgotten() {
    let server = NameServer::start(Says::Addresses(vec![v4(1)])).await;
    let names = learned(&server).await;
    names.retain(&BTreeSet::new());
    assert_eq!(names.addresses(HOST), None);
}
