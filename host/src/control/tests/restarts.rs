//! What a restart keeps, and what keeps the gateway from starting.

use std::fs;

use serde_json::json;

use super::{Testbed, guests};
use crate::{
    control::{known_plugins, run::RunError},
    model::VersionId,
};

#[test]
fn versions_and_policies_set_over_the_api_survive_a_restart() {
    let mut bed = Testbed::start(&guests::first());
    bed.control().put_component("/plugins/other", &guests::first_too()).expect(200);
    bed.control().put_component("/plugins/other", &guests::second()).expect(200);
    bed.control().patch("/services/orders", &json!({"balancer": {"plugin": "other"}})).expect(200);
    bed.stop();
    bed.run().expect("it starts again");
    bed.all_go_to("b", 10);
    bed.control().post("/plugins/other/rollback", &json!({})).expect(200);
    bed.all_go_to("a", 10);
    bed.stop();
    bed.run().expect("it starts again");
    bed.all_go_to("a", 10);
    assert!(known_plugins(&bed.path("data")).contains(&"other".parse().expect("a name")));
}

#[test]
fn a_damaged_version_is_set_aside_and_the_service_served_without_it() {
    let mut bed = Testbed::start(&guests::first());
    bed.push(&guests::second());
    bed.stop();
    let file = format!("data/plugins/own/{}.wasm", VersionId::of(&guests::second()));
    fs::write(bed.path(&file), b"not a component").expect("a writable folder");
    bed.run().expect("it starts all the same");
    bed.all_go_to("a", 10);
    let warning = bed.history("warning").remove(0);
    assert!(warning["message"].as_str().is_some_and(|message| message.contains("damaged")), "{warning}");
}

#[test]
fn a_corrupt_overlay_keeps_the_gateway_from_starting_and_says_what_to_do() {
    let mut bed = Testbed::prepare(&guests::first());
    fs::create_dir_all(bed.path("data")).expect("a writable folder");
    fs::write(bed.path("data/overlay.json"), b"{").expect("a writable folder");
    let error = bed.run().expect_err("it must not guess").to_string();
    assert!(error.contains("overlay.json") && error.contains("move it away") && !error.contains('\n'), "{error}");
}

#[test]
fn an_address_in_use_is_one_line_and_leaves_nothing_running() {
    let mut bed = Testbed::prepare(&guests::first());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let text = bed.config("");
    let listener = text.replacen("address = \"127.0.0.1:0\"", &format!("address = \"{address}\""), 1);
    let control = text
        .replace("[control]\n            address = \"127.0.0.1:0\"", &format!("[control]\n address = \"{address}\""));
    for config in [listener, control] {
        bed.write_config(&config);
        let error = bed.run().expect_err("the address is in use").to_string();
        assert!(error.contains(&address) && error.contains("in use") && !error.contains('\n'), "{error}");
    }
    drop(taken);
    bed.write_config(&text);
    bed.run().expect("nothing of the failed starts is in the way");
}

#[test]
fn two_gateways_do_not_share_a_data_dir() {
    let bed = Testbed::start(&guests::first());
    let mut other = Testbed::prepare(&guests::first());
    other.write_config(&bed.config(""));
    match other.run() {
        Err(RunError::DataDirInUse { path }) => assert_eq!(path, bed.path("data")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_data_dir_that_cannot_be_written_is_one_line() {
    let mut bed = Testbed::prepare(&guests::first());
    // A file where the folder should be fails for root too.
    fs::write(bed.path("data"), b"").expect("a writable folder");
    let error = bed.run().expect_err("no folder").to_string();
    assert!(error.starts_with("data_dir cannot be used: ") && !error.contains('\n'), "{error}");
}

#[test]
fn a_plugin_that_does_not_take_the_files_settings_keeps_the_gateway_from_starting() {
    let mut bed = Testbed::prepare(&guests::choosy());
    let text = bed.config("").replace("plugin = \"own\"", "plugin = \"own\", settings = { choices = 2 }");
    bed.write_config(&text);
    let error = bed.run().expect_err("the settings are wrong").to_string();
    assert!(error.contains("orders") && error.contains("/choices") && !error.contains('\n'), "{error}");
}
