//! Why a message is refused, each with its rule.

use std::{error::Error, io};

use http::StatusCode;

/// One rule broken. Its text is a sentence for the client; its doc names the RFC that the rule follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// RFC 9112 §2.2 lets a recipient take a lone LF as a line end; those that do and those that do not read two messages.
    #[error("a line ends with LF alone; each line of a head and of chunk framing ends with CR LF")]
    BareLf,
    /// RFC 9112 §2.2: a bare CR makes the element invalid.
    #[error("a CR stands without its LF; each line of a head and of chunk framing ends with CR LF")]
    BareCr,
    /// RFC 9112 §2.2: a server should ignore at least one empty line before a request line. We ignore one.
    #[error("more than one empty line stands before the request line")]
    EmptyLines,
    /// RFC 9112 §3.1: a method is a token.
    #[error("the method is not a token of letters, digits and !#$%&'*+-.^_`|~")]
    Method,
    /// RFC 9112 §3.1: 501 for a method longer than any that the server implements.
    #[error("the method is longer than 32 characters")]
    MethodTooLong,
    /// RFC 9112 §3: method SP target SP version, one space each, nothing after.
    #[error("the request line is not a method, a target and a version with one space between each")]
    RequestLine,
    /// RFC 9110 §9.3.6: a server that is no tunnel for others need not implement CONNECT.
    #[error("CONNECT is not offered here")]
    Connect,
    /// RFC 9112 §3.2: origin-form, absolute-form with http or https, or `*` with OPTIONS.
    #[error("the target is neither a path that begins with /, nor an http or https URL, nor * with OPTIONS")]
    TargetForm,
    /// RFC 9112 §3.2: no white space, no byte outside the URI's characters; a backslash is a slash to some.
    #[error("the target has a character that must be percent-encoded")]
    TargetByte,
    /// RFC 9112 §3.2: no form of the target has a fragment; some cut it off, some take it as path.
    #[error("the target has a fragment (#…), which is never sent to a server")]
    Fragment,
    /// RFC 9112 §3: 414 for a target longer than the server wishes to parse.
    #[error("the request line is longer than this gateway reads")]
    TargetTooLong,
    /// RFC 9112 §2.3: `HTTP/` digit `.` digit, in capitals.
    #[error("the request line does not end with HTTP/1.1 or HTTP/1.0")]
    VersionSyntax,
    /// RFC 9110 §15.6.6.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken on an HTTP/1 connection")]
    Version,
    /// RFC 9113 §3.4: `PRI` is for the first bytes of an HTTP/2 connection only.
    #[error("an HTTP/2 preface stands within an HTTP/1 connection")]
    Preface,
    /// RFC 9110 §5.1: a field name is a token.
    #[error("a field name has a character that no name may have")]
    FieldName,
    /// RFC 9110 §5.1: of at least one character.
    #[error("a field has no name")]
    FieldNameEmpty,
    /// Longer than any name in use; 431 as RFC 6585 §5 has it for single fields too.
    #[error("a field name is longer than 256 characters")]
    FieldNameTooLong,
    /// RFC 9112 §5.1: white space between name and colon must be refused with 400.
    #[error("white space stands between a field name and its colon")]
    SpaceBeforeColon,
    /// RFC 9112 §5.
    #[error("a field line has no colon")]
    NoColon,
    /// RFC 9112 §5.2: a server must refuse line folding (or undo it); §2.2 likewise before the first field.
    #[error("a line of the head begins with white space; folded lines are not accepted")]
    ObsFold,
    /// RFC 9110 §5.5: CR, LF and NUL are dangerous, other controls invalid.
    #[error("a field value has a control character")]
    FieldValue,
    /// RFC 6585 §5.
    #[error("the head or the trailers are larger than this gateway reads")]
    HeadTooLarge,
    /// RFC 6585 §5.
    #[error("the head or the trailers have more fields than this gateway reads")]
    TooManyFields,
    /// RFC 9112 §3.2: 400 without Host in HTTP/1.1.
    #[error("HTTP/1.1 needs a Host field")]
    HostMissing,
    /// RFC 9112 §3.2: 400 with more than one.
    #[error("there is more than one Host field")]
    HostRepeated,
    /// RFC 9112 §3.2, RFC 3986 §3.2: a host and perhaps a port; we take no user, no escapes, no list.
    #[error("the host is not a name or an address with perhaps a port from 0 to 65535")]
    HostInvalid,
    /// RFC 9112 §3.2.2: the target's authority wins; one who reads Host sees another site, so both must agree.
    #[error("the Host field differs from the host in the target")]
    HostMismatch,
    /// RFC 9112 §6.3 rule 5 lets equal lengths be merged; we refuse, since some read the first and some the last.
    #[error("there is more than one Content-Length")]
    LengthRepeated,
    /// RFC 9110 §8.6: digits only; a value beyond 2^63-1 overflows in some reader.
    #[error("the Content-Length is not a decimal number below 2^63")]
    LengthInvalid,
    /// RFC 9112 §6.1: ought to be handled as an error, since it may be an attempt at request smuggling.
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    LengthAndCoding,
    /// RFC 9112 §6.1: chunked not applied more than once, hence one field with one coding.
    #[error("there is more than one Transfer-Encoding")]
    CodingRepeated,
    /// RFC 9112 §6.3 rule 4: 400 where chunked is not the final coding; §7.1: chunked has no parameters.
    #[error("the Transfer-Encoding is not exactly chunked")]
    CodingInvalid,
    /// RFC 9112 §6.1: 501 for a coding that the server does not know.
    #[error("no transfer coding but chunked is understood here")]
    CodingUnknown,
    /// RFC 9112 §6.1: in HTTP/1.0 the framing is to be treated as faulty.
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    CodingInHttp10,
    /// No RFC: gateways to CGI and its successors turn `-` and `_` into the same letter.
    #[error("Content_Length and Transfer_Encoding with an underscore are read as framing by some servers")]
    FramingLookalike,
    /// RFC 9110 §10.1.1.
    #[error("no expectation but 100-continue can be met")]
    Expectation,
    /// RFC 9112 §7.1: at least one hexadecimal digit, then `;` or the line's end.
    #[error("a chunk does not begin with its size in hexadecimal digits")]
    ChunkSize,
    /// RFC 9112 §7.1: recipients must anticipate large numerals and prevent overflow.
    #[error("a chunk is larger than 2^63-1 bytes or its size has more than 16 digits")]
    ChunkSizeTooLarge,
    /// RFC 9112 §7.1.1: `;name` or `;name=value`, and a server ought to limit their total length.
    #[error("a chunk extension is malformed")]
    ChunkExtension,
    /// RFC 9112 §7.1.1, the same.
    #[error("chunk extensions are longer than this gateway reads")]
    ChunkExtensionTooLong,
    /// RFC 9112 §7.1: CR LF follows the data.
    #[error("a chunk's data are not followed by CR LF")]
    ChunkEnd,
    /// RFC 9110 §6.5.1: no framing, no routing in trailers.
    #[error("Content-Length, Transfer-Encoding and Host may not stand in trailers")]
    TrailerField,
    /// RFC 9110 §15.5.9. Said by the reaper ([`super::ConnState::expire`]), not by the bytes.
    #[error("the head did not arrive in time")]
    HeadTooSlow,
    /// RFC 9110 §15.5.9, likewise.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
}

impl Refusal {
    /// A label for each, for the metrics; [`Self::index`] is the place in it.
    pub const REASONS: &'static [&'static str] = &[
        "bare-lf",
        "bare-cr",
        "empty-lines",
        "method",
        "method-too-long",
        "request-line",
        "connect",
        "target-form",
        "target-byte",
        "fragment",
        "target-too-long",
        "version-syntax",
        "version",
        "preface",
        "field-name",
        "field-name-empty",
        "field-name-too-long",
        "space-before-colon",
        "no-colon",
        "obs-fold",
        "field-value",
        "head-too-large",
        "too-many-fields",
        "host-missing",
        "host-repeated",
        "host-invalid",
        "host-mismatch",
        "length-repeated",
        "length-invalid",
        "length-and-coding",
        "coding-repeated",
        "coding-invalid",
        "coding-unknown",
        "coding-in-http10",
        "framing-lookalike",
        "expectation",
        "chunk-size",
        "chunk-size-too-large",
        "chunk-extension",
        "chunk-extension-too-long",
        "chunk-end",
        "trailer-field",
        "head-too-slow",
        "body-too-slow",
    ];

    pub fn index(self) -> usize {
        self as usize
    }

    /// The refusal that made a request's body end with this error, if one did.
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let from_io = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref()?.downcast_ref().copied());
        from_io.or_else(|| Self::behind(error.source()?))
    }

    /// What the client is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::HeadTooSlow | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::FieldNameTooLong | Self::HeadTooLarge | Self::TooManyFields => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::MethodTooLong | Self::Connect | Self::CodingUnknown => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_label() {
        assert_eq!(Refusal::BodyTooSlow.index() + 1, Refusal::REASONS.len());
        assert_eq!(Refusal::REASONS[Refusal::BareLf.index()], "bare-lf");
        assert_eq!(Refusal::REASONS[Refusal::ObsFold.index()], "obs-fold");
    }
}
