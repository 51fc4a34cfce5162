//! What a running gateway cannot take over from a new configuration.

use std::{fmt::Display, path::PathBuf};

use crate::model::{Config, DnsOptions, ListenerOptions, Percent};

/// One sentence for each difference that needs a restart; empty where the new configuration can be adopted.
pub fn restart_differences(old: &Config, new: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |key: &str, old: String, new: String| {
        if old != new {
            differences.push(format!("{key} changes from {old} to {new}, which needs a restart"));
        }
    };
    compare("gateway.workers", old.gateway.workers.to_string(), new.gateway.workers.to_string());
    compare("gateway.data_dir", quoted(old.gateway.data_dir.display()), quoted(new.gateway.data_dir.display()));
    compare("listener", addresses(&old.listeners), addresses(&new.listeners));
    compare("control.address", quoted(old.control.address), quoted(new.control.address));
    compare("dns", dns(old.dns.as_ref()), dns(new.dns.as_ref()));
    let tokens = |config: &Config| {
        let file = |file: &Option<PathBuf>| file.as_ref().map_or("none".to_owned(), |file| quoted(file.display()));
        (file(&config.control.operator_token_file), file(&config.control.service_token_file))
    };
    let ((old_operator, old_service), (new_operator, new_service)) = (tokens(old), tokens(new));
    compare("control.operator_token_file", old_operator, new_operator);
    compare("control.service_token_file", old_service, new_service);
    let (old_expiry, new_expiry) = (&old.registry.mass_expiry, &new.registry.mass_expiry);
    let percent = |percent: Percent| percent.get().to_string();
    compare("registry.mass_expiry_percent", percent(old_expiry.percent), percent(new_expiry.percent));
    let hold = |hold| quoted(humantime::format_duration(hold));
    compare("registry.mass_expiry_hold", hold(old_expiry.hold), hold(new_expiry.hold));
    let retention = |config: &Config| quoted(humantime::format_duration(config.transactions.retention));
    compare("transactions.retention", retention(old), retention(new));
    differences
}

fn quoted(value: impl Display) -> String {
    format!("\"{value}\"")
}

fn addresses(listeners: &[ListenerOptions]) -> String {
    let addresses: Vec<String> = listeners.iter().map(|listener| quoted(listener.address)).collect();
    format!("[{}]", addresses.join(", "))
}

fn dns(options: Option<&DnsOptions>) -> String {
    let Some(DnsOptions { address, domain, ttl }) = options else { return "none".to_owned() };
    let ttl = humantime::format_duration(*ttl);
    format!("{{ address = \"{address}\", domain = \"{domain}\", ttl = \"{ttl}\" }}")
}
