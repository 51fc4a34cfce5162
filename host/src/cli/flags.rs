//! The command line as it is typed. Checked values where a text alone tells whether it is right.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    events::EventsCommand, failure::EXIT_CODES, projection::ProjectionCommand, registry::RegistryCommand,
    transaction::TransactionCommand,
};
use crate::model::{Percent, PluginKind, PluginName, ServiceName, VersionId};

/// An API gateway whose every policy is a WebAssembly component, replaceable while traffic flows.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = EXIT_CODES)]
pub(super) struct Flags {
    #[command(subcommand)]
    pub command: Command,
    /// Print the result, or what went wrong, as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway
    Run(RunFlags),
    /// Check a configuration file without binding anything
    Check(ConfigFlags),
    /// Make, build, check and replace plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Look at services and change their policies
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Register instances of services, and look at those that are
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Look at distributed transactions, begin them, and help those that are stuck
    #[command(subcommand)]
    Transaction(TransactionCommand),
    /// Append events, read them, and follow them
    #[command(subcommand)]
    Events(EventsCommand),
    /// Look at what event handlers make of the events, and build it anew
    #[command(subcommand)]
    Projection(ProjectionCommand),
}

#[derive(Debug, Args)]
pub(super) struct ConfigFlags {
    /// The configuration file
    #[arg(long, default_value = "sluice.toml", value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RunFlags {
    #[command(flatten)]
    pub file: ConfigFlags,
    /// How log lines look, on stderr; which there are is said by SLUICE_LOG (or RUST_LOG), such as "info,sluice=debug"
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One object a line; the same with --json
    Json,
}

/// Which gateway a command talks to.
#[derive(Clone, Debug, Args)]
pub(super) struct ControlFlags {
    /// The gateway's control address [default: $SLUICE_CONTROL or http://127.0.0.1:9180]
    #[arg(long, value_name = "URL")]
    pub control: Option<String>,
    /// A file with the operator's token, where the gateway asks for one
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl ControlFlags {
    /// With what is said elsewhere where nothing is said here.
    pub fn or(&self, other: &Self) -> Self {
        let (this, other) = (self.clone(), other.clone());
        Self { control: this.control.or(other.control), token_file: this.token_file.or(other.token_file) }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Make a crate that builds into a plugin and passes its own tests as it stands
    New {
        /// The plugin's name, and the crate's
        name: PluginName,
        /// What it decides
        #[arg(long, default_value = "balancer", value_parser = plugin_kind)]
        kind: PluginKind,
        /// The folder to make [default: the name]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Build a crate into a component
    Build {
        /// The folder with its Cargo.toml
        #[arg(default_value = ".")]
        crate_dir: PathBuf,
        /// Where the component goes [default: <name>.wasm in the crate's folder]
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check that a component is a plugin, and with settings, that it takes them
    Check {
        /// The component
        file: PathBuf,
        /// The policy's settings, a JSON object
        #[arg(long, value_name = "JSON")]
        settings: Option<String>,
    },
    /// Bring a component into use as a plugin's new version, on every worker or not at all
    #[command(allow_missing_positional = true)]
    Push {
        /// The plugin's name [default: that of the file]
        name: Option<PluginName>,
        /// The component
        file: PathBuf,
        /// Only keep it, for a canary or to activate it later
        #[arg(long)]
        keep_only: bool,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// List the gateway's plugins and their versions
    List {
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Bring a version that the gateway has into use
    Activate {
        /// The plugin
        name: PluginName,
        /// The first 12 hex digits of the component's SHA-256
        version: VersionId,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Bring the version that was in use before into use again
    Rollback {
        /// The plugin
        name: PluginName,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Give a version a share of the requests; the gateway takes it back by itself where it does worse
    Canary {
        /// The plugin
        name: PluginName,
        /// The version on trial
        #[arg(required_unless_present = "end")]
        version: Option<VersionId>,
        /// Of requests, sticky by hash
        #[arg(long, value_name = "1-99", value_parser = percent, required_unless_present = "end")]
        percent: Option<Percent>,
        /// Only for this service [default: every service that uses the plugin]
        #[arg(long, value_name = "NAME")]
        service: Option<ServiceName>,
        /// End the trial that runs; the version in use gets every request again
        #[arg(long, conflicts_with_all = ["version", "percent", "service"])]
        end: bool,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Run a scenario against plugins, on a virtual clock and without a gateway
    ///
    /// Each balancer is tried with each failover policy. The same seed gives the same figures.
    Simulate {
        /// What is simulated, a TOML file (see examples/scenarios)
        scenario: PathBuf,
        /// Stock plugins by their names, or components [default: every stock balancer]
        #[arg(long, value_name = "NAME|FILE.wasm", num_args = 1..)]
        balancer: Vec<String>,
        /// The same; `off` is no policy at all [default: standard]
        #[arg(long, value_name = "NAME|FILE.wasm|off", num_args = 1..)]
        failover: Vec<String>,
        /// Of all randomness [default: the scenario's]
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Draw success and latency over time into a file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// List the services
    List {
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Show a service: its endpoints, policy and limits
    Show {
        /// The service
        name: ServiceName,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Change a service's policies, on every worker or not at all
    Set {
        /// The service
        name: ServiceName,
        /// The plugin that shall pick endpoints
        #[arg(long, value_name = "PLUGIN", required_unless_present_any = ["reset", "failover", "discovery"])]
        balancer: Option<PluginName>,
        /// The plugin that shall decide what happens when an endpoint fails
        #[arg(long, value_name = "PLUGIN", conflicts_with = "balancer")]
        failover: Option<PluginName>,
        /// The plugin that shall find endpoints; it must answer before it comes into use
        #[arg(long, value_name = "PLUGIN", conflicts_with_all = ["balancer", "failover"])]
        discovery: Option<PluginName>,
        /// The policy's settings, a JSON object
        #[arg(long, value_name = "JSON")]
        settings: Option<String>,
        /// Also where more than half of the endpoints would be lost
        #[arg(long, requires = "discovery", conflicts_with = "balancer")]
        force: bool,
        /// Take back what was changed here: the configuration file's policies hold again
        #[arg(long, conflicts_with_all = ["balancer", "failover", "discovery", "settings"])]
        reset: bool,
        #[command(flatten)]
        control: ControlFlags,
    },
}

fn plugin_kind(text: &str) -> Result<PluginKind, String> {
    let kinds = PluginKind::ALL.map(PluginKind::as_str);
    let found = PluginKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| format!("must be one of {}", kinds.join(", ")))
}

fn percent(text: &str) -> Result<Percent, String> {
    let percent = text.parse().ok().and_then(Percent::new).filter(|percent| (1..=99).contains(&percent.get()));
    percent.ok_or_else(|| "must be a whole number from 1 to 99".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Flags, clap::Error> {
        Flags::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_flags_contradict_nothing() {
        Flags::command().debug_assert();
    }

    #[test]
    fn push_takes_a_name_before_the_file_or_none() {
        let name_of = |line: &str| match parse(line).expect("right").command {
            Command::Plugin(PluginCommand::Push { name, file, .. }) => (name.map(String::from), file),
            other => panic!("{other:?}"),
        };
        assert_eq!(name_of("sluice plugin push a.wasm"), (None, "a.wasm".into()));
        assert_eq!(name_of("sluice plugin push own a.wasm"), (Some("own".to_owned()), "a.wasm".into()));
    }

    #[test]
    fn wrong_flags_are_refused_before_anything_is_tried() {
        for line in [
            "sluice",
            "sluice plugin push Bad_Name a.wasm",
            "sluice plugin activate own nohex",
            "sluice plugin canary own 0123456789ab",
            "sluice plugin canary own 0123456789ab --percent 0",
            "sluice plugin canary own 0123456789ab --percent 100",
            "sluice plugin canary own 0123456789ab --end",
            "sluice plugin new own --kind gopher",
            "sluice service set orders",
            "sluice service set orders --settings {}",
            "sluice service set orders --balancer x --discovery y",
            "sluice service set orders --balancer x --force",
            "sluice service set orders --reset --balancer x",
            "sluice run --log-format xml",
            "sluice plugin simulate",
            "sluice plugin simulate a.toml --seed -1",
            "sluice registry register web",
            "sluice registry register web a:1 --ttl 10s --no-check",
            "sluice registry register web a:1 --meta key",
            "sluice registry maintenance web",
            "sluice registry maintenance web --on --off",
            "sluice events append",
            "sluice events append events.json --type t",
            "sluice events append --type t --expected 3",
            "sluice events append --type t --stream s --expected last",
            "sluice events append --type $x* --data 1",
            "sluice events read --limit 0",
            "sluice events tail --after end",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn json_may_stand_anywhere() {
        for line in ["sluice --json plugin list", "sluice plugin list --json", "sluice check --json"] {
            assert!(parse(line).expect("right").json);
        }
    }
}
