//! Checked names and small numbers.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a name was refused; says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?}: {rule}")]
pub struct NameError {
    what: &'static str,
    given: String,
    rule: &'static str,
}

/// Longest service or plugin name: a DNS label (RFC 1035), since services are also found by DNS.
const NAME_LEN_MAX: usize = 63;

const NAME_RULE: &str = "must be 1 to 63 characters of a-z, 0-9 and '-', and neither begin nor end with '-'";

fn check_label(what: &'static str, given: &str) -> Result<(), NameError> {
    let right = !given.is_empty()
        && given.len() <= NAME_LEN_MAX
        && given.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !given.starts_with('-')
        && !given.ends_with('-');
    if right { Ok(()) } else { Err(NameError { what, given: given.to_owned(), rule: NAME_RULE }) }
}

macro_rules! label_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(given: &str) -> Result<Self, NameError> {
                check_label($what, given).map(|()| Self(given.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(given: String) -> Result<Self, NameError> {
                given.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label_type!(
    /// Name of a service: one DNS label in lower case. Cheap to clone: each attempt has one.
    ServiceName,
    "service name"
);
label_type!(
    /// Name of a plugin: one DNS label in lower case.
    PluginName,
    "plugin name"
);
label_type!(
    /// Name of an event handler: one DNS label in lower case, since it stands in paths and in the ids of what it causes.
    HandlerName,
    "handler name"
);
label_type!(
    /// Name of a consumer group of events: one DNS label in lower case, since it stands in paths.
    GroupName,
    "group name"
);

/// One component binary of a plugin: the first 12 hex digits of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionId([u8; 6]);

impl VersionId {
    /// The version that these bytes are.
    pub fn of(component: &[u8]) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(component);
        let mut head = [0; 6];
        head.copy_from_slice(&digest[..6]);
        Self(head)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VersionId {
    type Err = NameError;
    fn from_str(given: &str) -> Result<Self, NameError> {
        let mut bytes = [0; 6];
        let lower_case = !given.bytes().any(|b| b.is_ascii_uppercase());
        match hex::decode_to_slice(given, &mut bytes) {
            Ok(()) if lower_case => Ok(Self(bytes)),
            _ => Err(NameError {
                what: "version",
                given: given.to_owned(),
                rule: "must be the first 12 hex digits of a component's SHA-256, in lower case",
            }),
        }
    }
}

impl TryFrom<String> for VersionId {
    type Error = NameError;
    fn try_from(given: String) -> Result<Self, NameError> {
        given.parse()
    }
}

impl From<VersionId> for String {
    fn from(version: VersionId) -> String {
        version.to_string()
    }
}

/// What a plugin decides. One WIT world each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginKind {
    Balancer,
    Failover,
    Discovery,
    Transaction,
    EventHandler,
}

impl PluginKind {
    pub const ALL: [Self; 5] = [Self::Balancer, Self::Failover, Self::Discovery, Self::Transaction, Self::EventHandler];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Failover => "failover",
            Self::Discovery => "discovery",
            Self::Transaction => "transaction",
            Self::EventHandler => "event-handler",
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Relative share of an endpoint or a route's target, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Weight(u16);

impl Weight {
    pub const ONE: Self = Self(1);

    pub fn new(weight: i64) -> Option<Self> {
        u16::try_from(weight).ok().filter(|&weight| weight > 0).map(Self)
    }

    pub fn get(self) -> u32 {
        u32::from(self.0)
    }
}

/// A share in percent, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Percent(u8);

impl Percent {
    pub fn new(percent: i64) -> Option<Self> {
        u8::try_from(percent).ok().filter(|&percent| percent <= 100).map(Self)
    }

    pub fn get(self) -> u8 {
        self.0
    }
}
