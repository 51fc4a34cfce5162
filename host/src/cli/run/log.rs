//! Where the gateway's own log goes: to stderr, as stdout is the access log's.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::{
    failure::{Exit, Failure},
    flags::LogFormat,
};

/// The first that is set says which lines there are.
const FILTER_VARIABLES: [&str; 2] = ["SLUICE_LOG", "RUST_LOG"];
/// The storage engine tells of each of its files.
const FILTER_DEFAULT: &str = "info,fjall=warn,lsm_tree=warn";

pub(super) fn begin(format: LogFormat) -> Result<(), Failure> {
    let registry = tracing_subscriber::registry().with(filter()?);
    // Colours are for people (https://no-color.org).
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.with_ansi(false).json().flatten_event(true)).init(),
    }
    Ok(())
}

fn filter() -> Result<EnvFilter, Failure> {
    let set = FILTER_VARIABLES.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    let Some((name, directives)) = set.filter(|(_, directives)| !directives.is_empty()) else {
        return Ok(EnvFilter::new(FILTER_DEFAULT));
    };
    EnvFilter::try_new(&directives).map_err(|error| {
        let right = "right would be \"debug\" or \"info,sluice::gateway=debug\"";
        Failure::new(Exit::WrongInput, format_args!("{name}={directives:?}: {error}; {right}"))
    })
}
