//! An event as a guest sees it: every attribute as text, borrowed wherever the event has it so.

use std::borrow::Cow;

use crate::{
    model::event::{Event, Extension},
    plugin::bindings::event_handler::sluice::plugin::events::{DraftParam, Event as GuestEvent},
};

/// Name under which a guest finds `dataschema` among the extension attributes: in every format of CloudEvents they stand
/// side by side.
pub(super) const SCHEMA: &str = "dataschema";

/// An event, and the texts that it does not have itself.
pub(super) struct Shown<'a> {
    event: &'a Event,
    extensions: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Shown<'a> {
    pub fn of(event: &'a Event) -> Self {
        let schema = event.draft.schema.as_deref().map(|schema| (SCHEMA, Cow::Borrowed(schema)));
        let own = event.draft.extensions.iter().map(|(name, value)| {
            let text = match value {
                Extension::Text(text) => Cow::Borrowed(&**text),
                other => Cow::Owned(other.to_string()),
            };
            (&**name, text)
        });
        Self { event, extensions: schema.into_iter().chain(own).collect() }
    }

    /// What [`Self::param`] needs.
    pub fn extensions(&self) -> Vec<(&str, &str)> {
        self.extensions.iter().map(|(name, value)| (*name, &**value)).collect()
    }

    pub fn param<'b>(&'b self, extensions: &'b [(&'b str, &'b str)]) -> GuestEvent<'b> {
        let draft = &self.event.draft;
        GuestEvent {
            id: draft.id.as_str(),
            source: draft.source.as_str(),
            position: self.event.position.0,
            revision: self.event.revision,
            time_ms: self.event.time_ms(),
            draft: DraftParam {
                stream_name: self.event.stream.as_str(),
                event_type: draft.event_type.as_str(),
                subject: draft.subject.as_deref(),
                content_type: draft.content_type.as_deref().unwrap_or_default(),
                data: &draft.data,
                extensions,
            },
        }
    }
}
