//! Places for what a plugin says of its settings, and the data folder of a file with problems.

use crate::config::{Finding, data_dir, locate};

const TEXT: &str = r#"
[plugins.own]
path = "own.wasm"
[services.orders]
endpoints = ["127.0.0.1:9001"]
[services.orders.balancer]
plugin = "least-request"
settings = { choices = 0, steps = [1, -2], "a/b" = true }
"#;

#[test]
fn a_plugins_word_on_its_settings_is_shown_where_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    std::fs::write(&path, TEXT).unwrap();
    let orders = "orders".parse().unwrap();
    let own = "own".parse().unwrap();
    for (finding, place, key) in [
        (
            Finding::in_settings(&orders, "balancer", "/choices", String::new()),
            (8, 24),
            "services.orders.balancer.settings.choices",
        ),
        (
            Finding::in_settings(&orders, "balancer", "/steps/1", String::new()),
            (8, 39),
            "services.orders.balancer.settings.steps[1]",
        ),
        (
            Finding::in_settings(&orders, "balancer", "/a~1b", String::new()),
            (8, 52),
            "services.orders.balancer.settings.\"a/b\"",
        ),
        (
            Finding::in_settings(&orders, "balancer", "/absent/deep", String::new()),
            (8, 12),
            "services.orders.balancer.settings",
        ),
        (Finding::in_settings(&orders, "balancer", "", String::new()), (8, 12), "services.orders.balancer.settings"),
        (Finding::in_policy(&orders, "balancer", String::new()), (7, 10), "services.orders.balancer.plugin"),
        (Finding::in_component(&own, String::new()), (3, 8), "plugins.own.path"),
        (Finding::in_sha256(&own, String::new()), (2, 1), "plugins.own"),
    ] {
        let errors = locate(&path, vec![finding]);
        let problem = &errors.problems()[0];
        assert_eq!((problem.position.map(|at| (at.line, at.column)), problem.key.as_str()), (Some(place), key));
    }
    let errors = locate(&folder.path().join("gone"), vec![Finding::in_component(&own, "wrong".to_owned())]);
    assert!(errors.to_string().ends_with("gone: plugins.own.path: wrong"), "{errors}");
}

#[test]
fn the_data_folder_is_found_in_a_file_with_problems_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    for (text, dir) in [
        ("[gateway]\ndata_dir = \"d\"\nworkers = 0", "d"),
        ("[gateway]\ndata_dir = \"d\"\n[[[", "d"),
        ("[gateway]\ndata_dir = 5", "sluice-data"),
        ("", "sluice-data"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(data_dir(&path), folder.path().join(dir), "{text}");
    }
}
