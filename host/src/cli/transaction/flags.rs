//! The flags of `sluice transaction`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::{cli::flags::ControlFlags, transactions::Gid};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TransactionCommand {
    /// List transactions, the newest first
    List {
        /// Only those in this state (prepared, submitted, committing, aborting, hazard, succeeded, failed, stopped); may
        /// be given several times
        #[arg(long, value_name = "STATUS")]
        status: Vec<String>,
        /// Only those of this protocol
        #[arg(long, value_name = "NAME")]
        protocol: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Show one with its branches and everything that has happened to it
    Show {
        /// The transaction
        gid: Gid,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Begin one, and wait for its outcome
    Submit {
        /// A JSON object in the fields of DTM's API; - is stdin
        file: PathBuf,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Try again at once what waits for its next attempt; one in hazard goes on
    Retry {
        /// The transaction
        gid: Gid,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// End one wherever it stands: nothing more is called, and its participants may disagree
    Stop {
        /// The transaction
        gid: Gid,
        #[command(flatten)]
        control: ControlFlags,
    },
}
