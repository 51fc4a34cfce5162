//! "Did you mean …": the name that somebody probably meant.

use std::borrow::Borrow;

/// Longer names are not compared: the comparison takes time in the product of both lengths.
const COMPARED_LEN_MAX: usize = 64;

/// Names listed where none is near enough.
const LISTED_MAX: usize = 12;

/// Comparisons in one reading of a file, about a tenth of a second: thousands of wrong references to one of thousands
/// of names would take minutes otherwise.
pub(super) const COMPARISONS_MAX: usize = 200_000;

/// `; did you mean "…"?`, or `; known here: …`, or nothing where there is nothing to offer.
pub(super) fn hint<S: Borrow<str>>(given: &str, candidates: impl IntoIterator<Item = S>) -> String {
    let candidates: Vec<S> = candidates.into_iter().collect();
    if let Some(near) = nearest(given, candidates.iter().map(Borrow::borrow)) {
        return format!("; did you mean {near:?}?");
    }
    if candidates.is_empty() || candidates.len() > LISTED_MAX {
        return String::new();
    }
    format!("; known here: {}", candidates.join(", "))
}

/// The nearest candidate, if it is near enough to be a slip of the hand.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if given.is_empty() || given.len() > COMPARED_LEN_MAX {
        return None;
    }
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "_");
    let given = plain(given);
    // One slip in a short word, two from five letters on, three in a long one.
    let slips_max = match given.chars().count() {
        ..=4 => 1,
        5..=11 => 2,
        _ => 3,
    };
    // A name that differs more in length needs no closer look; with thousands of names that is nearly all of them.
    candidates
        .filter(|candidate| candidate.len().abs_diff(given.len()) <= slips_max)
        .map(|candidate| (strsim::damerau_levenshtein(&given, &plain(candidate)), candidate))
        .filter(|&(slips, _)| slips <= slips_max)
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, candidate)| candidate)
}
