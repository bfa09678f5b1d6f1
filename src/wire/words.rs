//! A text as the words that a search compares.
//!
//! Words are runs of letters and digits of any script, in lower case. Scripts that write without spaces (Han, kana, Hangul,
//! Thai, Lao, Khmer, Burmese) give each character and each pair of neighbours, so that a search for two characters finds
//! them together before it finds them apart. Marks that join (combining accents, viramas, joiners) stay inside their word.

/// A longer run of letters is no word of any language; only its beginning counts. In characters.
const WORD_CHARS_MAX: usize = 40;

/// Calls `each` with every word of the text, in order. Work is linear in the text.
pub fn each(text: &str, mut each: impl FnMut(&str)) {
    let mut word = String::new();
    let mut length = 0;
    let mut before: Option<char> = None;
    let mut pair = String::new();
    for c in text.chars() {
        if unspaced(c) {
            flush(&mut word, &mut length, &mut each);
            pair.clear();
            pair.push(c);
            each(&pair);
            if let Some(first) = before {
                pair.clear();
                pair.extend([first, c]);
                each(&pair);
            }
            before = Some(c);
            continue;
        }
        before = None;
        if c.is_alphanumeric() || (joins(c) && length > 0) {
            if length < WORD_CHARS_MAX {
                // Σ has one small letter within a word and another at its end; in lower case it is always the first.
                word.extend(c.to_lowercase().map(|c| if c == 'ς' { 'σ' } else { c }));
            }
            length += 1;
        } else {
            flush(&mut word, &mut length, &mut each);
        }
    }
    flush(&mut word, &mut length, &mut each);
}

/// The words of a query: each once, at most `max`, without the words that say nothing in a question.
pub fn query(text: &str, max: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut idle: Vec<String> = Vec::new();
    each(text, |word| {
        let into = if IDLE.contains(&word) { &mut idle } else { &mut all };
        if into.len() < max && !into.iter().any(|w| w == word) {
            into.push(word.to_owned());
        }
    });
    // "What is it?" has nothing else to go by.
    if all.is_empty() { idle } else { all }
}

/// About `chars` characters around the first of these words, on one line, with `…` where something is left out; the beginning of
/// the text where none is met as it is written here.
pub fn around(text: &str, words: &[String], chars: usize) -> String {
    // Keeps every offset (both sigmas have two bytes); the words are in lower case already.
    let lower = text.to_ascii_lowercase().replace('ς', "σ");
    let at = words.iter().filter_map(|word| lower.find(word.as_str())).min().unwrap_or(0);
    let (before, after) = text.split_at_checked(at).unwrap_or(("", text));
    let lead: Vec<char> = before.chars().rev().take(chars / 4).collect();
    let mut out = String::new();
    if lead.len() < before.chars().count() {
        out.push('…');
    }
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    out.extend(lead.iter().rev().copied().map(shown));
    let mut rest = after.chars();
    out.extend(rest.by_ref().take(chars - lead.len()).map(shown));
    if rest.next().is_some() {
        out.push('…');
    }
    out
}

/// English words that stand in nearly every question; other languages' are weighed down by their frequency alone.
const IDLE: &[&str] = &[
    "a", "about", "am", "an", "and", "are", "at", "be", "by", "can", "did", "do", "does", "for", "from", "has", "have", "how", "i", "in",
    "is", "it", "me", "my", "of", "on", "or", "our", "please", "s", "tell", "that", "the", "their", "there", "this", "to", "was", "we",
    "were", "what", "when", "where", "which", "who", "why", "with", "you", "your",
];

fn flush(word: &mut String, length: &mut usize, each: &mut impl FnMut(&str)) {
    if !word.is_empty() {
        each(word);
    }
    word.clear();
    *length = 0;
}

fn unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E01..=0x0EFF            // Thai, Lao
        | 0x1000..=0x109F          // Burmese
        | 0x1780..=0x17DD          // Khmer
        | 0x3005..=0x3007 | 0x3041..=0x309F | 0x30A1..=0x30FA | 0x30FC..=0x30FF | 0x31F0..=0x31FF // kana
        | 0x1100..=0x11FF | 0x3130..=0x318F | 0xAC00..=0xD7AF                                     // Hangul
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFD)
        && c != '\u{0E3F}' // the baht sign
}

fn joins(c: char) -> bool {
    matches!(u32::from(c),
        0x0300..=0x036F | 0x0483..=0x0487 | 0x0591..=0x05BD | 0x064B..=0x065F | 0x200C..=0x200D
        | 0x093C | 0x094D | 0x09BC | 0x09CD | 0x0A4D | 0x0ACD | 0x0B4D | 0x0BCD | 0x0C4D | 0x0CCD | 0x0D4D | 0x0DCA)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        each(text, |w| words.push(w.to_owned()));
        words
    }

    #[test]
    fn words_of_many_scripts() {
        for (text, words) in [
            ("", &[] as &[&str]),
            ("Hello, World-2!", &["hello", "world", "2"]),
            ("Straße ÉCOLE don't", &["straße", "école", "don", "t"]),
            ("Привет, мир", &["привет", "мир"]),
            ("ΛΟΓΟΣ λογος σοφός", &["λογοσ", "λογοσ", "σοφόσ"]),
            ("हिन्दी में", &["हिन्दी", "में"]),
            ("東京都", &["東", "京", "東京", "都", "京都"]),
            ("GPT東京v2", &["gpt", "東", "京", "東京", "v2"]),
            ("한국 어", &["한", "국", "한국", "어"]),
        ] {
            assert_eq!(all(text), words, "{text}");
        }
    }

    #[test]
    fn a_query_keeps_what_says_something() {
        assert_eq!(query("What is the port of the router? The router!", 8), ["port", "router"]);
        assert_eq!(query("what is it", 8), ["what", "is", "it"]);
        assert_eq!(query("a1 b2 c3", 2), ["a1", "b2"]);
    }

    #[test]
    fn a_snippet_shows_the_first_word_that_was_asked_for() {
        let text = format!("{} The Needle\nis here {}", "hay ".repeat(100), "straw ".repeat(100));
        let shown = around(&text, &["needle".to_owned()], 40);
        assert!(shown.starts_with('…') && shown.ends_with('…') && shown.contains("The Needle is here"), "{shown}");
        assert!(shown.chars().count() <= 42, "{shown}");
        assert_eq!(around("東京都", &["京".to_owned()], 40), "東京都");
        assert_eq!(around("ÉCOLE", &["école".to_owned()], 40), "ÉCOLE");
        let greek = format!("{}Ο φάρος της πόλης", "άλφα ".repeat(40));
        assert!(around(&greek, &query("φάρος", 8), 40).contains("φάρος της"), "{}", around(&greek, &query("φάρος", 8), 40));
        assert_eq!(around("", &[], 40), "");
    }

    #[test]
    fn endless_words_are_cut() {
        let long = "x".repeat(100_000);
        assert_eq!(all(&long), ["x".repeat(WORD_CHARS_MAX)]);
    }
}
