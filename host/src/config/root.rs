//! The whole file: its sections, and what must hold between them.

use std::{net::SocketAddr, path::Path};

use super::{
    control, dns, document, events, gateway,
    known::Known,
    listener, plugins,
    problem::ConfigErrors,
    reader::{FileCheck, Table},
    registry, route, service, transactions,
};
use crate::model::Config;

pub(super) fn read(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    known: &Known,
    file_check: FileCheck,
) -> Result<Config, ConfigErrors> {
    document::walk(text, file_name, base_dir, known, file_check, sections)
}

/// None only where something was refused.
fn sections(root: &mut Table<'_>) -> Option<Config> {
    let gateway = gateway::read(root);
    let control = control::read(root);
    let listeners = listener::read(root, control.address);
    let dns = dns::read(root, control.address, &listeners);
    let registry = registry::read(root);
    let (plugins, named) = plugins::read(root);
    let services = service::read(root, &plugins, gateway.zone.as_deref());
    named.iter().for_each(|value| drop(services.named(value)));
    let routes = route::read(root, &services);
    let transactions = transactions::read(root, &plugins);
    let events = events::read(root, &plugins);
    Some(Config {
        gateway,
        listeners,
        control,
        dns,
        registry,
        transactions,
        events,
        plugins,
        services: services.into_checked()?,
        routes,
    })
}

/// Whether both would bind the same port; a port of 0 is another one each time.
pub(super) fn same_port(one: SocketAddr, other: SocketAddr) -> bool {
    one == other && one.port() != 0
}
