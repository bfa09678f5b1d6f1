//! The query string (`a=b&c=d`), decoded once and bounded.

/// Decoded pairs in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// The query is not well formed: a bad percent escape, bytes that are no UTF-8, or too many pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadQuery;

/// Most pairs; no route takes more than a handful.
const PAIRS_MAX: usize = 32;

impl Query {
    /// Splits at `&` and the first `=`; `+` is a space, `%XX` is decoded once. Empty pieces are skipped.
    pub fn parse(text: &str) -> Result<Self, BadQuery> {
        let mut pairs = Vec::new();
        for piece in text.split('&').filter(|piece| !piece.is_empty()) {
            if pairs.len() == PAIRS_MAX {
                return Err(BadQuery);
            }
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn decode(text: &str) -> Result<String, BadQuery> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => super::hex_pair(&mut bytes).ok_or(BadQuery)?,
            byte => byte,
        });
    }
    String::from_utf8(out).map_err(|_| BadQuery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once() {
        for (text, name, value) in [
            ("a=1&b=2", "b", Some("2")),
            ("a=1&a=2", "a", Some("1")),
            ("a+b=c+d", "a b", Some("c d")),
            ("a=%2541", "a", Some("%41")),
            ("a", "a", Some("")),
            ("a=b=c", "a", Some("b=c")),
            ("&&", "a", None),
            ("%61=%C3%A4", "a", Some("ä")),
        ] {
            assert_eq!(Query::parse(text).unwrap().get(name), value, "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bad in ["a=%", "a=%4", "a=%zz", "%ff=1", "a=%c0%af", "a=%ed%a0%80"] {
            assert_eq!(Query::parse(bad), Err(BadQuery), "{bad}");
        }
        assert_eq!(Query::parse(&"a=1&".repeat(PAIRS_MAX + 1)), Err(BadQuery));
    }
}
