//! The flags of `sluice registry`.

use clap::{Args, Subcommand};

use crate::cli::flags::ControlFlags;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RegistryCommand {
    /// List the registered instances and how they are
    List {
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Register an instance of a service; without a flag that says otherwise, the gateway connects to it to see
    /// whether it is there
    Register(RegisterFlags),
    /// Take an instance out of the registry
    Deregister {
        /// The instance
        id: String,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Keep traffic away from an instance, or from all, without forgetting them
    Maintenance {
        /// The instance [default: all of them]
        id: Option<String>,
        /// Begin
        #[arg(long, required_unless_present = "off", conflicts_with = "off")]
        on: bool,
        /// End
        #[arg(long)]
        off: bool,
        /// Why, for those who look
        #[arg(long, conflicts_with = "off")]
        reason: Option<String>,
        #[command(flatten)]
        control: ControlFlags,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RegisterFlags {
    /// The service
    pub service: String,
    /// Where the instance is
    #[arg(value_name = "HOST:PORT")]
    pub address: String,
    /// The instance's name in the registry [default: SERVICE:HOST:PORT]
    #[arg(long)]
    pub id: Option<String>,
    /// A tag; may be given several times
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Metadata; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub meta: Vec<(String, String)>,
    /// Where it stands
    #[arg(long)]
    pub zone: Option<String>,
    /// It sends heartbeats itself, at least this often
    #[arg(long, value_name = "DURATION", group = "check")]
    pub ttl: Option<String>,
    /// The gateway asks for this URL to see whether it is well
    #[arg(long, value_name = "URL", group = "check")]
    pub http: Option<String>,
    /// It stays until it is deregistered, whether it is there or not
    #[arg(long, group = "check")]
    pub no_check: bool,
    /// How often the gateway looks
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub interval: String,
    /// It leaves the registry when it has not been well for so long
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub deregister_after: String,
    #[command(flatten)]
    pub control: ControlFlags,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
