//! From text to terms: letters and digits in lower case, stop words left out, English stems, a hash of each.
//!
//! Part of the public API: a query finds a document only if both become the same terms.

use std::collections::BTreeSet;

use rust_stemmers::{Algorithm, Stemmer};

/// Words that say nothing about what a text is about. Source: the public API.
const STOP_WORDS: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
];

/// The terms of a query, each once, in the order of the text.
pub fn query_terms(text: &str) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let mut terms = Vec::new();
    each(text, |term| {
        if seen.insert(term) {
            terms.push(term);
        }
    });
    terms
}

/// Hands on each term of the text, as often as it is there.
pub(super) fn each(text: &str, mut take: impl FnMut(u32)) {
    let stemmer = Stemmer::create(Algorithm::English);
    for word in text.split(|letter: char| !letter.is_alphanumeric()) {
        let word: String = word.chars().flat_map(char::to_lowercase).collect();
        if word.is_empty() || is_stop_word(&word) {
            continue;
        }
        let stem = stemmer.stem(&word);
        if !stem.is_empty() && !is_stop_word(&stem) {
            take(term(&stem));
        }
    }
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// 32-bit FNV-1a of the stem's UTF-8 bytes.
fn term(stem: &str) -> u32 {
    stem.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<u32> {
        let mut all = Vec::new();
        each(text, |term| all.push(term));
        all
    }

    #[test]
    fn terms_are_stems_in_lower_case_without_stop_words() {
        assert!(STOP_WORDS.is_sorted(), "they are searched by halves");
        assert_eq!(terms(""), Vec::<u32>::new());
        assert_eq!(terms("The, of-AND (to)!"), Vec::<u32>::new());
        assert_eq!(terms("Connected, CONNECTING connections"), vec![term("connect"); 3]);
        assert_eq!(terms("Über-hunting 42x"), ["über", "hunt", "42x"].map(term));
        assert_eq!(query_terms("dog cats DOG cat"), [term("dog"), term("cat")]);
    }

    #[test]
    fn a_term_is_the_published_fnv_1a_hash() {
        assert_eq!(term(""), 0x811c_9dc5);
        assert_eq!(term("a"), 0xe40c_292c);
        assert_eq!(term("foobar"), 0xbf9c_f968);
    }
}
