//! `Accept-Encoding` (RFC 9110 §12.5.3): whether gzip is welcome.

/// The value of the field allows gzip: by name, or by `*` where it is not named; a weight of zero forbids.
pub fn accepts_gzip(value: &[u8]) -> bool {
    let mut any = false;
    for item in value.split(|b| *b == b',') {
        let mut parts = item.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let welcome = !parts.any(is_zero_weight);
        if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            return welcome;
        }
        any |= name == b"*" && welcome;
    }
    any
}

/// `q=0`, `q=0.0` …
fn is_zero_weight(part: &[u8]) -> bool {
    let Some((name, value)) = part.split_first_chunk::<2>() else { return false };
    name.eq_ignore_ascii_case(b"q=") && !value.is_empty() && value.iter().all(|b| matches!(b, b'0' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_welcome_where_it_is_named_and_not_forbidden() {
        for (value, welcome) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("deflate, gzip;q=1.0, *;q=0", true),
            ("*", true),
            ("x-gzip", true),
            ("", false),
            ("identity", false),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*;q=0", false),
            ("gzipped", false),
            (";q=0,,;", false),
        ] {
            assert_eq!(accepts_gzip(value.as_bytes()), welcome, "{value}");
        }
    }
}
