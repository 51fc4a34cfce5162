//! Embeds the components that stand in `plugins/built/<kind>/<name>.wasm`, if any, as `plugin::stock()`.

use std::{env, fmt::Write, fs, io, path::Path};

/// Folder of each kind, and its name in `model::PluginKind`.
const KINDS: [(&str, &str); 5] = [
    ("balancer", "Balancer"),
    ("failover", "Failover"),
    ("discovery", "Discovery"),
    ("transaction", "Transaction"),
    ("event-handler", "EventHandler"),
];

fn main() -> io::Result<()> {
    // The folder is part of the repository and only its subfolders are not, since cargo would take one that is
    // missing for a change, and build anew each time. Cargo looks at all that is in it.
    println!("cargo::rerun-if-changed=../plugins/built");
    println!("cargo::rerun-if-changed=build.rs");
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let built = Path::new(&manifest).join("../plugins/built");
    let mut table = "static STOCK: &[StockPlugin] = &[\n".to_owned();
    for (folder, kind) in KINDS {
        for path in components(&built.join(folder))? {
            let path = path.canonicalize()?;
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            writeln!(
                table,
                "    StockPlugin {{ kind: PluginKind::{kind}, name: {name:?}, component: include_bytes!({path:?}) }},"
            )
            .expect("a string can be written to");
        }
    }
    table.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("stock.rs"), table)
}

/// In order of their names; none where there is no folder.
fn components(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    paths.sort();
    Ok(paths)
}
