//! The plugins that the binary brings along.

use crate::model::PluginKind;

/// A component that was in `plugins/built/` when the host was built.
#[derive(Clone, Copy)]
pub struct StockPlugin {
    pub kind: PluginKind,
    pub name: &'static str,
    pub component: &'static [u8],
}

/// All of them, by kind and name; none where the plugins had not been built.
pub fn stock() -> &'static [StockPlugin] {
    STOCK
}

// `static STOCK: &[StockPlugin]`, written by build.rs.
include!(concat!(env!("OUT_DIR"), "/stock.rs"));
