//! Where problems are said to stand.

use super::{known, read};
use crate::config::{ConfigErrors, load};

fn shown(text: &str) -> Vec<String> {
    read(text).expect_err("wrong").to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_wrong_value_is_shown_where_it_stands_and_an_unknown_key_where_the_key_does() {
    let text = r#"[[listener]]
address = "127.0.0.1:8080"

[services.orders]
endpoints = ["127.0.0.1:9001"]
balancer = { plugin = "leest-request" }
timeuot = "1 s"
"#;
    assert_eq!(
        shown(text),
        [
            "sluice.toml:6:23: services.orders.balancer.plugin: no plugin named \"leest-request\"; did you mean \"least-request\"?",
            "sluice.toml:7:1: services.orders.timeuot: is no known key; did you mean \"timeout\"?",
        ]
    );
}

#[test]
fn a_missing_key_is_shown_at_its_table() {
    let text = "[[listener]]\naddress = \"127.0.0.1:1\"\n\n  [services.orders]\n";
    assert!(
        shown(text)[0].starts_with("sluice.toml:4:3: services.orders: \"endpoints\" is missing"),
        "{:?}",
        shown(text)
    );
}

#[test]
fn columns_count_characters_not_bytes() {
    let text =
        "# é\n[[listener]]\naddress = \"127.0.0.1:1\"\n[services.o]\nendpoints = [{ zone = \"éé\", address = 5 }]\n";
    assert_eq!(shown(text), ["sluice.toml:5:39: services.o.endpoints[0].address: must be host:port, not an integer"]);
}

#[test]
fn a_syntax_error_has_line_and_column_too() {
    let lines = shown("[gateway]\nworkers = \n");
    assert!(lines[0].starts_with("sluice.toml:2:11: is not TOML here: "), "{lines:?}");
    let lines = shown("[gateway]\nworkers = 1\nworkers = 2\n");
    assert!(lines[0].starts_with("sluice.toml:3:1: is not TOML here: "), "{lines:?}");
}

#[test]
fn every_syntax_error_is_listed() {
    let lines = shown("[gateway\nworkers = 1\n[services.]\nx = = 2\n");
    assert!(lines.len() >= 3, "{lines:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    let errors = |bytes: &[u8]| -> ConfigErrors {
        std::fs::write(&path, bytes).unwrap();
        load(&path, &known()).expect_err("wrong")
    };
    assert!(
        errors(b"[gateway]\nx = \"a\xff\"").to_string().contains("sluice.toml:2:7: this byte belongs to no character")
    );
    std::fs::remove_file(&path).unwrap();
    let message = load(&path, &known()).expect_err("absent").to_string();
    assert_eq!(message, format!("{}: cannot be read: No such file or directory (os error 2)", path.display()));
}

#[test]
fn files_that_the_configuration_names_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[plugins.own]\npath = \"own.wasm\"\n[control]\noperator_token_file = \"token\"\n";
    std::fs::write(&path, text).unwrap();
    std::fs::create_dir(folder.path().join("token")).unwrap();
    let errors = load(&path, &known()).expect_err("both are wrong").to_string();
    assert!(errors.contains(":4:8: plugins.own.path: "), "{errors}");
    assert!(errors.contains("own.wasm cannot be read: No such file"), "{errors}");
    assert!(errors.contains("token cannot be read: it is not a file"), "{errors}");

    std::fs::remove_dir(folder.path().join("token")).unwrap();
    std::fs::write(folder.path().join("token"), "secret").unwrap();
    std::fs::write(folder.path().join("own.wasm"), "").unwrap();
    let config = load(&path, &known()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.plugins.values().next().unwrap().path, Some(folder.path().join("own.wasm")));
}
