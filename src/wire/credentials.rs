//! `Authorization: Bearer` (RFC 6750 §2.1).

/// Longest token that is looked at; ours have 43 characters, other people's keys may be longer.
pub const TOKEN_BYTES_MAX: usize = 512;

/// What an `Authorization` field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer<'a> {
    /// Another scheme than Bearer: as if there were none.
    Other,
    /// `Bearer` with something that cannot be a token.
    Malformed,
    /// A token; whether it is good is not known here.
    Token(&'a str),
}

/// Reads one `Authorization` field. The scheme's case does not matter (RFC 9110 §11.1).
pub fn bearer(value: &[u8]) -> Bearer<'_> {
    let Some((scheme, rest)) = value.split_first_chunk::<6>() else { return Bearer::Other };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Bearer::Other;
    }
    match rest.split_first() {
        None => Bearer::Malformed,
        Some((b' ', rest)) => token(rest.trim_ascii()).map_or(Bearer::Malformed, Bearer::Token),
        Some(_) => Bearer::Other,
    }
}

/// A token as RFC 6750 §2.1 writes it (`b64token`), bounded.
pub fn token(bytes: &[u8]) -> Option<&str> {
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    if bytes.is_empty() || bytes.len() > TOKEN_BYTES_MAX || !bytes.iter().all(good) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_field_says() {
        for (value, says) in [
            ("Bearer abc", Bearer::Token("abc")),
            ("bEARER  a-._~+/=1 ", Bearer::Token("a-._~+/=1")),
            ("Bearer", Bearer::Malformed),
            ("Bearer ", Bearer::Malformed),
            ("Bearer a b", Bearer::Malformed),
            ("Bearer a,Bearer b", Bearer::Malformed),
            ("Bearer h\u{e4}", Bearer::Malformed),
            ("Bearerabc", Bearer::Other),
            ("Basic YTpi", Bearer::Other),
            ("", Bearer::Other),
        ] {
            assert_eq!(bearer(value.as_bytes()), says, "{value}");
        }
        assert_eq!(bearer(format!("Bearer {}", "a".repeat(TOKEN_BYTES_MAX + 1)).as_bytes()), Bearer::Malformed);
    }
}
