//! The flags of `sluice events`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::groups::GroupsFlags;
use crate::{
    cli::flags::ControlFlags,
    model::{EventId, EventSource, EventType, Expected, StreamName},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EventsCommand {
    /// Append events: one from flags, or CloudEvents in JSON, one a line
    Append(AppendFlags),
    /// Read a page of events, of all streams or of one
    Read(ReadFlags),
    /// Follow events as they come, over restarts of the gateway, until it is interrupted
    Tail(TailFlags),
    /// List consumer groups, or set them, take from them and settle
    Groups(GroupsFlags),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AppendFlags {
    /// CloudEvents in JSON, one a line; - is stdin. Up to 1,000 of them are one append; more are several, in their order
    #[arg(required_unless_present = "event_type", conflicts_with_all = ["event_type", "data", "id", "source", "subject"])]
    pub file: Option<PathBuf>,
    /// One event of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<EventType>,
    /// Its data: JSON, or with --content-type whatever that is
    #[arg(long, requires = "event_type")]
    pub data: Option<String>,
    /// What its data is
    #[arg(long, value_name = "TYPE", default_value = "application/json", requires = "data")]
    pub content_type: String,
    /// Its id, with which the same once more is harmless [default: one is made up]
    #[arg(long)]
    pub id: Option<EventId>,
    /// Where it comes from, a URI reference
    #[arg(long, value_name = "URI", default_value = "/sluice/events")]
    pub source: EventSource,
    /// What it is about
    #[arg(long)]
    pub subject: Option<String>,
    /// Where they go [default: each to the stream that it names, or else to that of its type]
    #[arg(long)]
    pub stream: Option<StreamName>,
    /// What must be true of the stream: any, none, exists, or the revision of its last event
    #[arg(long, value_name = "REVISION", requires = "stream")]
    pub expected: Option<Expected>,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReadFlags {
    #[command(flatten)]
    pub which: WhichFlags,
    /// Where it begins: a position, or with --stream NAME a revision [default: the beginning, backward the end]
    #[arg(long, value_name = "NUMBER")]
    pub from: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// The latest first
    #[arg(long)]
    pub backward: bool,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TailFlags {
    #[command(flatten)]
    pub which: WhichFlags,
    /// Behind which position it begins; 0 is the beginning [default: only what comes]
    #[arg(long, value_name = "POSITION")]
    pub after: Option<u64>,
    /// End after so many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub control: ControlFlags,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WhichFlags {
    /// Only those of this stream; with a * at its end, of all whose names begin so
    #[arg(long, value_name = "NAME")]
    pub stream: Option<String>,
    /// Only those of this type; with a * at its end, of all that begin so; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
}
