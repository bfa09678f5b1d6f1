//! `Authorization: Bearer` (RFC 6750 §2.1) and `Cookie` (RFC 6265 §4.2).

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

/// What the `Cookie` fields say of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie<'a> {
    /// Nothing.
    None,
    /// Something that cannot be a token, or two of them: who set the second one is not known.
    Malformed,
    /// A token; whether it is good is not known here.
    Token(&'a str),
}

/// The cookie of this name in one or several `Cookie` fields. What others have put there does not matter.
pub fn cookie<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str) -> Cookie<'a> {
    let mut found = Cookie::None;
    for pair in fields.flat_map(|field| field.split(|b| *b == b';')) {
        let pair = pair.trim_ascii();
        let Some(value) = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) else { continue };
        if found != Cookie::None {
            return Cookie::Malformed;
        }
        found = token(value).map_or(Cookie::Malformed, Cookie::Token);
    }
    found
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
    fn what_cookies_say() {
        for (fields, says) in [
            (&["a=1; oxios=abc; b=2"][..], Cookie::Token("abc")),
            (&["oxios=abc"], Cookie::Token("abc")),
            (&["a=1", "oxios=abc"], Cookie::Token("abc")),
            (&[";;oxios=abc;"], Cookie::Token("abc")),
            (&[""], Cookie::None),
            (&[], Cookie::None),
            (&["oxios2=abc; xoxios=d; OXIOS=e; oxios"], Cookie::None),
            (&["oxios="], Cookie::Malformed),
            (&["oxios=a b"], Cookie::Malformed),
            (&["oxios=\"a\""], Cookie::Malformed),
            (&["oxios=abc; oxios=abc"], Cookie::Malformed),
            (&["oxios=abc", "oxios=def"], Cookie::Malformed),
        ] {
            assert_eq!(cookie(fields.iter().map(|field| field.as_bytes()), "oxios"), says, "{fields:?}");
        }
    }

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
