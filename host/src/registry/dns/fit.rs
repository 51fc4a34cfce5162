//! A message as bytes, no longer than its way back allows.

use hickory_proto::{
    op::Message,
    serialize::binary::{BinEncodable, BinEncoder},
};

/// Least that a record takes: a pointer to its name (2 bytes), type, class, TTL and length (10), an IPv4 address (4).
pub(super) const RECORD_BYTES_MIN: usize = 16;

/// Where the whole message does not fit, the additional section goes first, which is only a courtesy; then as many
/// answers as needed, and the message says that it was cut (TC).
/// None: not even the question fits, or something in it cannot be written.
pub(super) fn fit(mut message: Message, bytes_max: usize) -> Option<Vec<u8>> {
    if let Some(whole) = written(&message, bytes_max) {
        return Some(whole);
    }
    message.additionals.clear();
    if let Some(whole) = written(&message, bytes_max) {
        return Some(whole);
    }
    message.metadata.truncation = true;
    let answers = std::mem::take(&mut message.answers);
    let (mut fits, mut too_many) = (0, answers.len());
    let mut best = written(&message, bytes_max)?;
    while fits + 1 < too_many {
        let tried = usize::midpoint(fits, too_many);
        message.answers = answers[..tried].to_vec();
        match written(&message, bytes_max) {
            Some(bytes) => (best, fits) = (bytes, tried),
            None => too_many = tried,
        }
    }
    Some(best)
}

/// None: longer than that.
fn written(message: &Message, bytes_max: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(bytes_max.min(4096));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(u16::try_from(bytes_max).unwrap_or(u16::MAX));
    message.emit(&mut encoder).ok()?;
    // The encoder leaves out what does not fit; the counts in the header tell.
    let count = |at: usize| bytes.get(at..at + 2).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]])));
    let additionals = message.additionals.len() + usize::from(message.edns.is_some());
    let whole =
        count(6)? == message.answers.len() && count(8)? == message.authorities.len() && count(10)? == additionals;
    (whole && bytes.len() <= bytes_max).then_some(bytes)
}
