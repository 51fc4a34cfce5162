//! `sluice transaction …`.

mod flags;
mod shown;

pub(super) use flags::TransactionCommand;

use std::{
    fs::File,
    io::{Read, stdin},
    path::Path,
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{Client, understood},
    failure::{Exit, Failure},
    output::{Output, table},
};
use crate::transactions::{Gid, REQUEST_BYTES_MAX};

/// Of a page that is asked for.
const PAGE: usize = 1_000;

/// Each time the outcome is asked for: less than the client waits for an answer.
const WAIT: &str = "30s";

pub(super) fn run(command: TransactionCommand) -> Result<Output, Failure> {
    match command {
        TransactionCommand::List { status, protocol, limit, control } => {
            list(&Client::new(&control)?, &status, protocol.as_deref(), limit as usize)
        }
        TransactionCommand::Show { gid, control } => show(&Client::new(&control)?, &gid),
        TransactionCommand::Submit { file, no_wait, control } => submit(&Client::new(&control)?, &file, no_wait),
        TransactionCommand::Retry { gid, control } => ask(&Client::new(&control)?, &gid, "retry"),
        TransactionCommand::Stop { gid, control } => ask(&Client::new(&control)?, &gid, "stop"),
    }
}

/// What `GET /transactions` says, as far as the list shows it.
#[derive(Deserialize)]
struct Page {
    transactions: Vec<Value>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Transaction {
    gid: String,
    protocol: String,
    status: String,
    plugin: String,
    version: String,
    created_at: String,
    hazard: Option<String>,
    last_error: Option<String>,
}

fn list(client: &Client, statuses: &[String], protocol: Option<&str>, limit: usize) -> Result<Output, Failure> {
    let statuses = statuses.iter().map(|status| format!("status={}&", in_query(status)));
    let protocol = protocol.iter().map(|protocol| format!("protocol={}&", in_query(protocol)));
    let filters: String = statuses.chain(protocol).collect();
    let mut path = format!("/transactions?{filters}limit={}", limit.min(PAGE));
    let mut transactions = Vec::new();
    let is_whole = loop {
        let page: Page = understood(&client.get(&path)?)?;
        transactions.extend(page.transactions);
        match page.next {
            Some(next) if transactions.len() < limit => path = next,
            next => break next.is_none() && transactions.len() <= limit,
        }
    };
    transactions.truncate(limit);
    let rows: Result<Vec<_>, Failure> = transactions.iter().map(|it| understood(it).map(row)).collect();
    let heading = ["TRANSACTION", "PROTOCOL", "STATUS", "BEGUN", "PLUGIN", "VERSION", "TROUBLE"];
    let mut text = table(heading, &rows?);
    if !is_whole {
        text.push_str(&format!("\n(the newest {limit}; --limit shows more)"));
    }
    Ok(Output::new(text, json!({"transactions": transactions, "complete": is_whole})))
}

fn row(transaction: Transaction) -> [String; 7] {
    let Transaction { gid, protocol, status, plugin, version, created_at, hazard, last_error } = transaction;
    let trouble = hazard.or(last_error).unwrap_or_default();
    [gid, protocol, status, created_at, plugin, version, shown::one_line(&trouble)]
}

fn show(client: &Client, gid: &Gid) -> Result<Output, Failure> {
    let answer = client.get(&format!("/transactions/{gid}"))?;
    let details: shown::Details = understood(&answer)?;
    Ok(Output::new(details.in_words(), answer))
}

fn ask(client: &Client, gid: &Gid, what: &str) -> Result<Output, Failure> {
    let answer = client.post(&format!("/transactions/{gid}/{what}"), &json!({}))?;
    let outcome: Outcome = understood(&answer)?;
    Ok(Output::new(outcome.in_words(), answer))
}

#[derive(Deserialize)]
struct Outcome {
    gid: String,
    status: String,
    reason: Option<String>,
}

impl Outcome {
    fn in_words(&self) -> String {
        let Self { gid, status, reason } = self;
        let reason = reason.iter().map(|reason| format!(": {}", shown::one_line(reason)));
        std::iter::once(format!("transaction {gid} is {status}")).chain(reason).collect()
    }

    fn goes_on(&self) -> bool {
        !["hazard", "succeeded", "failed", "stopped"].contains(&self.status.as_str())
    }
}

fn submit(client: &Client, file: &Path, no_wait: bool) -> Result<Output, Failure> {
    let mut answer = client.post("/transactions", &request(file)?)?;
    let mut outcome: Outcome = understood(&answer)?;
    while !no_wait && outcome.goes_on() {
        answer = client.get(&format!("/transactions/{}?wait={WAIT}", outcome.gid))?;
        outcome = understood(&answer)?;
    }
    if no_wait || outcome.status == "succeeded" {
        return Ok(Output::new(outcome.in_words(), answer));
    }
    Err(Failure::with_problems(Exit::Failed, outcome.in_words(), Vec::new(), answer))
}

fn request(file: &Path) -> Result<Value, Failure> {
    let wrong = |why: String| Failure::new(Exit::WrongInput, format_args!("{}: {why}", file.display()));
    let mut text = String::new();
    let limit = REQUEST_BYTES_MAX as u64 + 1;
    let read = match file.to_str() {
        Some("-") => stdin().take(limit).read_to_string(&mut text),
        _ => File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text)),
    };
    read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if text.len() > REQUEST_BYTES_MAX {
        return Err(wrong(format!("is larger than {REQUEST_BYTES_MAX} bytes")));
    }
    match serde_json::from_str(&text) {
        Ok(request @ Value::Object(_)) => Ok(request),
        Ok(_) => Err(wrong("must be a JSON object".to_owned())),
        Err(error) => Err(wrong(format!("is no JSON: {error}"))),
    }
}

fn in_query(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
