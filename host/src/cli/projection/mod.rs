//! `sluice projection …`.

mod flags;
mod shown;

pub(super) use flags::ProjectionCommand;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};

use self::shown::Projection;
use super::{
    client::{Client, understood},
    failure::{Exit, Failure},
    output::{Output, table},
};
use crate::model::HandlerName;

/// How often it is asked how far a rebuild has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How often that is said.
const SAY_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(command: ProjectionCommand, json: bool) -> Result<Output, Failure> {
    match command {
        ProjectionCommand::List { control } => list(&Client::new(&control)?),
        ProjectionCommand::Show { name, control } => show(&Client::new(&control)?, &name),
        ProjectionCommand::Rebuild { name, no_wait, control } => {
            rebuild(&Client::new(&control)?, &name, no_wait, !json)
        }
        ProjectionCommand::ReplayParked { name, control } => replay_parked(&Client::new(&control)?, &name),
        ProjectionCommand::DiscardParked { name, control } => discard_parked(&Client::new(&control)?, &name),
    }
}

#[derive(Deserialize)]
struct Projections {
    projections: Vec<Projection>,
}

fn list(client: &Client) -> Result<Output, Failure> {
    let answer = client.get("/projections")?;
    let projections: Projections = understood(&answer)?;
    let rows: Vec<_> = projections.projections.iter().map(Projection::row).collect();
    let heading = ["PROJECTION", "STATUS", "PLUGIN", "VERSION", "LAG", "HANDLED", "PARKED", "CALLS", "REBUILD"];
    Ok(Output::new(table(heading, &rows), answer))
}

fn show(client: &Client, name: &HandlerName) -> Result<Output, Failure> {
    let answer = client.get(&format!("/projections/{name}"))?;
    let projection: Projection = understood(&answer)?;
    Ok(Output::new(projection.in_words(), answer))
}

#[derive(Deserialize)]
struct Replayed {
    events_handled: u64,
    events_failed: u64,
    calls: u64,
}

fn replay_parked(client: &Client, name: &HandlerName) -> Result<Output, Failure> {
    let answer = client.post(&format!("/projections/{name}/replay-parked"), &json!({}))?;
    let Replayed { events_handled, events_failed, calls } = understood(&answer)?;
    let text = format!("{events_handled} events handled, {events_failed} stay aside, {calls} calls are made again");
    Ok(Output::new(text, answer))
}

#[derive(Deserialize)]
struct Discarded {
    events: u64,
    calls: u64,
}

fn discard_parked(client: &Client, name: &HandlerName) -> Result<Output, Failure> {
    let answer = client.post(&format!("/projections/{name}/discard-parked"), &json!({}))?;
    let Discarded { events, calls } = understood(&answer)?;
    Ok(Output::new(format!("{events} events and {calls} calls are discarded"), answer))
}

fn rebuild(client: &Client, name: &HandlerName, no_wait: bool, says: bool) -> Result<Output, Failure> {
    let path = format!("/projections/{name}");
    let before: Projection = understood(&client.get(&path)?)?;
    let mut answer = client.post(&format!("{path}/rebuild"), &json!({}))?;
    if no_wait {
        return Ok(Output::new(format!("projection {name} is being rebuilt"), answer));
    }
    let mut said = Said { at: None };
    loop {
        let projection: Projection = understood(&answer)?;
        match &projection.rebuilding {
            Some(rebuilding) if says => said.say(&rebuilding.in_words()),
            Some(_) => {}
            None if projection.generation > before.generation => {
                let text = format!("projection {name} is rebuilt: {} events handled", projection.handled);
                return Ok(Output::new(text, answer));
            }
            None => return Err(not_rebuilt(name, &projection, answer)),
        }
        sleep(LOOK_INTERVAL);
        answer = client.get(&path)?;
    }
}

fn not_rebuilt(name: &HandlerName, projection: &Projection, answer: Value) -> Failure {
    let why = projection.refused.as_ref().map_or_else(
        || "it was begun anew or given up meanwhile".to_owned(),
        |refused| format!("the event at {}: {}", refused.position, shown::one_line(&refused.reason)),
    );
    let message = format!("projection {name} was not rebuilt, and is as it was: {why}");
    Failure::with_problems(Exit::Failed, message, Vec::new(), answer)
}

/// On stderr, and not too often.
struct Said {
    at: Option<Instant>,
}

impl Said {
    fn say(&mut self, what: &str) {
        if self.at.is_none_or(|at| at.elapsed() >= SAY_INTERVAL) {
            eprintln!("{what}");
            self.at = Some(Instant::now());
        }
    }
}
