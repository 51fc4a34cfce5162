//! What a running gateway cannot take over from a new configuration.

use std::fmt::Display;

use crate::model::{Config, DnsOptions, ListenerOptions};

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
