//! Starting the shop: six instances and the gateway as child processes that end together.

mod addresses;
mod children;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use addresses::Layout;
use children::Children;

use crate::services::Service;

/// Of each service.
const INSTANCES: usize = 2;

/// What `shop-up` is started with.
#[derive(Clone, Debug, clap::Args)]
pub struct Up {
    /// The gateway's configuration
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
    let folder = up.config.canonicalize().context("it has just been read")?;
    let folder = folder.parent().context("a file has a folder")?;
    let layout = Layout::choose(&text, folder).with_context(|| format!("in {}", up.config.display()))?;
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
    // The gateway was started first and goes last: the services tell it that they leave.
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
    let mut command = Command::new(sluice);
    command.args(["run", "--config", "sluice.toml"]).current_dir(data);
    children.start("sluice", command, true)?;
    let (gateway, control) = (format!("http://{}", layout.listener), format!("http://{}", layout.control));
    children.await_answer(&format!("{control}/readyz"), |_| Some(())).await?;
    for service in Service::value_variants() {
        for number in 1..=INSTANCES {
            let name = format!("{}-{number}", service.name());
            let mut command = Command::new(shop);
            command.args(["serve", service.name(), "--name", &name, "--gateway", &gateway, "--control", &control]);
            command.arg("--end-with-parent").arg("--data").arg(data.join("shop"));
            children.start(&name, command, false)?;
        }
    }
    let mut registered = Vec::new();
    for service in Service::value_variants() {
        let url = format!("{control}/v1/health/service/{}?passing", service.name());
        registered.extend(children.await_answer(&url, all_instances).await?);
        // A route finds them a moment after the registry does.
        let path = format!("{gateway}/{}/health", service.name());
        children.await_answer(&path, |_| Some(())).await?;
    }
    let victim = children.pid("inventory-2").context("it has just been started")?;
    println!("{}", layout.what_to_try(shop, sluice, &registered, victim));
    children.keep_alive().await
}

/// Their names and addresses once all of a service are there, from what Consul's health API answers.
fn all_instances(body: &str) -> Option<Vec<(String, String)>> {
    let entries: Vec<serde_json::Value> = serde_json::from_str(body).ok()?;
    let instances: Option<Vec<_>> = entries
        .iter()
        .map(|entry| {
            let service = entry.get("Service")?;
            let (address, port) = (service.get("Address")?.as_str()?, service.get("Port")?.as_u64()?);
            Some((service.get("ID")?.as_str()?.to_owned(), format!("{address}:{port}")))
        })
        .collect();
    instances.filter(|instances| instances.len() >= INSTANCES).map(|mut instances| {
        instances.sort();
        instances
    })
}

/// The shop begins anew each time; what the gateway keeps (uploaded plugins, events) stays.
fn fresh_folder(data: &Path) -> anyhow::Result<PathBuf> {
    let shop = data.join("shop");
    if shop.exists() {
        fs::remove_dir_all(&shop).with_context(|| format!("cannot empty {}", shop.display()))?;
    }
    fs::create_dir_all(&shop).with_context(|| format!("cannot make {}", shop.display()))?;
    data.canonicalize().with_context(|| format!("where {} is", data.display()))
}
