//! Endpoints from a real etcd cluster: they follow its keys, also past the death of a member and past a compaction.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use sluice_harness::{Client, Load, Origin, Sluice, process::third_party, sluice, wait_for};
use tempfile::TempDir;

/// For members to start or to choose another leader, with every step of it synced to a disk that others use too.
const LEADER_DEADLINE: Duration = Duration::from_secs(120);

/// Three members on ports that were free a moment ago: etcd's own configuration names its peers before any is bound.
struct Cluster {
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    process: Child,
    client: SocketAddr,
}

impl Cluster {
    /// None where etcd is not installed.
    fn start() -> Option<Self> {
        let etcd = third_party("etcd")?;
        // A port that was free may be another's by the time etcd binds it, and then that member ends.
        let mut cluster = Self::spawn(&etcd);
        wait_for("all members to take writes", LEADER_DEADLINE, || {
            if cluster.members.iter_mut().any(|member| member.process.try_wait().expect("a child").is_some()) {
                cluster = Self::spawn(&etcd);
            }
            (0..3).all(|member| cluster.try_call(member, "/v3/kv/put", &put("ready", "1")).is_some()).then_some(())
        });
        Some(cluster)
    }

    fn spawn(etcd: &Path) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let held: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses: Vec<_> = held.iter().map(|held| held.local_addr().expect("it is bound")).collect();
        drop(held);
        let (clients, peers) = addresses.split_at(3);
        let cluster: Vec<_> = peers.iter().enumerate().map(|(n, peer)| format!("m{n}=http://{peer}")).collect();
        let members = (0..3).map(|n| {
            let (client, peer) = (format!("http://{}", clients[n]), format!("http://{}", peers[n]));
            let process = Command::new(etcd)
                .args(["--name", &format!("m{n}"), "--data-dir"])
                .arg(folder.path().join(format!("m{n}")))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
                .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it is installed");
            Member { process, client: clients[n] }
        });
        Self { members: members.collect(), _folder: folder }
    }

    fn try_call(&self, member: usize, path: &str, body: &str) -> Option<serde_json::Value> {
        let client = Client::to(self.members[member].client);
        let headers = [("content-type", "application/json")];
        let answer = client.try_send(http::Method::POST, path, &headers, body.as_bytes().to_vec()).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// At the last member, which lives to the end.
    fn call(&self, path: &str, body: &str) -> serde_json::Value {
        wait_for("etcd to answer", LEADER_DEADLINE, || self.try_call(2, path, body))
    }

    fn put(&self, key: &str, value: &str) -> u64 {
        let answer = self.call("/v3/kv/put", &put(key, value));
        answer["header"]["revision"].as_str().and_then(|text| text.parse().ok()).expect("a revision")
    }

    fn delete(&self, key: &str) {
        self.call("/v3/kv/deleterange", &json!({"key": base64(key)}).to_string());
    }

    fn kill(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.process.kill().expect("it runs");
        member.process.wait().expect("it was killed");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Those that were killed already are gone.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

fn put(key: &str, value: &str) -> String {
    json!({"key": base64(key), "value": base64(value)}).to_string()
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = text.as_bytes().chunks(3).flat_map(|chunk| {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let letter = move |n: usize| char::from(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize]);
        let len = chunk.len();
        (0..4).map(move |n| if n <= len { letter(n) } else { '=' })
    });
    letters.collect()
}

fn gateway(cluster: &Cluster) -> Sluice {
    let members: Vec<_> = cluster.members.iter().map(|member| member.client.to_string()).collect();
    let members = json!(members);
    sluice!()
        .config(format!(
            r#"
            [plugins.etcd]
            allow_hosts = {members}
            [services.orders]
            discovery = {{ plugin = "etcd", settings = {{ endpoints = {members}, prefix = "/services/orders/" }} }}
            [[route]]
            path = "/"
            service = "orders"
            "#
        ))
        .start()
}

fn await_endpoints(gateway: &Sluice, count: usize) {
    wait_for(&format!("{count} endpoints"), LEADER_DEADLINE, || {
        (gateway.service("orders")["endpoints"].as_array().map_or(0, Vec::len) == count).then_some(())
    });
}

#[test]
fn endpoints_follow_the_keys_of_a_cluster_past_a_members_death_and_a_compaction() {
    let Some(mut cluster) = Cluster::start() else { return };
    let [a, b] = ["a", "b"].map(Origin::start);
    cluster.put("/services/orders/a", &a.address().to_string());
    cluster.put("/services/other/x", "10.0.0.1:80");
    let gateway = gateway(&cluster);
    await_endpoints(&gateway, 1);
    let value = json!({"address": b.address().to_string(), "weight": 3, "zone": "z"});
    cluster.put("/services/orders/b", &value.to_string());
    await_endpoints(&gateway, 2);
    cluster.put("/services/orders/wrong", "nonsense");
    gateway.await_log(&["/services/orders/wrong", "left out"]);

    // The member that is watched dies; requests go on, and so do changes.
    // Not as fast as it can be: what chooses the leader needs the machine too.
    let load = Load::to(gateway.address()).connections(4).rate(100.0).start();
    cluster.kill(0);
    cluster.delete("/services/orders/b");
    await_endpoints(&gateway, 1);
    let revision = cluster.put("/services/orders/b", &value.to_string());
    await_endpoints(&gateway, 2);
    load.stop().expect_no_failures();

    // What was watched is compacted away while nothing changes, and the source goes on from what is there.
    cluster.call("/v3/kv/compaction", &json!({"revision": revision.to_string(), "physical": true}).to_string());
    cluster.delete("/services/orders/a");
    await_endpoints(&gateway, 1);

    // Without a quorum nothing is known, and nothing is lost.
    cluster.kill(1);
    gateway.client().get("/").expect(200);
    assert_eq!(gateway.service("orders")["endpoints"].as_array().map(Vec::len), Some(1));
}
