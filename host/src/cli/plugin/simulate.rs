//! `sluice plugin simulate`: scenarios against plugins, without a gateway.

use std::path::Path;

use serde_json::json;

use crate::{
    cli::{
        component,
        failure::{Exit, Failure},
        output::{Output, table},
    },
    config::defaults,
    model::{PluginKind, PluginName},
    plugin::{Runtime, stock},
    simulator::{Pairing, Policy, Scenario, plot, report, run as simulate},
};

/// Instead of a failover policy.
const OFF: &str = "off";

pub(super) fn run(
    file: &Path,
    balancers: &[String],
    failovers: &[String],
    seed: Option<u64>,
    svg: Option<&Path>,
) -> Result<Output, Failure> {
    let scenario = Scenario::load(file)?;
    let runtime = Runtime::patient().map_err(|error| Failure::new(Exit::Failed, error))?;
    let pairings = pairings(&runtime, &scenario, balancers, failovers)?;
    let seed = seed.unwrap_or(scenario.seed);
    let runs = pairings.into_iter().map(|pairing| {
        let figures = simulate(&scenario, &pairing, seed).map_err(|error| {
            let (balancer, failover) = (&pairing.balancer.label, report::failover(&pairing));
            Failure::new(Exit::WrongInput, format_args!("{balancer} with {failover} cannot be used: {error}"))
        })?;
        Ok((pairing, figures))
    });
    let runs = runs.collect::<Result<Vec<_>, Failure>>()?;
    let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy();
    if let Some(path) = svg {
        std::fs::write(path, plot::svg(&name, &runs)).map_err(|error| {
            Failure::new(Exit::Failed, format_args!("{} cannot be written: {error}", path.display()))
        })?;
    }
    let rows: Vec<_> = runs.iter().map(|(pairing, figures)| report::row(pairing, figures)).collect();
    let within = humantime::format_duration(scenario.success_within);
    let text = format!(
        "{name}, seed {seed}, success within {within}\n\n{}\n\n{}",
        table(report::HEADING, &rows),
        report::LEGEND
    );
    let json = json!({
        "scenario": name,
        "seed": seed,
        "success_within_us": u64::try_from(scenario.success_within.as_micros()).unwrap_or(u64::MAX),
        "runs": runs.iter().map(|(pairing, figures)| report::object(pairing, figures)).collect::<Vec<_>>(),
    });
    Ok(Output::new(text, json))
}

/// Each balancer with each failover policy.
fn pairings(
    runtime: &Runtime,
    scenario: &Scenario,
    balancers: &[String],
    failovers: &[String],
) -> Result<Vec<Pairing>, Failure> {
    let balancers = match balancers {
        [] => stock().iter().filter(|plugin| plugin.kind == PluginKind::Balancer).map(|plugin| plugin.name).collect(),
        given => given.iter().map(String::as_str).collect::<Vec<_>>(),
    };
    let failovers = match failovers {
        [] => vec![defaults::FAILOVER],
        given => given.iter().map(String::as_str).collect(),
    };
    let policy = |kind, given: &&str| policy(runtime, scenario, kind, given);
    let balancers =
        balancers.iter().map(|given| policy(PluginKind::Balancer, given)).collect::<Result<Vec<_>, Failure>>()?;
    let failover = |given: &&str| if *given == OFF { Ok(None) } else { policy(PluginKind::Failover, given).map(Some) };
    let failovers = failovers.iter().map(failover).collect::<Result<Vec<_>, Failure>>()?;
    if balancers.is_empty() {
        let message = "there is no balancer to try: this binary has no stock plugins (`make plugins` builds them)";
        return Err(Failure::new(Exit::WrongInput, message));
    }
    let with_each = |balancer: Policy| {
        failovers.clone().into_iter().map(move |failover| Pairing { balancer: balancer.clone(), failover })
    };
    Ok(balancers.into_iter().flat_map(with_each).collect())
}

/// A stock plugin by its name, or a component's file.
fn policy(runtime: &Runtime, scenario: &Scenario, kind: PluginKind, given: &str) -> Result<Policy, Failure> {
    let file = Path::new(given);
    let is_file = file.extension().is_some_and(|extension| extension == "wasm");
    let (name, component) = if is_file {
        (component::name_of(file)?, component::read(file)?)
    } else {
        let found = stock().iter().find(|plugin| plugin.kind == kind && plugin.name == given);
        let component = found.ok_or_else(|| unknown(kind, given))?.component.to_vec();
        (given.parse::<PluginName>().map_err(|error| Failure::new(Exit::WrongInput, error))?, component)
    };
    let version = runtime
        .load(&name, &component)
        .map_err(|error| Failure::new(Exit::WrongInput, format_args!("{given} is no plugin: {error}")))?;
    let settings = scenario.settings.get(name.as_str()).cloned().unwrap_or_else(|| json!({}));
    Ok(Policy { label: name.to_string(), version, settings })
}

fn unknown(kind: PluginKind, given: &str) -> Failure {
    let known: Vec<_> = stock().iter().filter(|plugin| plugin.kind == kind).map(|plugin| plugin.name).collect();
    let known = if known.is_empty() { "none (`make plugins` builds them)".to_owned() } else { known.join(", ") };
    let off = if kind == PluginKind::Failover { ", or `off`" } else { "" };
    let message =
        format!("no stock {kind} is named {given:?}; there are {known}; a component's file ends in .wasm{off}");
    Failure::new(Exit::WrongInput, message)
}
