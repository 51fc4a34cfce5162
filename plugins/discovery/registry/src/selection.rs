//! Which of a service's instances are meant.

/// What an instance must have. Nothing asked for is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// All of them.
    pub tags: Vec<String>,
    pub zone: Option<String>,
    pub metadata: Vec<(String, String)>,
}

/// The name of the metadata entries that are tags (WIT `registry.listing`).
const TAG: &str = "tag";

impl Selection {
    pub fn takes(&self, zone: &str, metadata: &[(String, String)]) -> bool {
        let has = |name: &str, value: &str| metadata.iter().any(|(has, is)| has == name && is == value);
        self.zone.as_ref().is_none_or(|wanted| wanted == zone)
            && self.tags.iter().all(|tag| has(TAG, tag))
            && self.metadata.iter().all(|(name, value)| has(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_instance_needs_every_tag_the_zone_and_every_entry() {
        let metadata = pairs(&[("tag", "v2"), ("tag", "canary"), ("track", "stable")]);
        let takes = |tags: &[&str], zone: Option<&str>, wanted: &[(&str, &str)]| {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            Selection { tags, zone: zone.map(str::to_owned), metadata: pairs(wanted) }.takes("b", &metadata)
        };
        assert!(takes(&[], None, &[]));
        assert!(takes(&["v2", "canary"], Some("b"), &[("track", "stable")]));
        assert!(!takes(&["v2", "v3"], None, &[]));
        assert!(!takes(&["stable"], None, &[]), "a value that is no tag");
        assert!(!takes(&[], Some("a"), &[]));
        assert!(!takes(&[], None, &[("track", "beta")]));
    }
}
