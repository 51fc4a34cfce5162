//! No text may make the configuration's reader panic, and what is wrong is always shown with a place in the text.

use std::path::Path;

use sluice::config::{Known, parse};

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let known: Known =
        ["least-request", "round-robin", "standard"].iter().map(|name| name.parse().expect("a name")).collect();
    match parse(&text, "sluice.toml", Path::new("/etc/sluice"), &known) {
        Ok(config) => {
            assert!(!config.listeners.is_empty());
            for route in &config.routes {
                assert!(!route.targets.is_empty(), "{route:?}");
                assert!(route.targets.iter().all(|target| config.services.contains_key(&target.service)), "{route:?}");
            }
        }
        Err(errors) => assert!(errors.to_string().contains("sluice.toml"), "{errors}"),
    }
}
