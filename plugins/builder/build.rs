//! Lists the SDK's files, so that `sluice plugin new` can write them into a crate without this repository.

use std::{env, fmt::Write, fs, io, path::Path};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=../sdk");
    println!("cargo::rerun-if-changed=../../wit");
    println!("cargo::rerun-if-changed=build.rs");
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let sdk = Path::new(&manifest).join("../sdk").canonicalize()?;
    let mut table = "const SDK: &[(&str, &str)] = &[\n".to_owned();
    list(&sdk, "", &mut table)?;
    table.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("sdk.rs"), table)
}

/// Adds what is in `folder` (its name within the SDK: `name`), in order; `wit` is a link to the repository's.
fn list(folder: &Path, name: &str, table: &mut String) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path().canonicalize()?;
        let file = entry.file_name().into_string().expect("the repository's names are UTF-8");
        let name = if name.is_empty() { file.clone() } else { format!("{name}/{file}") };
        let known = [".rs", ".toml", ".wit", ".md"].iter().any(|ending| file.ends_with(ending));
        if path.is_dir() && file != "target" {
            list(&path, &name, table)?;
        } else if path.is_file() && known {
            writeln!(table, "    ({name:?}, include_str!({path:?})),").expect("a string can be written to");
        }
    }
    Ok(())
}
