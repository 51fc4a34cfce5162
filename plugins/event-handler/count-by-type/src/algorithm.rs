//! One number a type, under the type's own name.

use sluice_sdk::{
    event_handler::{Answer, Page, Query, State, number},
    json::quoted,
};

pub fn count(event_type: &str, state: &mut State) {
    state.add(event_type, 1);
}

pub fn all(query: &Query, state: &State) -> Answer {
    let page = match Page::asked_for(query, state, "") {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let counts: Vec<_> =
        page.entries.iter().map(|(name, count)| format!("{}:{}", quoted(name), number(count))).collect();
    Answer::json(format!("{{\"counts\":{{{}}},\"next\":{}}}", counts.join(","), page.next_json()))
}

pub fn one(event_type: &str, state: &State) -> Answer {
    Answer::json(format!("{{\"type\":{},\"count\":{}}}", quoted(event_type), state.number(event_type)))
}
