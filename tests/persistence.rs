//! What was done over the API survives however the gateway ends; what cannot be read is named in one line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use sluice_harness::{
    Load, Origin, Sluice, SluiceBuilder, any_route,
    control::text,
    guest::{built, rebuilt},
    sluice, wait_until,
};
use tempfile::TempDir;

/// A folder that outlives its gateways.
struct Home {
    folder: TempDir,
    origins: [Origin; 2],
}

impl Home {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder"), origins: ["a", "b"].map(Origin::start) }
    }

    fn builder(&self) -> SluiceBuilder {
        let addresses = [self.origins[0].address(), self.origins[1].address()];
        let config = any_route("orders", &addresses, "balancer = { plugin = \"round-robin\" }");
        sluice!().directory(self.folder.path()).config(config)
    }

    fn start(&self) -> Sluice {
        self.builder().start()
    }

    fn data(&self, path: &str) -> PathBuf {
        self.folder.path().join("data").join(path)
    }

    /// Starts a gateway that must not start; what it says.
    fn refuses_to_start(&self) -> String {
        let ended = self.builder().run_to_end("run");
        assert!(!ended.status.success(), "{}", ended.stderr);
        let errors: Vec<_> = ended.stderr.lines().filter(|line| !line.contains(" INFO ")).collect();
        assert_eq!(errors.len(), 1, "one clear line: {}", ended.stderr);
        errors[0].to_owned()
    }
}

/// All of what follows goes to this origin.
#[track_caller]
fn all_go_to(gateway: &Sluice, instance: &str) {
    let report = Load::to(gateway.address()).connections(8).run_count(60);
    report.expect_no_failures();
    assert_eq!(report.share(instance), 1.0, "{report}");
}

#[test]
fn versions_policies_and_history_of_versions_survive_a_restart_and_a_kill() {
    let home = Home::new();
    let mut gateway = home.start();
    let first = text(&gateway.push("own", &built("first-slot"))["version"]);
    let second = text(&gateway.push("own", &built("second-slot"))["version"]);
    let third = gateway.upload("own", &rebuilt(&built("first-slot"), 3));
    let stock = gateway.active("round-robin");
    let pushed = text(&gateway.push("round-robin", &built("first-slot"))["version"]);
    gateway.set_balancer("orders", "own", json!({}));
    let shown = |gateway: &Sluice| (versions(gateway, "own"), versions(gateway, "round-robin"));
    let before = shown(&gateway);
    assert_eq!(gateway.terminate().code(), Some(0));

    for kill in [true, false, true] {
        let mut gateway = home.start();
        all_go_to(&gateway, "b");
        let balancer = gateway.service("orders")["balancer"].clone();
        assert_eq!([&balancer["plugin"], &balancer["version"], &balancer["source"]], ["own", &second[..], "overlay"]);
        assert_eq!(shown(&gateway), before);
        assert_eq!(gateway.plugin("own")["previous"], json!([first]));
        assert_eq!(gateway.plugin("round-robin")["previous"], json!([stock]));
        assert_eq!(gateway.active("round-robin"), pushed);
        if kill {
            gateway.kill();
        } else {
            gateway.terminate();
        }
    }

    // What is there after a restart can be gone back to, brought into use, and taken away.
    let gateway = home.start();
    let post = |path: &str, body| gateway.control().post(path, &body);
    assert_eq!(post("/plugins/own/rollback", json!({})).expect(200).json()["version"], first);
    all_go_to(&gateway, "a");
    post("/plugins/own/rollback", json!({})).expect(409);
    assert_eq!(post("/plugins/own/activate", json!({"version": second})).expect(200).json()["version"], second);
    all_go_to(&gateway, "b");
    post("/plugins/own/activate", json!({"version": third})).expect(200);
    all_go_to(&gateway, "a");
    gateway.control().delete("/services/orders/overlay").expect(200);
    assert_eq!(gateway.service("orders")["balancer"]["source"], "file");
    assert_eq!(gateway.service("orders")["balancer"]["version"], pushed, "the plugin's version is another matter");
    gateway.control().delete("/plugins/round-robin").expect(200);
    assert_eq!(gateway.active("round-robin"), stock, "what the binary brings is in use again");
    drop(gateway);
    let gateway = home.start();
    assert_eq!(gateway.active("round-robin"), stock);
    assert_eq!(gateway.service("orders")["balancer"]["source"], "file");
}

#[test]
fn a_change_that_was_answered_survives_a_kill_at_once() {
    let home = Home::new();
    let mut gateway = home.start();
    gateway.push("own", &built("first-slot"));
    gateway.set_balancer("orders", "own", json!({}));
    for n in 0..6 {
        let (guest, instance) = [("second-slot", "b"), ("first-slot", "a")][n as usize % 2];
        let version = text(&gateway.push("own", &rebuilt(&built(guest), n))["version"]);
        gateway.kill();
        gateway = home.start();
        assert_eq!(gateway.active("own"), version);
        all_go_to(&gateway, instance);
    }
}

#[test]
fn a_kill_in_the_middle_of_changes_leaves_one_of_them_whole() {
    let home = Home::new();
    let mut gateway = home.start();
    gateway.push("own", &built("first-slot"));
    gateway.set_balancer("orders", "own", json!({}));
    for round in 0..4_u32 {
        let control = gateway.control();
        let known = fs::read_dir(home.data("plugins/own")).expect("a folder").count();
        let pushing = std::thread::spawn(move || {
            for n in 0.. {
                let (guest, path) = (["first-slot", "second-slot"][n as usize % 2], "/plugins/own");
                let component = rebuilt(&built(guest), round * 1_000 + n);
                let headers = [("content-type", "application/wasm")];
                // Until the gateway is gone.
                if control.try_send(http::Method::PUT, path, &headers, component).is_err() {
                    return;
                }
            }
        });
        wait_until("some pushes to have gone through", || {
            let now = fs::read_dir(home.data("plugins/own")).expect("a folder").count();
            now > known + 1 || now >= 12
        });
        gateway.kill();
        pushing.join().expect("pushing does not panic");
        gateway = home.start();
        assert!(gateway.history("warning").is_empty(), "{:?}", gateway.history("warning"));
        let report = Load::to(gateway.address()).connections(4).run_count(20);
        report.expect_no_failures();
        assert_eq!(report.by_instance().len(), 1, "one version decides: {report}");
        let left: Vec<_> = files(&home.data("plugins/own"));
        assert!(left.iter().all(|name| name.ends_with(".wasm")), "nothing unfinished stays: {left:?}");
    }
}

#[test]
fn a_stored_component_that_is_damaged_is_named_and_the_rest_is_served() {
    let home = Home::new();
    let mut gateway = home.start();
    let version = text(&gateway.push("round-robin", &built("second-slot"))["version"]);
    all_go_to(&gateway, "b");
    gateway.terminate();
    fs::write(home.data(&format!("plugins/round-robin/{version}.wasm")), b"\0asm something else").expect("writable");
    let gateway = home.start();
    let warning = gateway.await_history("warning", &["round-robin", &version, "damaged", "upload it again"]);
    assert!(!warning.contains('\n'), "{warning}");
    let report = Load::to(gateway.address()).run_count(100);
    report.expect_no_failures();
    assert_eq!(report.by_instance().len(), 2, "the binary's own version decides: {report}");
    // And it can be uploaded again.
    gateway.push("round-robin", &built("second-slot"));
    all_go_to(&gateway, "b");
}

#[test]
fn an_overlay_that_cannot_be_understood_is_one_line_with_what_to_do() {
    let home = Home::new();
    home.start().terminate();
    for (content, words) in [
        ("{\"format\": 1, \"serv", "EOF"),
        ("{\"format\": 99}", "its format is 99, and this version reads format 1"),
        ("{\"format\": 1, \"sevices\": {}}", "sevices"),
        ("{\"format\": 1, \"plugins\": {\"own\": {\"active\": \"latest\"}}}", "12 hex digits"),
    ] {
        fs::write(home.data("overlay.json"), content).expect("a writable folder");
        let line = home.refuses_to_start();
        for word in ["overlay.json", "move it away", words] {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
    }
    fs::remove_file(home.data("overlay.json")).expect("it is there");
    home.start();
}

#[test]
fn an_overlay_whose_plugin_is_gone_does_not_keep_the_service_from_starting() {
    let home = Home::new();
    let mut gateway = home.start();
    gateway.push("own", &built("second-slot"));
    gateway.set_balancer("orders", "own", json!({}));
    gateway.terminate();
    fs::remove_dir_all(home.data("plugins/own")).expect("it is there");
    let gateway = home.start();
    gateway.await_history("warning", &["own"]);
    let report = Load::to(gateway.address()).run_count(100);
    report.expect_no_failures();
    assert_eq!(gateway.service("orders")["balancer"]["source"], "file");
}

#[test]
fn a_warm_start_compiles_nothing() {
    let home = Home::new();
    let mut gateway = home.start();
    gateway.push("own", &built("second-slot"));
    gateway.set_balancer("orders", "own", json!({}));
    gateway.terminate();
    let cached = files(&home.data("cache"));
    assert!(!cached.is_empty());
    let modified = |name: &String| {
        let file = fs::metadata(home.data("cache").join(name)).expect("it is there");
        file.modified().expect("this system knows")
    };
    let before: Vec<_> = cached.iter().map(modified).collect();
    let mut gateway = home.start();
    all_go_to(&gateway, "b");
    gateway.terminate();
    assert_eq!(files(&home.data("cache")), cached, "nothing new was compiled");
    assert_eq!(cached.iter().map(modified).collect::<Vec<_>>(), before, "nor anything again");
    // Compiled code that is damaged is made again, with one line that says so.
    for name in &cached {
        let path = home.data("cache").join(name);
        let mut code = fs::read(&path).expect("it is there");
        let middle = code.len() / 2;
        code[middle] ^= 1;
        fs::write(&path, code).expect("a writable folder");
    }
    let gateway = home.start();
    gateway.await_log(&["WARN", "damaged: compiling again"]);
    all_go_to(&gateway, "b");
    assert_eq!(files(&home.data("cache")), cached);
}

/// Versions with their use, in the order shown.
fn versions(gateway: &Sluice, plugin: &str) -> Vec<(String, String, bool)> {
    let plugin = gateway.plugin(plugin);
    let versions = plugin["versions"].as_array().expect("a list").iter();
    let mut versions: Vec<_> = versions
        .map(|version| (text(&version["version"]), text(&version["use"]), version["uploaded_at"].is_string()))
        .collect();
    versions.sort();
    versions
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("readable").file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
