//! `[plugins.NAME]`, and policies in TOML and JSON.

use serde_json::json;

use super::{assert_one_problem, known, problems_with, right_with};
use crate::config::{PointerProblem, policy_from_json};

#[test]
fn a_plugin_that_is_not_built_in_needs_a_path() {
    assert_one_problem("[plugins.own]", &["plugins.own", "\"path\" is missing"]);
    right_with("[plugins.round-robin]\nmemory_max = \"8 MiB\"");
    right_with("[plugins.round-robin]\npath = \"mine.wasm\"");
}

#[test]
fn a_digest_is_64_hex_digits_of_a_file() {
    assert_one_problem("[plugins.own]\npath = \"a\"\nsha256 = \"abc\"", &["plugins.own.sha256", "64 hex digits"]);
    let digest = "0".repeat(64);
    assert_one_problem(&format!("[plugins.ring-hash]\nsha256 = \"{digest}\""), &["says nothing without \"path\""]);
}

#[test]
fn plugin_names_are_checked() {
    assert_one_problem("[plugins.Own]\npath = \"a\"", &["plugins.Own", "a-z"]);
    assert_one_problem("[plugins.\"a b\"]\npath = \"a\"", &["plugins.\"a b\""]);
}

#[test]
fn grants_are_hosts_names_and_files() {
    let config = right_with(
        "[plugins.ring-hash]\nallow_hosts = [\"10.0.0.1:80\", \"consul.internal\"]\nallow_names = [\"*.internal\"]\n\
         allow_files = [\"list.json\", \"/srv/list.toml\"]",
    );
    let grants = &config.plugins[&"ring-hash".parse().unwrap()].grants;
    assert!(grants.allows_host("consul.internal", 8500) && !grants.allows_host("10.0.0.1", 81));
    assert!(grants.allows_name("orders.internal") && !grants.allows_name("internal"));
    let resolved = |path: &str| grants.file(path).map(|path| path.display().to_string());
    assert_eq!(resolved("list.json").as_deref(), Some("/etc/sluice/list.json"));
    assert_eq!(resolved("/etc/sluice/list.json").as_deref(), Some("/etc/sluice/list.json"));
    assert_eq!(resolved("/srv/list.toml").as_deref(), Some("/srv/list.toml"));
    assert_eq!(resolved("../sluice/list.json"), None);
    assert_one_problem("[plugins.ring-hash]\nallow_hosts = [\"http://a\"]", &["allow_hosts[0]", "host:port or a host"]);
    assert_one_problem("[plugins.ring-hash]\nallow_names = [\"a b\"]", &["allow_names[0]", "*.internal"]);
    assert_one_problem("[plugins.ring-hash]\nallow_files = [7]", &["allow_files[0]", "path"]);
}

#[test]
fn a_plugin_is_granted_services_that_exist() {
    let text = |allowed: &str| {
        format!("[plugins.ring-hash]\nallow_services = {allowed}\n[services.shop]\nendpoints = [\"a:1\"]")
    };
    let config = right_with(&text("[\"shop\"]"));
    assert_eq!(config.plugins[&"ring-hash".parse().unwrap()].grants.services, ["shop".parse().unwrap()]);
    assert_one_problem(&text("[\"shpo\"]"), &["allow_services[0]", "no service named", "did you mean \"shop\"?"]);
    assert_one_problem(&text("[\"http://orders\"]"), &["allow_services[0]", "no service named"]);
    assert_one_problem(&text("[7]"), &["allow_services[0]", "a service's name"]);
    assert_one_problem(&text("\"shop\""), &["allow_services", "a list"]);
    assert_one_problem(&text("[\"shop\", \"shop\"]"), &["allow_services[1]", "already"]);
}

#[test]
fn a_policy_names_a_plugin_that_exists() {
    let service = |balancer: &str| format!("[services.x]\nendpoints = [\"a:1\"]\nbalancer = {balancer}");
    assert_one_problem(
        &service("{ plugin = \"rnd\" }"),
        &["no plugin named \"rnd\"", "least-request, ring-hash, round-robin, standard"],
    );
    assert_one_problem(&service("\"ring-hash\""), &["did you mean { plugin = \"ring-hash\" }?"]);
    assert_one_problem(&service("{}"), &["\"plugin\" is missing"]);
    assert_one_problem(&service("{ plugin = \"ring-hash\", setings = {} }"), &["did you mean \"settings\"?"]);
    assert_one_problem(&service("{ plugin = \"ring-hash\", settings = 1 }"), &["must be a table"]);
    right_with(&format!("{}\n[plugins.own]\npath = \"own.wasm\"", service("{ plugin = \"own\" }")));
    let own = format!("{}\n[plugins.tenant-affinity]\npath = \"own.wasm\"", service("{ plugin = \"tenant-afinity\" }"));
    assert_one_problem(&own, &["did you mean \"tenant-affinity\"?"]);
}

#[test]
fn a_policy_that_names_a_wrong_plugin_entry_is_no_further_problem() {
    let more = "[services.x]\nendpoints = [\"a:1\"]\nbalancer = { plugin = \"own\" }\n[plugins.own]\nmemory_max = 1";
    let problems = problems_with(more);
    assert!(problems.iter().all(|problem| problem.starts_with("plugins.own")), "{problems:?}");
}

#[test]
fn settings_hold_only_what_json_can() {
    let with = |setting: &str| {
        format!(
            "[services.x]\nendpoints = [\"a:1\"]\nbalancer = {{ plugin = \"ring-hash\", settings = {{ {setting} }} }}"
        )
    };
    assert_one_problem(&with("a = 1979-05-27"), &["settings.a", "a date cannot be given"]);
    assert_one_problem(&with("a = [1, inf]"), &["settings.a[1]", "a finite number"]);
    let both = problems_with(&with("a = nan, b = { c = 07:32:00 }"));
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn a_policy_in_json_is_checked_the_same_way() {
    let right = policy_from_json(&json!({"plugin": "ring-hash", "settings": {"points": 3}}), &known()).unwrap();
    assert_eq!((right.plugin.as_str(), right.settings), ("ring-hash", json!({"points": 3})));
    assert_eq!(policy_from_json(&json!({"plugin": "ring-hash"}), &known()).unwrap().settings, json!({}));

    let problems = policy_from_json(&json!({"plugin": "ring-hsh", "settings": [], "a/b~c": 1}), &known()).unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["/plugin", "/settings", "/a~1b~0c"]);
    assert_eq!(problems[0].message, "no plugin named \"ring-hsh\"; did you mean \"ring-hash\"?");

    for wrong in [json!(null), json!([]), json!("ring-hash")] {
        let problems = policy_from_json(&wrong, &known()).unwrap_err();
        assert!(matches!(problems.as_slice(), [PointerProblem { path, .. }] if path.is_empty()));
    }
    assert!(policy_from_json(&json!({}), &known()).unwrap_err()[0].message.contains("\"plugin\" is missing"));
    assert_eq!(policy_from_json(&json!({"plugin": 1}), &known()).unwrap_err()[0].path, "/plugin");
}
