//! What cannot be reloaded.

use super::{RIGHT, read, right_with};
use crate::config::restart_differences;

#[test]
fn what_needs_a_restart_is_named_and_the_rest_is_not() {
    let old = right_with("");
    let same = right_with("[gateway]\ngrace_period = \"1 s\"\n[[route]]\npath = \"/\"\nservice = \"orders\"");
    assert_eq!(restart_differences(&old, &same), [""; 0]);

    let workers = old.gateway.workers.get() + 1;
    let more = format!(
        "[gateway]\nworkers = {workers}\ndata_dir = \"x\"\n[control]\naddress = \"127.0.0.1:1\"\n\
         [dns]\naddress = \"127.0.0.1:2\""
    );
    let new = read(&format!("{}{more}", RIGHT.replace("8080", "8081"))).unwrap();
    assert_eq!(
        restart_differences(&old, &new),
        [
            format!("gateway.workers changes from {} to {workers}, which needs a restart", workers - 1),
            "gateway.data_dir changes from \"/etc/sluice/sluice-data\" to \"/etc/sluice/x\", which needs a restart"
                .to_owned(),
            "listener changes from [\"127.0.0.1:8080\"] to [\"127.0.0.1:8081\"], which needs a restart".to_owned(),
            "control.address changes from \"127.0.0.1:9180\" to \"127.0.0.1:1\", which needs a restart".to_owned(),
            "dns changes from none to { address = \"127.0.0.1:2\", domain = \"consul\", ttl = \"0s\" }, \
             which needs a restart"
                .to_owned(),
        ]
    );
}

#[test]
fn what_the_registry_began_with_holds_until_a_restart() {
    let differences = |more: &str| restart_differences(&right_with(""), &right_with(more));
    for (more, key) in [
        ("[registry]\nmass_expiry_percent = 15", "registry.mass_expiry_percent changes from 50 to 15"),
        ("[registry]\nmass_expiry_hold = \"1 h\"", "registry.mass_expiry_hold changes from \"10m\" to \"1h\""),
        (
            "[control]\noperator_token_file = \"t\"",
            "control.operator_token_file changes from none to \"/etc/sluice/t\"",
        ),
    ] {
        assert_eq!(differences(more), [format!("{key}, which needs a restart")]);
    }
}
