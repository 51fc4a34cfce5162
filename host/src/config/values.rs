//! Values that more than one section has: numbers in a range, durations, sizes, addresses, files.

use std::{
    collections::HashSet,
    fmt::Display,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use http::HeaderName;
use toml::de::DeValue;

use super::reader::{FileCheck, Value};

impl Value<'_> {
    /// A text that a checked type makes itself of; its own error says what is wrong.
    pub fn parsed<T>(&self, wanted: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text(wanted)?.parse().map_err(|error| self.refuse(error)).ok()
    }

    pub fn boolean(&self) -> Option<bool> {
        let boolean = self.value.as_bool();
        if boolean.is_none() {
            self.refuse_type("true or false");
        }
        boolean
    }

    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let wanted = || format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = self.value else {
            self.refuse_type(&wanted());
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) if range.contains(&integer) => Some(integer),
            _ => {
                self.refuse(format_args!("must be {}, not {integer}", wanted()));
                None
            }
        }
    }

    /// A number, whole or not.
    pub fn number(&self, wanted: &str) -> Option<f64> {
        let number = match self.value {
            DeValue::Integer(integer) => integer.to_string().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.refuse_type(wanted);
        }
        number
    }

    /// A text such as "15 s".
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let wanted = "a duration with its unit, such as \"15 s\" or \"250 ms\"";
        if let DeValue::Integer(number) = self.value {
            self.refuse(format_args!("must be {wanted}; write \"{number} s\" or \"{number} ms\""));
            return None;
        }
        let text = self.text(wanted)?;
        let Ok(duration) = humantime::parse_duration(text) else {
            self.refuse(format_args!("must be {wanted}, not {text:?}"));
            return None;
        };
        if !range.contains(&duration) {
            let shown = humantime::format_duration;
            let (least, most) = (shown(*range.start()), shown(*range.end()));
            self.refuse(format_args!("must be from {least} to {most}, not {text:?}"));
            return None;
        }
        Some(duration)
    }

    /// A text such as "16 MiB", in bytes.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let wanted = "a size with its unit, such as \"16 MiB\" or \"64 KiB\"";
        if let DeValue::Integer(number) = self.value {
            self.refuse(format_args!("must be {wanted}; write \"{number} B\" if bytes are meant"));
            return None;
        }
        let text = self.text(wanted)?;
        let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
        let Some(ByteSize(size)) = text.parse().ok().filter(|_| has_unit) else {
            self.refuse(format_args!("must be {wanted}, not {text:?}"));
            return None;
        };
        if !range.contains(&size) {
            let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
            self.refuse(format_args!("must be from {least} to {most}, not {text:?}"));
            return None;
        }
        Some(size)
    }

    /// An IP address and port on which to listen; port 0 takes a free one.
    pub fn listen_address(&self) -> Option<SocketAddr> {
        let wanted = "an IP address and port on which to listen, such as \"127.0.0.1:8080\" or \"[::]:8080\"";
        let text = self.text(wanted)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let hint = match text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')) {
                Some(port) if port.parse::<u16>().is_ok() => format!("; did you mean \"127.0.0.1:{port}\"?"),
                _ => String::new(),
            };
            self.refuse(format_args!("must be {wanted}, not {text:?}{hint}"));
        }
        parsed
    }

    /// Where to ask a name server: port 53 where none is given.
    pub fn name_server(&self) -> Option<SocketAddr> {
        /// RFC 1035 §4.2.
        const DNS_PORT: u16 = 53;
        let wanted = "the IP address of a name server, such as \"10.0.0.2\" or \"10.0.0.2:5353\"";
        let text = self.text(wanted)?;
        let address = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT))).ok();
        if address.is_none_or(|address| address.port() == 0) {
            self.refuse(format_args!("must be {wanted}, not {text:?}"));
            return None;
        }
        address
    }

    pub fn header_name(&self) -> Option<HeaderName> {
        let text = self.text("a header's name, such as \"x-tenant\"")?;
        let name = HeaderName::from_bytes(text.as_bytes()).ok();
        if name.is_none() {
            self.refuse(format_args!("{text:?} is no header name: letters, digits and '-' make one (RFC 9110 §5.1)"));
        }
        name
    }

    /// A path, relative to the configuration file's folder.
    pub fn file_path(&self) -> Option<PathBuf> {
        let text = self.text("the path of a file or folder")?;
        if text.is_empty() || text.contains('\0') {
            self.refuse(format_args!("must be the path of a file or folder, not {text:?}"));
            return None;
        }
        Some(self.cx.base_dir.join(text))
    }

    /// The path of a file that is to be read.
    pub fn readable_file(&self) -> Option<PathBuf> {
        let path = self.file_path()?;
        if self.cx.file_check == FileCheck::Trust {
            return Some(path);
        }
        // Opened only once it is known to be a plain file: opening a named pipe would wait.
        let refused = match std::fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => "it is not a file".to_owned(),
            Ok(_) => match std::fs::File::open(&path) {
                Ok(_) => return Some(path),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        self.refuse(format_args!("{} cannot be read: {refused}", path.display()));
        None
    }

    /// Every element that `read` can use, in order; a second one equal to an earlier one is refused.
    pub fn distinct<T: Eq + Hash + Clone>(&self, wanted: &str, read: impl Fn(&Self) -> Option<T>) -> Vec<T> {
        let mut seen = HashSet::new();
        let mut values = Vec::new();
        for item in self.items(wanted).unwrap_or_default() {
            match read(&item) {
                Some(value) if seen.insert(value.clone()) => values.push(value),
                Some(_) => item.refuse("stands in the list already"),
                None => {}
            }
        }
        values
    }
}
