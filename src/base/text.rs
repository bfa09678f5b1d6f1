//! Cutting texts to a length in bytes without cutting a character.

/// The beginning of a text: at most `max` bytes, whole characters.
pub(crate) fn beginning(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A text for people: at most `max` characters, with a sign where it was cut.
pub(crate) fn shown(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The length to which each of these is cut, so that they fit together into `room`: short ones stay whole, and what they leave is
/// shared by the longer ones.
pub(crate) fn fair_length(lengths: impl IntoIterator<Item = usize>, room: usize) -> usize {
    let mut lengths: Vec<usize> = lengths.into_iter().collect();
    lengths.sort_unstable();
    let (mut left, mut count) = (room, lengths.len());
    for length in lengths {
        if length.saturating_mul(count) > left {
            return left / count;
        }
        left -= length;
        count -= 1;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut() {
        for (text, max, cut) in [("", 3, ""), ("abc", 3, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("喝茶", 5, "喝"), ("é", 0, "")] {
            assert_eq!(beginning(text, max), cut);
        }
    }

    #[test]
    fn what_is_cut_for_people_says_so() {
        for (text, max, cut) in [("", 3, ""), ("喝茶喝", 3, "喝茶喝"), ("喝茶喝茶", 3, "喝茶…"), ("ab", 1, "…")] {
            assert_eq!(shown(text, max), cut);
        }
    }

    #[test]
    fn room_is_shared_and_none_is_given_away() {
        for (lengths, room, fair) in [
            (&[][..], 10, usize::MAX),
            (&[3, 4], 10, usize::MAX),
            (&[30], 10, 10),
            (&[2, 30], 10, 8),
            (&[30, 2, 30, 30], 11, 3),
            (&[1, 1, 1], 0, 0),
        ] {
            assert_eq!(fair_length(lengths.iter().copied(), room), fair, "{lengths:?}");
            let sum: usize = lengths.iter().map(|length| fair.min(*length)).sum();
            assert!(sum <= room);
        }
    }
}
