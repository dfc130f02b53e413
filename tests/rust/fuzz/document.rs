//! JSON with some of its words exchanged: what is left is nearly right, which random bytes never are.

use crate::generator::Choices;

/// Bytes of choices that an exchange takes; for those who keep them apart.
#[allow(dead_code)]
pub const BYTES: usize = 5;

/// What a word may become, besides another word of the document.
const STRANGE: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "255",
    "1000",
    "4194304",
    "4194305",
    "2147483647",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "1e300",
    "-0.0",
    "1e-320",
    "0.5",
    "true",
    "false",
    "null",
    "\"x\"",
    "\"\"",
    "[]",
    "{}",
    "\"f16\"",
    "\"i32\"",
    "\"bool\"",
];

/// The document with up to so many words (texts, numbers, truths) exchanged for others.
pub fn edit(json: &str, choices: &mut Choices, most: usize) -> String {
    let mut parts = split(json);
    let words: Vec<usize> = (0..parts.len()).filter(|&at| is_word(parts[at])).collect();
    for _ in 0..most {
        let at = words[large(choices) % words.len()];
        parts[at] = match choices.below(4) {
            0 => continue,
            1 => choices.pick(STRANGE),
            _ => parts[words[large(choices) % words.len()]],
        };
    }
    parts.concat()
}

fn large(choices: &mut Choices) -> usize {
    choices.below(256) * 256 + choices.below(256)
}

fn is_word(part: &str) -> bool {
    part.starts_with(|letter: char| letter == '"' || letter == '-' || letter.is_ascii_alphanumeric())
}

/// Texts, other words, and each other letter alone.
fn split(json: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), json);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => text(rest),
            _ if is_word(rest) => rest.find([',', ':', ']', '}', ' ']).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (part, others) = rest.split_at(length);
        parts.push(part);
        rest = others;
    }
    parts
}

/// The length of the text at the beginning, quotes included.
fn text(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        if letter == '"' && !escaped {
            return at + 1;
        }
        escaped = letter == '\\' && !escaped;
    }
    rest.len()
}
