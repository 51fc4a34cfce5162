//! The registry over DNS, asked by raw sockets, by `dig`, and by HAProxy, which balances over what it is told.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use sluice_harness::{DEADLINE, Origin, Sluice, process::third_party, sluice, wait_for, wait_until};

const CONFIG: &str = "[dns]\naddress = \"127.0.0.1:0\"\nttl = \"7 s\"\n";

fn start() -> Sluice {
    sluice!().config(CONFIG).start()
}

fn register(gateway: &Sluice, id: &str, service: &str, at: SocketAddr, tags: &[&str]) {
    let body = json!({"ID": id, "Name": service, "Address": at.ip().to_string(), "Port": at.port(), "Tags": tags});
    put(gateway, "/v1/agent/service/register", Some(body));
}

fn put(gateway: &Sluice, path: &str, body: Option<serde_json::Value>) {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let headers = [("content-type", "application/json")];
    gateway.control().send(http::Method::PUT, path, &headers, body).expect(200);
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// What `dig` prints, line by line.
fn dig(dig: &Path, gateway: &Sluice, arguments: &[&str]) -> Vec<String> {
    let address = gateway.dns_address();
    let server = format!("@{}", address.ip());
    let output = Command::new(dig)
        .args([&server, "-p", &address.port().to_string(), "+time=5", "+tries=6"])
        .args(arguments)
        .output()
        .expect("it starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "dig {arguments:?}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<_> = printed.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    // That a try went unanswered, which newer versions say between the answers.
    lines.retain(|line| !line.starts_with(";; communications error") && !line.starts_with(";; connection timed out"));
    lines.sort();
    lines
}

#[test]
fn dig_finds_what_is_registered() {
    let Some(program) = third_party("dig") else { return };
    let gateway = start();
    register(&gateway, "web-1", "web", at(8001), &["blue"]);
    register(&gateway, "web-2", "web", "127.0.0.2:8002".parse().expect("an address"), &["green"]);
    register(&gateway, "web-3", "web", "[::1]:8003".parse().expect("an address"), &[]);
    let dig = |arguments: &[&str]| dig(&program, &gateway, arguments);

    assert_eq!(dig(&["+short", "web.service.consul"]), ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(dig(&["+short", "+tcp", "web.service.consul"]), ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(dig(&["+short", "web.service.consul", "AAAA"]), ["::1"]);
    assert_eq!(dig(&["+short", "green.web.service.dc1.consul"]), ["127.0.0.2"]);
    assert_eq!(
        dig(&["+short", "_web._tcp.service.consul", "SRV"]),
        [
            "1 1 8001 7f000001.addr.dc1.consul.",
            "1 1 8002 7f000002.addr.dc1.consul.",
            "1 1 8003 00000000000000000000000000000001.addr.dc1.consul."
        ]
    );
    assert_eq!(dig(&["+short", "7f000002.addr.dc1.consul"]), ["127.0.0.2"]);

    let full = dig(&["web.service.consul"]).join("\n");
    assert!(full.contains("status: NOERROR") && full.contains("flags: qr aa rd;"), "{full}");
    assert!(full.contains("web.service.consul.\t7\tIN\tA\t127.0.0.1"), "{full}");
    assert!(!full.contains("Warning: Message parser reports malformed message packet"), "{full}");
    let nothing = dig(&["other.service.consul"]).join("\n");
    assert!(
        nothing.contains("status: NXDOMAIN") && nothing.contains("IN\tSOA\tns.consul. hostmaster.consul."),
        "{nothing}"
    );
    let no_data = dig(&["web.service.consul", "TXT"]).join("\n");
    assert!(no_data.contains("status: NOERROR") && no_data.contains("IN\tSOA\t"), "{no_data}");
    let foreign = dig(&["example.com"]).join("\n");
    assert!(foreign.contains("status: REFUSED"), "{foreign}");
}

#[test]
fn dig_goes_over_tcp_for_what_a_datagram_does_not_hold() {
    let Some(program) = third_party("dig") else { return };
    let gateway = start();
    for port in 0..200 {
        register(&gateway, &format!("many-{port}"), "many", at(8000 + port), &[]);
    }
    let name = ["many.service.consul", "SRV"];
    let cut = dig(&program, &gateway, &[&["+notcp", "+ignore", "+bufsize=1232"], &name[..]].concat()).join("\n");
    assert!(cut.contains("flags: qr aa tc rd;"), "{cut}");
    let whole = dig(&program, &gateway, &[&["+short", "+bufsize=1232"], &name[..]].concat());
    assert_eq!(whole.len(), 200);
}

#[test]
fn an_instance_is_found_as_long_as_it_is_well() {
    let Some(program) = third_party("dig") else { return };
    let gateway = start();
    let found = || dig(&program, &gateway, &["+short", "web.service.consul"]);
    let check = json!({"CheckID": "alive", "TTL": "60s", "Status": "passing"});
    put(
        &gateway,
        "/v1/agent/service/register",
        Some(json!({"ID": "web-1", "Name": "Web", "Address": "127.0.0.1", "Port": 1, "Check": check})),
    );
    assert_eq!(found(), ["127.0.0.1"]);
    put(&gateway, "/v1/agent/check/warn/alive", None);
    assert_eq!(found(), ["127.0.0.1"], "a warning is no reason to leave it out");
    put(&gateway, "/v1/agent/check/fail/alive", None);
    assert_eq!(found(), [""; 0]);
    put(&gateway, "/v1/agent/check/pass/alive", None);
    assert_eq!(found(), ["127.0.0.1"]);
    put(&gateway, "/v1/agent/service/maintenance/web-1?enable=true", None);
    assert_eq!(found(), [""; 0]);
    put(&gateway, "/v1/agent/service/maintenance/web-1?enable=false", None);
    assert_eq!(found(), ["127.0.0.1"]);
    put(&gateway, "/v1/agent/service/deregister/web-1", None);
    assert_eq!(found(), [""; 0]);
}

#[test]
fn noise_and_loops_harm_nobody() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let gateway = start();
    register(&gateway, "web-1", "web", at(8001), &[]);
    let socket = UdpSocket::bind(at(0)).expect("a free port");
    socket.connect(gateway.dns_address()).expect("it can be connected");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket has a timeout");
    for _ in 0..1000 {
        let noise: Vec<u8> = (0..rng.usize(..1400)).map(|_| rng.u8(..)).collect();
        socket.send(&noise).expect("it is sent");
        socket.send(b"\xff\xff\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01").expect("it is sent");
    }
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\x07service\x06consul\0\0\x01\0\x01";
    // Asked again, as resolvers do, where nothing comes: the system drops what does not fit into the socket's buffer.
    let mut answer = [0; 65_535];
    let len = wait_for("the query is answered", DEADLINE, || {
        socket.send(query).expect("it is sent");
        while let Ok(len) = socket.recv(&mut answer) {
            if len > query.len() && answer[..2] == query[..2] {
                return Some(len);
            }
        }
        None
    });
    assert!(answer[..len].ends_with(&[127, 0, 0, 1]), "{:?}", &answer[..len]);
    gateway.control().get("/readyz").expect(200);
}

#[test]
fn where_dns_listens_is_shown_and_an_address_in_use_refused() {
    let gateway = start();
    let address = gateway.dns_address();
    let shown = gateway.control().get("/listeners").expect(200).json();
    assert_eq!(shown["dns"], address.to_string());

    let ended = sluice!().config(format!("[dns]\naddress = \"{address}\"\n")).run_to_end("run");
    assert_ne!(ended.code(), Some(0));
    assert!(ended.stderr.contains(&format!("cannot listen on {address} for DNS")), "{}", ended.stderr);

    gateway.rewrite_config(&CONFIG.replace("7 s", "8 s"));
    let refused = gateway.control().post("/reload", &json!({}));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("which needs a restart"), "{}", refused.text());
}

#[test]
fn haproxy_balances_over_the_servers_that_dns_names() {
    let Some(program) = third_party("haproxy") else { return };
    let gateway = start();
    let origins: Vec<_> = ["a", "b", "c"].into_iter().map(Origin::start).collect();
    register(&gateway, "a", "shop", origins[0].address(), &[]);
    register(&gateway, "b", "shop", origins[1].address(), &[]);
    let haproxy = Haproxy::start(&program, gateway.dns_address());

    haproxy.wait_for_instances(&["a", "b"]);
    register(&gateway, "c", "shop", origins[2].address(), &[]);
    haproxy.wait_for_instances(&["a", "b", "c"]);
    put(&gateway, "/v1/agent/service/deregister/a", None);
    haproxy.wait_for_instances(&["b", "c"]);
}

/// HAProxy with servers from SRV records, on a socket in a folder of its own.
struct Haproxy {
    child: Child,
    folder: tempfile::TempDir,
}

impl Haproxy {
    fn start(program: &Path, dns: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("haproxy.cfg");
        let socket = folder.path().join("http");
        let text = format!(
            "resolvers sluice\n  nameserver one {dns}\n  accepted_payload_size 8192\n  hold valid 100ms\n  \
             hold obsolete 100ms\n  timeout resolve 100ms\n  timeout retry 1s\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
             frontend in\n  bind unix@{}\n  default_backend shop\n\
             backend shop\n  balance roundrobin\n  option redispatch\n  \
             server-template s 5 _shop._tcp.service.consul resolvers sluice resolve-prefer ipv4 init-addr none\n",
            socket.display()
        );
        fs::write(&config, text).expect("it is written");
        let log = fs::File::create(folder.path().join("log")).expect("it is made");
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&config).stdin(Stdio::null()).stderr(log);
        let child = command.spawn().expect("it starts");
        let this = Self { child, folder };
        wait_until("HAProxy to listen", || this.socket().is_some());
        this
    }

    fn socket(&self) -> Option<UnixStream> {
        UnixStream::connect(self.folder.path().join("http")).ok()
    }

    /// Of the instance that answered; None where there was none.
    fn ask(&self) -> Option<String> {
        let mut stream = self.socket()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.trim().to_owned())
    }

    /// Until of twelve requests each of these gets some, and nobody else.
    fn wait_for_instances(&self, wanted: &[&str]) {
        wait_for(&format!("HAProxy to use {wanted:?}"), DEADLINE, || {
            let mut seen: Vec<_> = (0..12).map(|_| self.ask()).collect::<Option<_>>()?;
            seen.sort();
            seen.dedup();
            (seen == wanted).then_some(())
        });
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
