//! Where the gateway listens: as the configuration says, or on a free port where that one is taken. What to try there.

use std::{
    collections::HashMap,
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Context;
use toml::{Table, Value};

use crate::services::payments::DECLINED_CARD;

/// The plugin that is pushed to see another version of it take over.
const SWAPPED: &str = "order-summary";

/// The configuration with addresses that are free, to stand in any folder.
#[derive(Debug)]
pub struct Layout {
    /// The whole configuration.
    pub text: String,
    pub listener: SocketAddr,
    pub control: SocketAddr,
    pub moved: Vec<Moved>,
    /// The components of the shop's own plugins, by name.
    pub plugins: HashMap<String, PathBuf>,
}

/// An address of the configuration that something else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

impl Layout {
    /// `folder` is where paths of the configuration begin.
    pub fn choose(text: &str, folder: &Path) -> anyhow::Result<Self> {
        let wished = Self::read(text)?;
        let mut replaced = HashMap::new();
        // Held until all are chosen, so that no free port is chosen twice.
        let mut held = Vec::new();
        for address in [wished.listener, wished.control] {
            let socket = TcpListener::bind(address).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
            let socket = socket.context("no free port")?;
            let bound = socket.local_addr()?;
            if bound != address {
                replaced.insert(address, bound);
            }
            held.push(socket);
        }
        let mut text = text.to_owned();
        for (from, to) in &replaced {
            text = text.replace(&format!("\"{from}\""), &format!("\"{to}\""));
        }
        for path in wished.plugins.values() {
            let in_toml = |path: &Path| Value::String(path.display().to_string()).to_string();
            text = text.replace(&in_toml(path), &in_toml(&folder.join(path)));
        }
        let moved = replaced.into_iter().map(|(from, to)| Moved { from, to }).collect();
        Ok(Self { moved, ..Self::read(&text)? })
    }

    fn read(text: &str) -> anyhow::Result<Self> {
        let root: Table = text.parse()?;
        let listener = root.get("listener").and_then(|listeners| listeners.get(0));
        let plugins = root.get("plugins").and_then(Value::as_table).into_iter().flatten();
        Ok(Self {
            text: text.to_owned(),
            listener: address(listener.and_then(|listener| listener.get("address"))).context("[[listener]]")?,
            control: address(root.get("control").and_then(|control| control.get("address"))).context("[control]")?,
            moved: Vec::new(),
            plugins: plugins.filter_map(|(name, it)| Some((name.clone(), it.get("path")?.as_str()?.into()))).collect(),
        })
    }

    /// Commands that work as they stand. `registered` are the instances' names and addresses, `victim` the process of
    /// inventory-2.
    pub fn what_to_try(&self, shop: &Path, sluice: &Path, registered: &[(String, String)], victim: u32) -> String {
        let (gateway, control) = (self.listener, self.control);
        let (shop, sluice) = (from_here(shop), from_here(sluice));
        let (shop, sluice) = (shop.display(), sluice.display());
        let instances = registered.iter().map(|(name, address)| format!("  {name:<12} {address}\n"));
        let moved = self.moved.iter().map(|moved| format!("  ({moved})\n"));
        let json = "-H 'content-type: application/json'";
        let summary = self.plugins.get(SWAPPED).map(|path| from_here(path).display().to_string()).unwrap_or_default();
        format!(
            "
The shop is open.

  gateway      http://{gateway}
  control      http://{control}
{}{}
Try, in another terminal:

  A request, and an order that goes through the gateway three times:
    curl -s http://{gateway}/inventory/products
    curl -si http://{gateway}/orders {json} -d '{{\"sku\":\"tea\",\"quantity\":2}}'

  Traffic that says each second who answered:
    {shop} traffic --gateway http://{gateway}

  Swap the policy under it: one customer now stays with one instance, and no request fails:
    curl -s -X PATCH http://{control}/services/inventory {json} -d '{{\"balancer\":{{\"plugin\":\"ring-hash\"}}}}'
  and back:
    curl -s -X DELETE http://{control}/services/inventory/overlay {json}

  An order as one transaction of three services, as saga, tcc or 2pc (two-phase commit):
    curl -s 'http://{gateway}/orders?protocol=saga' {json} -d '{{\"sku\":\"tea\",\"quantity\":2}}'
  One that fails halfway, for its card is declined; the stock is afterwards what it was before, and so is the till:
    curl -s http://{gateway}/inventory/products/pot
    curl -s 'http://{gateway}/orders?protocol=2pc' {json} -d '{{\"sku\":\"pot\",\"quantity\":1,\"card\":\"{DECLINED_CARD}\"}}'
    curl -s http://{gateway}/inventory/products/pot http://{gateway}/payments/till
  What became of them (with `show` and its id instead of `list`, all that happened to one):
    {sluice} transaction list --control http://{control}

  An order by an event alone: a handler has it carried out as a saga, whose outcome is an event again. Watch, and place some:
    {sluice} events tail --stream 'order-*' --control http://{control}
    curl -s 'http://{gateway}/orders?protocol=event' {json} -d '{{\"sku\":\"cup\",\"quantity\":1}}'
    {sluice} events append --control http://{control} --stream order-$(date +%s) --type order.requested --data '{{\"sku\":\"cup\",\"quantity\":2}}'
  What a projection makes of all orders (…/orders and …/skus/cup say more), and how far each handler is:
    curl -s http://{control}/projections/order-summary/
    {sluice} projection list --control http://{control}
  Build its state anew from the log, with the old one read until then; a version that you have changed (make shop-plugins builds it)
  takes over in the same way when it is pushed:
    {sluice} projection rebuild {SWAPPED} --control http://{control}
    {sluice} plugin push {SWAPPED} {summary} --control http://{control}

  Kill an instance (it comes back after ten seconds); neither traffic nor orders see a failure:
    kill -9 {victim}

  What is registered, by the API that Consul's clients speak:
    curl -s 'http://{control}/v1/health/service/inventory?passing&pretty'

  What to look at:
    http://{control}/                                    the dashboard
    curl -s http://{control}/services/inventory          endpoints, policy, where each value comes from
    curl -s http://{control}/metrics | grep plugin       picks, faults and fallbacks of each version
    {sluice} plugin list --control http://{control}

Ctrl-C ends everything.",
            instances.collect::<String>(),
            moved.collect::<String>(),
        )
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is taken: {} instead", self.from, self.to)
    }
}

/// Shorter where it is below the folder that the reader stands in.
fn from_here(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path)
}

fn address(value: Option<&Value>) -> anyhow::Result<SocketAddr> {
    let text = value.and_then(Value::as_str).context("an address is missing")?;
    text.parse().with_context(|| format!("{text:?} is no address with a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_replaced_everywhere() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = held.local_addr().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let text =
            format!("listener = [{{ address = \"{taken}\" }}]\ncontrol = {{ address = \"{free}\" }}\n# \"{taken}\"\n");
        let layout = Layout::choose(&text, Path::new("/")).unwrap();
        assert_eq!(layout.control, free);
        assert_ne!(layout.listener, taken);
        assert!(layout.moved.contains(&Moved { from: taken, to: layout.listener }));
        assert!(!layout.text.contains(&taken.to_string()));
    }

    #[test]
    fn the_shops_own_configuration_finds_its_plugins_from_everywhere() {
        let layout = Layout::choose(include_str!("../../sluice.toml"), Path::new("/shop")).unwrap();
        assert_ne!(layout.listener, layout.control);
        let summary = Path::new("/shop/plugins/built/order-summary.wasm");
        assert_eq!(layout.plugins.get(SWAPPED).map(PathBuf::as_path), Some(summary));
        assert_eq!(layout.plugins.len(), 2);
    }
}
