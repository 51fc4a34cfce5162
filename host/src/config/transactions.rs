//! `[transactions]`: which protocols there are, and what they may call.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde_json::json;

use super::{
    policy,
    reader::{Key, Table, Value},
};
use crate::model::{PluginName, PluginOptions, PolicyConfig, ProtocolConfig, TransactionsConfig};

/// Below, a client that has just begun would lose its transaction; above, nobody waits for it any more.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 60 * 60);

/// Less, and a client that repeats itself would begin the same transaction anew; more belongs into an archive.
const RETENTION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 60 * 60);

/// Protocols that are there without being named, where their plugins are: by DTM's names for them too.
const STOCK: [(&str, &str); 6] = [
    ("two-phase-commit", "two-phase-commit"),
    ("xa", "two-phase-commit"),
    ("saga", "saga"),
    ("tcc", "tcc"),
    ("message", "message"),
    ("msg", "message"),
];

/// Longest name of a protocol: DTM's column for it takes as many.
const NAME_LEN_MAX: usize = 45;

pub(super) fn read(root: &mut Table<'_>, own_plugins: &BTreeMap<PluginName, PluginOptions>) -> TransactionsConfig {
    let mut config = TransactionsConfig::default();
    let known = root.cx().known;
    let stock = STOCK.iter().filter_map(|(name, plugin)| {
        let plugin: PluginName = plugin.parse().expect("stock plugins have right names");
        let is_there = known.contains(&plugin) || own_plugins.contains_key(&plugin);
        is_there.then(|| ((*name).to_owned(), ProtocolConfig { policy: PolicyConfig { plugin, settings: json!({}) } }))
    });
    config.protocols.extend(stock);
    let Some(mut table) = root.read("transactions", |value| value.table("a table: [transactions]")) else {
        return config;
    };
    if let Some(hosts) =
        table.read("allow_hosts", |value| Some(value.distinct("a list", |value| value.parsed("host:port or a host"))))
    {
        config.allow_hosts = hosts;
    }
    table.set(&mut config.retention, "retention", |value| value.duration(RETENTION));
    table.set(&mut config.timeout, "timeout", |value| value.duration(TIMEOUT));
    let wanted = "a table of protocols: [transactions.protocols.NAME]";
    let named = table.read("protocols", |value| value.entries(wanted)).unwrap_or_default();
    for (key, value) in &named {
        let protocol = protocol(value, own_plugins);
        if let (Some(name), Some(protocol)) = (name(key), protocol) {
            config.protocols.insert(name, protocol);
        }
    }
    table.finish();
    config
}

fn name(key: &Key<'_>) -> Option<String> {
    let is_right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let fits = (1..=NAME_LEN_MAX).contains(&key.text.len()) && key.text.bytes().all(is_right);
    if !fits {
        key.refuse(format_args!("must be 1 to {NAME_LEN_MAX} characters of a-z, 0-9, '-' and '_'"));
    }
    fits.then(|| key.text.to_owned())
}

fn protocol(value: &Value<'_>, own_plugins: &BTreeMap<PluginName, PluginOptions>) -> Option<ProtocolConfig> {
    let policy = policy::read(value, own_plugins.keys(), "saga")?;
    Some(ProtocolConfig { policy })
}
