//! `sluice events groups …`.

mod flags;
mod shown;

pub(super) use flags::GroupsFlags;

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use self::{
    flags::{CreateFlags, GroupsCommand, ReasonedFlags, ReplayFlags, ResetFlags, SettleFlags, TakeFlags},
    shown::Group,
};
use super::{Shown, in_url, not_understood};
use crate::{
    cli::{
        client::{Client, understood},
        failure::{Exit, Failure},
        flags::ControlFlags,
        output::{Output, table},
    },
    model::GroupName,
};

pub(super) fn run(flags: GroupsFlags) -> Result<Output, Failure> {
    // They may stand before the subcommand too.
    let client = |control: &ControlFlags| Client::new(&control.or(&flags.control));
    let Some(command) = &flags.command else { return list(&Client::new(&flags.control)?) };
    match command {
        GroupsCommand::Show(flags) => show(&client(&flags.control)?, &flags.name),
        GroupsCommand::Create(flags) => create(&client(&flags.control)?, flags),
        GroupsCommand::Take(flags) => take(&client(&flags.control)?, flags),
        GroupsCommand::Ack(flags) => settle(&client(&flags.control)?, flags, "ack", |token| json!(token)),
        GroupsCommand::Retry(flags) => settle_with_reason(&client(&flags.which.control)?, flags, "retry"),
        GroupsCommand::Park(flags) => settle_with_reason(&client(&flags.which.control)?, flags, "park"),
        GroupsCommand::Parked(flags) => parked(&client(&flags.control)?, &flags.name, flags.limit),
        GroupsCommand::Replay(flags) => replay(&client(&flags.control)?, flags),
        GroupsCommand::Reset(flags) => reset(&client(&flags.control)?, flags),
        GroupsCommand::Delete(flags) => {
            let answer = client(&flags.control)?.delete(&format!("/groups/{}", flags.name))?;
            Ok(Output::new(format!("group {} is gone", flags.name), answer))
        }
    }
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

fn list(client: &Client) -> Result<Output, Failure> {
    let answer = client.get("/groups")?;
    let groups: Groups = understood(&answer)?;
    let rows: Vec<_> = groups.groups.iter().map(Group::row).collect();
    let heading = ["GROUP", "CHECKPOINT", "LAG", "IN FLIGHT", "RETRYING", "PARKED", "CONSUMERS", "TROUBLE"];
    Ok(Output::new(table(heading, &rows), answer))
}

fn show(client: &Client, name: &GroupName) -> Result<Output, Failure> {
    let answer = client.get(&format!("/groups/{name}"))?;
    let group: Group = understood(&answer)?;
    Ok(Output::new(group.in_words(), answer))
}

fn create(client: &Client, flags: &CreateFlags) -> Result<Output, Failure> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| drop(value.map(|value| body.insert(name.to_owned(), value)));
    let texts = |patterns: &[crate::model::Pattern]| {
        (!patterns.is_empty()).then(|| json!(patterns.iter().map(ToString::to_string).collect::<Vec<_>>()))
    };
    put("types", texts(&flags.types));
    put("streams", texts(&flags.streams));
    // A position is a number, the others are words.
    put("from", flags.from.as_ref().map(|from| from.parse::<u64>().map_or_else(|_| json!(from), |at| json!(at))));
    put("ack_timeout", flags.ack_timeout.as_ref().map(|time| json!(time)));
    put("attempts_max", flags.attempts.map(|count| json!(count)));
    put("backoff", flags.backoff.as_ref().map(|time| json!(time)));
    put("batch", flags.batch.map(|count| json!(count)));
    let mut webhook = Map::new();
    let parts = [
        ("url", flags.webhook.as_ref().map(|url| json!(url))),
        ("origin", flags.origin.as_ref().map(|origin| json!(origin))),
        ("rate", flags.rate.map(|rate| json!(rate))),
    ];
    webhook.extend(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    put("webhook", flags.webhook.is_some().then(|| webhook.into()));
    let answer = client.put(&format!("/groups/{}", flags.name), &body.into())?;
    let group: Group = understood(&answer)?;
    Ok(Output::new(format!("group {} is set, at position {}", flags.name, group.checkpoint), answer))
}

#[derive(Deserialize)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
struct Delivery {
    token: String,
    attempt: u32,
    event: Box<RawValue>,
}

fn take(client: &Client, flags: &TakeFlags) -> Result<Output, Failure> {
    let limit: String = flags.limit.iter().map(|limit| format!("&limit={limit}")).collect();
    let (consumer, wait) = (in_url(&flags.consumer), flags.wait.as_millis());
    let path = format!("/groups/{}/take?consumer={consumer}&wait={wait}ms{limit}", flags.name);
    // Not as a `Value`, which would round the numbers in events' data.
    let text = client.post_text(&path, &json!({}))?;
    let taken: Deliveries = serde_json::from_str(&text).map_err(|error| not_understood(&error))?;
    let rows: Result<Vec<_>, Failure> = taken
        .deliveries
        .iter()
        .map(|of| {
            let [position, _, place, event_type, id, data] = Shown::of(&of.event)?.columns();
            Ok([of.token.clone(), of.attempt.to_string(), position, place, event_type, id, data])
        })
        .collect();
    let heading = ["TOKEN", "ATTEMPT", "POSITION", "STREAM", "TYPE", "ID", "DATA"];
    Ok(Output::with_json(table(heading, &rows?), text))
}

fn settle_with_reason(client: &Client, flags: &ReasonedFlags, how: &str) -> Result<Output, Failure> {
    let reason = flags.reason.as_ref();
    settle(client, &flags.which, how, |token| match reason {
        Some(reason) => json!({"token": token, "reason": reason}),
        None => json!({"token": token}),
    })
}

#[derive(Deserialize)]
struct Settled {
    settled: usize,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    token: String,
    reason: String,
}

/// Fails where one of them was refused.
fn settle(client: &Client, flags: &SettleFlags, how: &str, one: impl Fn(&str) -> Value) -> Result<Output, Failure> {
    let tokens: Vec<_> = flags.tokens.iter().map(|token| one(token)).collect();
    let answer = client.post(&format!("/groups/{}/settle", flags.name), &json!({ how: tokens }))?;
    let Settled { settled, refused } = understood(&answer)?;
    if refused.is_empty() {
        return Ok(Output::new(format!("{settled} settled"), answer));
    }
    let problems = refused.into_iter().map(|Refused { token, reason }| format!("{token}: {reason}")).collect();
    Err(Failure::with_problems(Exit::Failed, format_args!("{settled} settled, and not all"), problems, answer))
}

#[derive(Deserialize)]
struct ParkedPage {
    parked: Vec<Parked>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Parked {
    position: u64,
    reason: String,
    attempts: u32,
    at: String,
    event: Option<Box<RawValue>>,
}

impl Parked {
    fn row(&self) -> Result<[String; 7], Failure> {
        let [place, event_type, id] = match &self.event {
            Some(event) => {
                let [_, _, place, event_type, id, _] = Shown::of(event)?.columns();
                [place, event_type, id]
            }
            None => ["-", "-", "-"].map(str::to_owned),
        };
        let (position, attempts) = (self.position.to_string(), self.attempts.to_string());
        Ok([position, self.at.clone(), place, event_type, id, attempts, super::one_line(&self.reason)])
    }
}

/// The first page.
fn parked(client: &Client, name: &GroupName, limit: u64) -> Result<Output, Failure> {
    let text = client.get_text(&format!("/groups/{name}/parked?limit={limit}"))?;
    let page: ParkedPage = serde_json::from_str(&text).map_err(|error| not_understood(&error))?;
    let rows: Result<Vec<_>, Failure> = page.parked.iter().map(Parked::row).collect();
    let mut shown = table(["POSITION", "PARKED", "STREAM", "TYPE", "ID", "ATTEMPTS", "REASON"], &rows?);
    if page.next.is_some() {
        shown.push_str(&format!("\n(the first {}; GET /groups/{name}/parked shows more)", page.parked.len()));
    }
    Ok(Output::with_json(shown, text))
}

fn replay(client: &Client, flags: &ReplayFlags) -> Result<Output, Failure> {
    let body = flags.position.map_or_else(|| json!({}), |position| json!({ "position": position }));
    let answer = client.post(&format!("/groups/{}/parked/replay", flags.name), &body)?;
    Ok(Output::new(format!("{} are delivered again", answer["replayed"]), answer))
}

fn reset(client: &Client, flags: &ResetFlags) -> Result<Output, Failure> {
    let answer = client.post(&format!("/groups/{}/reset", flags.name), &json!({"to": flags.to}))?;
    let group: Group = understood(&answer)?;
    Ok(Output::new(format!("group {} is at position {}", flags.name, group.checkpoint), answer))
}
