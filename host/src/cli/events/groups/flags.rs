//! The flags of `sluice events groups`.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::{
    cli::flags::ControlFlags,
    model::{GroupName, Pattern},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct GroupsFlags {
    #[command(subcommand)]
    pub command: Option<GroupsCommand>,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum GroupsCommand {
    /// Show one: its checkpoint, who consumes, what is wrong
    Show(NamedFlags),
    /// Make a group, or set all of what is set for one anew
    Create(CreateFlags),
    /// Take the next events for a consumer
    Take(TakeFlags),
    /// Acknowledge deliveries by their tokens
    Ack(SettleFlags),
    /// Have deliveries made again after a pause
    Retry(ReasonedFlags),
    /// Put deliveries aside
    Park(ReasonedFlags),
    /// List what stands aside
    Parked(ParkedFlags),
    /// Have what stands aside delivered again
    Replay(ReplayFlags),
    /// Deliver again what is behind a position, and nothing at or before it
    Reset(ResetFlags),
    /// Take a group away, with its checkpoint and with what it parked
    Delete(NamedFlags),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NamedFlags {
    /// The consumer group
    pub name: GroupName,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateFlags {
    /// The consumer group
    pub name: GroupName,
    /// Only events of this type; with a * at its end, of all that begin so; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<Pattern>,
    /// Only events of this stream; as --type
    #[arg(long = "stream", value_name = "NAME")]
    pub streams: Vec<Pattern>,
    /// Where it begins: start, now, or behind a position [default: start]
    #[arg(long)]
    pub from: Option<String>,
    /// After which a delivery that is not settled has failed [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub ack_timeout: Option<String>,
    /// Deliveries of an event, after which it is parked [default: 10]
    #[arg(long, value_name = "COUNT")]
    pub attempts: Option<u32>,
    /// Longest pause before the second attempt [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub backoff: Option<String>,
    /// Deliveries of a take that has no limit [default: 20]
    #[arg(long, value_name = "COUNT")]
    pub batch: Option<u32>,
    /// Push the events to service://NAME/path, or to a URL
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,
    /// Whom the webhook's receiver has to allow [default: sluice]
    #[arg(long, value_name = "NAME", requires = "webhook")]
    pub origin: Option<String>,
    /// Deliveries a minute that the webhook's receiver is asked to allow
    #[arg(long, value_name = "COUNT", requires = "webhook")]
    pub rate: Option<u32>,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TakeFlags {
    /// The consumer group
    pub name: GroupName,
    /// Who takes
    #[arg(long, default_value = "command-line", value_name = "NAME")]
    pub consumer: String,
    /// At most so many [default: the group's batch]
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u32>,
    /// Wait so long for some, at most 60s
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SettleFlags {
    /// The consumer group
    pub name: GroupName,
    /// As they were taken
    #[arg(required = true, value_name = "TOKEN")]
    pub tokens: Vec<String>,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReasonedFlags {
    #[command(flatten)]
    pub which: SettleFlags,
    /// Shown with what stands aside
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ParkedFlags {
    /// The consumer group
    pub name: GroupName,
    /// So many of them at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub limit: u64,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayFlags {
    /// The consumer group
    pub name: GroupName,
    /// Only the event there
    #[arg(long)]
    pub position: Option<u64>,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResetFlags {
    /// The consumer group
    pub name: GroupName,
    /// The last position that is not delivered; 0: everything is
    #[arg(long, value_name = "POSITION")]
    pub to: u64,
    #[command(flatten)]
    pub control: ControlFlags,
}
