//! `[gateway]`: what holds for the whole process.

use std::{net::IpAddr, num::NonZeroUsize, time::Duration};

use ipnet::IpNet;

use super::{
    defaults, limits,
    reader::{Table, Value},
};
use crate::model::{AccessLog, GatewayOptions, Limits};

/// More data-path threads than any machine that we know has cores: a larger number is a slip.
const WORKERS_MAX: i64 = 1024;

/// Longer than an orchestrator would wait.
const GRACE_PERIOD_MAX: Duration = Duration::from_secs(60 * 60);

pub(super) fn read(root: &mut Table<'_>) -> GatewayOptions {
    let mut options = GatewayOptions {
        workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        data_dir: root.cx().base_dir.join(defaults::DATA_DIR),
        trusted_proxies: Vec::new(),
        zone: None,
        nameservers: Vec::new(),
        grace_period: defaults::GRACE_PERIOD,
        access_log: defaults::ACCESS_LOG,
        limits: Limits::default(),
    };
    if let Some(mut table) = root.read("gateway", |value| value.table("a table: [gateway]")) {
        fill(&mut options, &mut table);
        table.finish();
    }
    options
}

fn fill(options: &mut GatewayOptions, table: &mut Table<'_>) {
    table.set(&mut options.workers, "workers", workers);
    table.set(&mut options.data_dir, "data_dir", Value::file_path);
    table.set(&mut options.trusted_proxies, "trusted_proxies", |value| {
        Some(value.distinct("a list such as [\"10.0.0.0/8\"]", proxy))
    });
    options.zone = table.read("zone", zone_name);
    table.set(&mut options.nameservers, "nameservers", |value| {
        Some(value.distinct("a list such as [\"10.0.0.2\"]", Value::name_server))
    });
    table.set(&mut options.grace_period, "grace_period", |value| value.duration(Duration::ZERO..=GRACE_PERIOD_MAX));
    table.set(&mut options.access_log, "access_log", access_log);
    table.set(&mut options.limits, "limits", limits::read);
}

/// Any name but an empty one.
fn zone_name(value: &Value<'_>) -> Option<String> {
    let zone = value.text("a zone's name, such as \"b\"")?;
    if zone.is_empty() {
        value.refuse("must be a zone's name; leave the key out where zones make no difference");
    }
    Some(zone.to_owned()).filter(|zone| !zone.is_empty())
}

fn workers(value: &Value<'_>) -> Option<NonZeroUsize> {
    let workers = value.integer(1..=WORKERS_MAX)?;
    usize::try_from(workers).ok().and_then(NonZeroUsize::new)
}

/// One address or a network, written from its first address.
fn proxy(value: &Value<'_>) -> Option<IpNet> {
    let wanted = "an IP address or network, such as \"10.0.0.7\" or \"10.0.0.0/8\"";
    let text = value.text(wanted)?;
    let Some(net) = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) else {
        value.refuse(format_args!("must be {wanted}, not {text:?}"));
        return None;
    };
    if net != net.trunc() {
        value.refuse(format_args!(
            "{text:?} is an address within a network; did you mean {:?}?",
            net.trunc().to_string()
        ));
        return None;
    }
    Some(net)
}

fn access_log(value: &Value<'_>) -> Option<AccessLog> {
    let wanted = "\"off\", \"on\" or { sample = 0.01 }";
    if value.value.is_table() {
        let mut table = value.table(wanted)?;
        let sample = table.require("sample", "0.01", |value| {
            value.number(wanted).filter(|&share| {
                let right = share > 0.0 && share <= 1.0;
                if !right {
                    value.refuse(format_args!("must be a share above 0 and up to 1, not {share}"));
                }
                right
            })
        });
        table.finish();
        return sample.map(AccessLog::Sampled);
    }
    match value.text(wanted)? {
        "off" => Some(AccessLog::Off),
        "on" => Some(AccessLog::On),
        other => {
            value.refuse(format_args!("must be {wanted}, not {other:?}"));
            None
        }
    }
}
