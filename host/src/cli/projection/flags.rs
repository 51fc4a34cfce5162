//! The flags of `sluice projection`.

use clap::Subcommand;

use crate::{cli::flags::ControlFlags, model::HandlerName};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ProjectionCommand {
    /// List the event handlers, and how far each has come
    List {
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Show one, with what it put aside
    Show {
        /// The event handler
        name: HandlerName,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Build the state of one anew from the log, beside the one in use, and wait until that has taken over
    Rebuild {
        /// The event handler
        name: HandlerName,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Handle the events once more that one put aside, and make the calls again
    ReplayParked {
        /// The event handler
        name: HandlerName,
        #[command(flatten)]
        control: ControlFlags,
    },
    /// Forget the events and the calls that one put aside
    DiscardParked {
        /// The event handler
        name: HandlerName,
        #[command(flatten)]
        control: ControlFlags,
    },
}
