//! The configuration file, as `check`, `run` and every reload read it.

use std::path::Path;

use crate::{
    config::{self, ConfigErrors, Known},
    model::Config,
    plugin::{ComponentStore, stock},
};

/// Checked against the plugins that this binary and the file's `data_dir` bring.
pub(super) fn load(path: &Path) -> Result<Config, ConfigErrors> {
    config::load(path, &known(path))
}

fn known(path: &Path) -> Known {
    let stock = stock().iter().filter_map(|plugin| plugin.name.parse().ok());
    let uploaded = ComponentStore::kept_in(&config::data_dir(path));
    stock.chain(uploaded).collect()
}
