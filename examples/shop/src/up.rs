//! Starting the shop: six instances and the gateway as child processes that end together.

mod addresses;
mod children;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use addresses::Layout;
use children::Children;

/// What `shop-up` is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct Up {
    /// The gateway's configuration; the services' addresses are read from it
    #[arg(long, default_value = "examples/shop/sluice.toml")]
    pub config: PathBuf,
    /// The gateway's binary [default: `sluice` beside this one]
    #[arg(long)]
    pub sluice: Option<PathBuf>,
    /// Where the shop and the gateway keep their data
    #[arg(long, default_value = "target/shop")]
    pub data: PathBuf,
}

/// Starts everything, says what to try, and waits for Ctrl-C, SIGTERM or a child that ends before its time.
pub async fn run(up: &Up) -> anyhow::Result<()> {
    let text = fs::read_to_string(&up.config).with_context(|| format!("cannot read {}", up.config.display()))?;
    let layout = Layout::choose(&text).with_context(|| format!("in {}", up.config.display()))?;
    let data = fresh_folder(&up.data)?;
    let config = data.join("sluice.toml");
    fs::write(&config, &layout.text).with_context(|| format!("cannot write {}", config.display()))?;

    let here = std::env::current_exe().context("where this program is")?;
    let shop = here.with_file_name("shop");
    let sluice = up.sluice.clone().unwrap_or_else(|| here.with_file_name("sluice"));
    let sluice = sluice.canonicalize().with_context(|| format!("no gateway at {}", sluice.display()))?;

    let mut children = Children::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        ended = start_and_wait(&mut children, &layout, &shop, &sluice, &data) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // The gateway was started last and goes first: it lets requests end while the services still answer.
    children.end().await;
    ended
}

async fn start_and_wait(
    children: &mut Children,
    layout: &Layout,
    shop: &Path,
    sluice: &Path,
    data: &Path,
) -> anyhow::Result<()> {
    let gateway = format!("http://{}", layout.listener);
    for (service, addresses) in &layout.services {
        for (number, address) in addresses.iter().enumerate() {
            let name = format!("{service}-{}", number + 1);
            let mut command = Command::new(shop);
            command.arg("serve").arg(service).args(["--name", &name, "--listen", &address.to_string()]);
            command.args(["--gateway", &gateway, "--end-with-parent"]).arg("--data").arg(data.join("shop"));
            children.start(&name, command)?;
        }
    }
    for address in layout.services.values().flatten() {
        children.await_answer(&format!("http://{address}/health")).await?;
    }
    let mut command = Command::new(sluice);
    command.args(["run", "--config", "sluice.toml"]).current_dir(data);
    children.start("sluice", command)?;
    children.await_answer(&format!("http://{}/readyz", layout.control)).await?;
    println!("{}", layout.what_to_try(shop, sluice));
    children.await_an_end().await
}

/// The shop begins anew each time; what the gateway keeps (uploaded plugins, say) stays.
fn fresh_folder(data: &Path) -> anyhow::Result<PathBuf> {
    let shop = data.join("shop");
    if shop.exists() {
        fs::remove_dir_all(&shop).with_context(|| format!("cannot empty {}", shop.display()))?;
    }
    fs::create_dir_all(&shop).with_context(|| format!("cannot make {}", shop.display()))?;
    data.canonicalize().with_context(|| format!("where {} is", data.display()))
}
