//! The command as a shell sees it: exit codes, what goes to stdout and what to stderr, signals.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Output},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use sluice::plugin::stock;
use sluice_harness::{DEADLINE, HeldPort, Origin, RawConnection, Sluice, any_route, sluice, wait_for, wait_until};

/// Runs `sluice ARGUMENTS…` against a gateway.
fn command(gateway: &Sluice, arguments: &[&str]) -> Output {
    let control = format!("http://{}", gateway.control_address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).env("SLUICE_CONTROL", control).output().expect("the binary is built")
}

/// The same, which must exit with `code`; what it printed on stdout and stderr.
#[track_caller]
fn expect(gateway: &Sluice, code: i32, arguments: &[&str]) -> (String, String) {
    let output = command(gateway, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the command prints UTF-8")
}

/// A stock plugin's component in a file of its own.
fn stock_file(folder: &tempfile::TempDir, name: &str) -> String {
    let plugin = stock().iter().find(|plugin| plugin.name == name);
    let component = plugin.unwrap_or_else(|| panic!("{name} is not built in: run `make plugins`")).component;
    let path = folder.path().join(format!("{name}.wasm"));
    fs::write(&path, component).expect("a temporary folder");
    path.display().to_string()
}

#[test]
fn a_wrong_configuration_is_refused_whole_before_anything_is_bound() {
    // Whoever binds fails: an exit code of 2 shows that nobody tried.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        "[gateway]\nworkerz = 2\ndata_dir = \"data\"\n[[listener]]\naddress = \"{address}\"\n\
         [services.orders]\nendpoints = [\"127.0.0.1\"]\ntimeout = 15\n[[route]]\npath = \"/\"\nservice = \"ordres\"\n"
    );
    for subcommand in ["run", "check"] {
        let ended = sluice!().config_verbatim(&config).directory(folder.path()).run_to_end(subcommand);
        assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
        let file = folder.path().join("sluice.toml");
        let places: Vec<_> =
            ended.stderr.lines().map(|line| line.strip_prefix(&format!("{}:", file.display()))).collect();
        let begins =
            ["2:1: gateway.workerz: ", "7:14: services.orders.endpoints[0]: ", "8:11: ", "11:11: route[0].service: "];
        assert_eq!(places.len(), begins.len(), "{}", ended.stderr);
        for (place, begin) in places.iter().zip(begins) {
            assert!(place.is_some_and(|place| place.starts_with(begin)), "{place:?} does not begin with {begin:?}");
        }
        assert!(ended.stderr.contains("did you mean \"orders\"?"));
        assert!(!folder.path().join("data").exists(), "nothing was made");
    }
}

#[test]
fn settings_that_a_plugin_refuses_are_shown_where_they_stand() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let config = format!(
        "[[listener]]\naddress = \"{}\"\n[services.orders]\nendpoints = [\"127.0.0.1:1\"]\n\
         balancer = {{ plugin = \"least-request\", settings = {{ choices = 0, chioces = 2 }} }}\n",
        taken.local_addr().expect("it is bound")
    );
    for subcommand in ["run", "check"] {
        let ended = sluice!().config_verbatim(&config).run_to_end(subcommand);
        assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{}", ended.stderr);
        assert!(lines[0].contains(":5:63: services.orders.balancer.settings.choices: "), "{}", lines[0]);
        assert!(lines[1].contains(":5:76: services.orders.balancer.settings.chioces: "), "{}", lines[1]);
    }
}

#[test]
fn check_accepts_what_run_would_serve_and_lists_problems_as_json() {
    let right = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    let ended = sluice!().config_verbatim(right).run_to_end("check");
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.ends_with("is right: 1 listener, 0 services, 0 routes"), "{}", ended.stdout);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sluice.toml");
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["check", "--json", "--config"]).arg(&path).output().expect("the binary is built")
    };
    fs::write(&path, right).expect("a temporary folder");
    assert_eq!((check().status.code(), text(&check().stdout)), (Some(0), "[]\n".to_owned()));
    fs::write(&path, "[[listener]]\naddress = \"x\"\nport = 1\n").expect("a temporary folder");
    assert_eq!(check().status.code(), Some(2));
    let problems: Value = serde_json::from_slice(&check().stdout).expect("JSON");
    let places: Vec<_> =
        problems.as_array().expect("a list").iter().map(|it| (&it["line"], &it["column"], &it["key"])).collect();
    assert_eq!(
        serde_json::json!(places),
        serde_json::json!([[2, 11, "listener[0].address"], [3, 1, "listener[0].port"]])
    );
}

#[test]
fn what_cannot_be_started_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let one_line = |config: &str, says: &str| {
        let ended = sluice!().config(config).run_to_end("run");
        assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
        let said: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("sluice: ")).collect();
        assert_eq!(said.len(), 1, "{}", ended.stderr);
        assert!(said[0].contains(says), "{:?} does not say {says:?}", said[0]);
    };
    one_line(&format!("[[listener]]\naddress = \"{address}\""), &format!("cannot listen on {address}"));
    one_line(&format!("[control]\naddress = \"{address}\""), &format!("cannot listen on {address}"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let below = file.path().join("data");
    one_line(&format!("[gateway]\ndata_dir = {below:?}"), &format!("data_dir cannot be used: {}", below.display()));
}

#[test]
fn two_gateways_never_share_a_data_dir() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _first = sluice!().directory(folder.path()).start();
    let ended = sluice!().directory(folder.path()).run_to_end("run");
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr.contains("is in use by another gateway"), "{}", ended.stderr);
}

#[test]
fn a_changed_file_is_adopted_and_a_wrong_one_changes_nothing() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let config = |origin: &Origin| any_route("orders", &[origin.address()], "");
    let gateway = sluice!().config(config(&one)).start();
    assert_eq!(gateway.client().get("/").expect(200).instance(), "one");

    gateway.rewrite_config(&config(&two));
    wait_until("the new configuration to be in use", || gateway.client().get("/").expect(200).instance() == "two");

    let wrong = format!("{}[[route]]\npath = \"nowhere\"\nservice = \"orders\"\n", config(&one));
    gateway.rewrite_config(&wrong);
    gateway.await_log(&["route[1].path", "must begin with '/'"]);
    assert_eq!(gateway.client().get("/").expect(200).instance(), "two");

    gateway.rewrite_config(&format!("[gateway]\nworkers = 1\n{}", config(&one)));
    gateway.await_log(&["gateway.workers changes from 2 to 1, which needs a restart"]);
    assert_eq!(gateway.client().get("/").expect(200).instance(), "two");
}

#[test]
fn sighup_takes_a_plugin_file_that_changed_though_the_configuration_did_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::rename(stock_file(&folder, "round-robin"), folder.path().join("own.wasm")).expect("a temporary folder");
    let origin = Origin::start("one");
    let service = any_route("orders", &[origin.address()], "balancer = { plugin = \"own\" }");
    let config = format!("{service}[plugins.own]\npath = \"own.wasm\"\n");
    let gateway = sluice!().config(config).directory(folder.path()).start();
    let version = || gateway.service("orders")["balancer"]["version"].as_str().map(str::to_owned);
    let before = version();
    fs::rename(stock_file(&folder, "least-request"), folder.path().join("own.wasm")).expect("a temporary folder");
    gateway.signal(Signal::HUP);
    wait_until("the file's new version to be in use", || version() != before);
    assert_eq!(gateway.client().get("/").expect(200).instance(), "one");
}

#[test]
fn a_first_signal_lets_requests_end_and_a_second_does_not() {
    let origin = Origin::start("slow");
    origin.set_delay(DEADLINE);
    let config = format!("[gateway]\ngrace_period = \"10 min\"\n{}", any_route("orders", &[origin.address()], ""));
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = sluice!().config(&config).start();
        let before = origin.requests();
        let mut waiting = RawConnection::to(gateway.address());
        waiting.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        wait_until("the request to arrive", || origin.requests() > before);
        gateway.signal(signal);
        gateway.await_log(&["shutting down; a second signal ends at once"]);
        gateway.signal(signal);
        assert_eq!(gateway.await_exit().code(), Some(1), "requests were cut off");
    }
}

#[test]
fn a_gateway_without_work_ends_at_the_first_signal_with_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = sluice!().start();
        gateway.signal(signal);
        assert_eq!(gateway.await_exit().code(), Some(0));
    }
}

#[test]
fn plugins_are_replaced_from_the_shell() {
    let origin = Origin::start("one");
    let gateway = sluice!().config(any_route("orders", &[origin.address()], "")).start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (stock_file(&folder, "least-request"), stock_file(&folder, "round-robin"));

    let (pushed, progress) = expect(&gateway, 0, &["plugin", "push", "mine", &first]);
    assert!(pushed.starts_with("plugin mine, version "), "{pushed}");
    assert!(progress.contains("KiB") && progress.contains("compiles"), "{progress}");
    let (set, _) = expect(&gateway, 0, &["service", "set", "orders", "--balancer", "mine"]);
    assert!(set.contains("in use on 2 workers"), "{set}");

    let (pushed, progress) = expect(&gateway, 0, &["plugin", "push", "mine", &second, "--json"]);
    let version =
        |answer: &str| serde_json::from_str::<Value>(answer).expect("JSON")["version"].as_str().map(str::to_owned);
    let second_version = version(&pushed).expect("the version in use");
    assert_eq!(progress, "", "programs need no progress");
    let (listed, _) = expect(&gateway, 0, &["plugin", "list"]);
    assert!(
        listed
            .lines()
            .any(|line| ["mine", "active", "orders", second_version.as_str()].iter().all(|part| line.contains(part)))
    );

    let (back, _) = expect(&gateway, 0, &["plugin", "rollback", "mine", "--json"]);
    let first_version = version(&back).expect("the version in use");
    assert_ne!(first_version, second_version);
    let canary = ["plugin", "canary", "mine", &second_version, "--percent", "10"];
    expect(&gateway, 0, &canary);
    let (shown, _) = expect(&gateway, 0, &["service", "show", "orders"]);
    assert!(shown.contains("90 %") && shown.contains("10 %"), "{shown}");
    expect(&gateway, 0, &["plugin", "canary", "mine", "--end"]);
    expect(&gateway, 0, &["plugin", "activate", "mine", &second_version]);

    let (reset, _) = expect(&gateway, 0, &["service", "set", "orders", "--reset"]);
    assert!(reset.contains("in use on 2 workers"), "{reset}");
    let (listed, _) = expect(&gateway, 0, &["service", "list"]);
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("orders ") && line.contains("least-request") && line.contains("1/1"))
    );
}

#[test]
fn what_the_gateway_refuses_is_said_problem_by_problem() {
    let origin = Origin::start("one");
    let gateway = sluice!().config(any_route("orders", &[origin.address()], "")).start();
    let set = ["service", "set", "orders", "--balancer", "least-request", "--settings", r#"{"choices": 0, "x": 1}"#];
    let (stdout, stderr) = expect(&gateway, 4, &set);
    assert_eq!(stdout, "");
    assert!(stderr.lines().any(|line| line.contains("/balancer/settings/choices: ")), "{stderr}");
    assert!(stderr.lines().any(|line| line.contains("/balancer/settings/x: ")), "{stderr}");
    let (stdout, _) = expect(&gateway, 4, &[&set[..], &["--json"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&stdout).expect("a problem document")["status"], 422);

    expect(&gateway, 4, &["service", "show", "nobody"]);
    expect(&gateway, 4, &["plugin", "rollback", "least-request"]);
    expect(&gateway, 4, &["plugin", "activate", "least-request", "0123456789ab"]);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    expect(&gateway, 4, &["plugin", "push", "empty", &file.path().display().to_string()]);
}

#[test]
fn what_is_wrong_before_it_is_sent_exits_with_2_and_nobody_there_with_3() {
    let held = HeldPort::any();
    let free = held.address();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(arguments).env("SLUICE_CONTROL", format!("http://{free}")).output().expect("the binary is built")
    };
    for wrong in [
        &["plugin", "push", "no-such-file.wasm"][..],
        &["plugin", "list", "--control", "https://gw"],
        &["plugin", "list", "--token-file", "no-such-file"],
        &["service", "set", "orders", "--balancer", "x", "--settings", "[]"],
        &["plugin", "check", "no-such-file.wasm"],
        &["frobnicate"],
    ] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", text(&output.stderr));
    }
    for arguments in [&["plugin", "list"][..], &["service", "show", "orders"], &["plugin", "canary", "x", "--end"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&format!("no gateway answers at http://{free}: Connection refused")), "{stderr}");
    }
    let output = run(&["plugin", "list", "--json"]);
    assert!(serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["error"].is_string());
}

#[test]
fn plugin_check_says_what_a_gateway_would_without_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["plugin", "check"]).args(arguments).output().expect("the binary is built")
    };
    for (name, kind, setting) in [
        ("least-request", "a balancer of ", "choices"),
        ("breaker", "a failover of ", "consecutive"),
        ("two-phase-commit", "a transaction of ", "prepare_attempts"),
    ] {
        let file = stock_file(&folder, name);
        let settings = |value: &str| format!("{{\"{setting}\": {value}}}");
        let right = check(&[&file, "--settings", &settings("3")]);
        assert_eq!(right.status.code(), Some(0), "{}", text(&right.stderr));
        assert!(text(&right.stdout).contains(kind), "{}", text(&right.stdout));
        assert!(text(&right.stdout).contains("takes these settings"), "{}", text(&right.stdout));
        let wrong = check(&[&file, "--settings", &settings("-1")]);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(text(&wrong.stderr).contains(&format!("  /{setting}: ")), "{}", text(&wrong.stderr));
    }
    let noise = folder.path().join("noise.wasm");
    fs::write(&noise, "\0asm and then nothing of it").expect("a temporary folder");
    let noise = check(&[&noise.display().to_string()]);
    assert_eq!((noise.status.code(), text(&noise.stderr).lines().count()), (Some(2), 1), "{}", text(&noise.stderr));
}

#[test]
fn an_operator_proves_who_it_is_with_a_token_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    fs::write(&token, "open-sesame\n").expect("a temporary folder");
    let gateway = sluice!().config(format!("[control]\noperator_token_file = {token:?}")).start();
    let (_, stderr) = expect(&gateway, 4, &["plugin", "list"]);
    assert!(stderr.contains("token"), "{stderr}");
    expect(&gateway, 0, &["plugin", "list", "--token-file", &token.display().to_string()]);
    let log = wait_for("the log", Duration::from_secs(5), || Some(gateway.log()).filter(|log| !log.is_empty()));
    assert!(!log.iter().any(|line| line.contains("open-sesame")), "a token is never logged");
}

#[test]
fn instances_come_and_go_by_the_command_line() {
    let gateway = sluice!().config("").start();
    let origin = Origin::start("a");
    let address = origin.address().to_string();
    let (said, _) = expect(&gateway, 0, &["registry", "register", "web", &address, "--tag", "blue", "--meta", "a=b"]);
    assert_eq!(said, format!("registered web:{address}\n"));
    let beating = ["registry", "register", "web", "10.0.0.7:80", "--id", "web/2", "--ttl", "10s", "--json"];
    assert_eq!(expect(&gateway, 0, &beating).0, "{\"id\":\"web/2\"}\n");
    wait_until("the gateway to have connected", || {
        let list = expect(&gateway, 0, &["registry", "list"]).0;
        list.lines().any(|line| line.contains(&address) && line.contains("passing"))
    });
    let list: Value = serde_json::from_str(&expect(&gateway, 0, &["registry", "list", "--json"]).0).expect("JSON");
    let seen = |list: &Value, id: &str| list["instances"].as_array()?.iter().find(|it| it["id"] == id).cloned();
    assert_eq!(seen(&list, "web/2").expect("it is there")["checks"][0]["kind"], "ttl");

    expect(&gateway, 0, &["registry", "maintenance", "web/2", "--on", "--reason", "a new disk & more"]);
    assert!(expect(&gateway, 0, &["registry", "list"]).0.contains("maintenance: a new disk & more"));
    expect(&gateway, 0, &["registry", "maintenance", "web/2", "--off"]);
    expect(&gateway, 0, &["registry", "maintenance", "--on"]);
    assert!(expect(&gateway, 0, &["registry", "list"]).0.contains("the node is in maintenance"));
    expect(&gateway, 0, &["registry", "maintenance", "--off"]);

    assert_eq!(expect(&gateway, 0, &["registry", "deregister", "web/2"]).0, "deregistered web/2\n");
    let (_, why) = expect(&gateway, 4, &["registry", "deregister", "web/2"]);
    assert!(why.contains("no service is registered with the id \"web/2\""), "{why}");
    let (_, why) = expect(&gateway, 4, &["registry", "register", "a b", "10.0.0.7:80"]);
    assert!(why.contains("Name: must be"), "{why}");
    expect(&gateway, 4, &["registry", "maintenance", "none", "--on"]);
    expect(&gateway, 2, &["registry", "register", "web", "10.0.0.7"]);
}
